"""One request's way through the cascade: what each stage passes on, and what takes its place where one is missing."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import numpy as np

from serving.cascade import COARSE, FINE, RETRIEVE, best_first, best_items
from serving.gateway.config import StageDeadlines
from serving.gateway.refusal import UNAVAILABLE, GatewayError
from serving.gateway.releases.release_view import ReleaseView
from serving.gateway.schema import Flag
from serving.gateway.stages.model_client import CallError
from serving.gateway.stages.stage_calls import Scored, StageCalls, until

LOOKUP, EXPLAINED = "lookup", "explain"

#: Flags of a list that the whole cascade did not make: its order is no policy's.
_DEGRADED = frozenset(
    {Flag.RETRIEVAL_FAILED, Flag.POPULAR_ITEMS, Flag.COARSE_FAILED, Flag.FINE_FAILED, Flag.NAN_SCORES}
)


@dataclass
class Notes:
    """What is written down on the way.

    Attributes:
      deadline: when the answer must be made, in `time.monotonic`'s seconds.
      failed: told of each stage without an answer, with the code why.
      flags: of the answer.
      stage_ms: milliseconds by stage.
      shown: whether the list goes to its user; what is only looked at is not logged.
    """

    deadline: float
    failed: Callable[[str, str], None]
    flags: set[Flag] = field(default_factory=set)
    stage_ms: dict[str, float] = field(default_factory=dict)
    shown: bool = True

    @property
    def degraded(self) -> bool:
        """Whether a stage of the cascade is missing."""
        return not self.flags.isdisjoint(_DEGRADED)

    async def stage(
        self, name: str, milliseconds: float, flag: Flag, call: Callable[[float], Awaitable[Scored]]
    ) -> Scored | None:
        """Runs a stage within its time and the request's; None, with its flag, where it brings no answer."""
        begun = time.monotonic()
        ends = until(self.deadline, milliseconds)
        try:
            found = await call(ends)
        except CallError as error:
            self.failed(name, error.code)
            self.flags.add(flag)
            if error.late and ends == self.deadline:
                self.flags.add(Flag.DEADLINE)
            self.stage_ms[name] = 1000 * (time.monotonic() - begun)
            return None
        self.stage_ms[name] = 1000 * found.seconds
        if np.isnan(found.scores).any():
            self.flags.add(Flag.NAN_SCORES)
        return found


@dataclass(frozen=True)
class Passed:
    """What is ranked in the end.

    Attributes:
      items: [n] rows of the catalogue (of a caller's own candidates their places), in the order that holds without the
        fine ranker.
      scored: by stage, what it scored and how; stages that brought no answer are missing.
      fine: what the fine ranker said of the items; None: nothing.
    """

    items: np.ndarray
    scored: dict[str, tuple[np.ndarray, np.ndarray]]
    fine: Scored | None

    @property
    def order(self) -> np.ndarray:
        """Places of the items [n], best first."""
        return np.arange(len(self.items)) if self.fine is None else best_first(self.fine.scores, self.items)


async def walk(view: ReleaseView, calls: StageCalls, notes: Notes, deadlines: StageDeadlines, k: int) -> Passed:
    """Retrieves, narrows and ranks.

    Args:
      view: the release.
      calls: of its stages for this request, with what is needed of the fine ranker prepared.
      notes: of the request.
      deadlines: of the stages.
      k: how many items are wanted. Every stage leaves that many at least, if there are so many.

    Raises:
      GatewayError: 503 if there is neither a retrieval nor a popular item.
    """
    items, scored = await _candidates(view, calls, notes, deadlines, max(view.cascade.retrieve, k))
    passed = max(view.cascade.coarse, k)
    if view.coarse is not None and len(items):
        found = await notes.stage(
            COARSE, deadlines.coarse_ms, Flag.COARSE_FAILED, lambda ends: calls.coarse(items, ends)
        )
        if found is None:
            items = items[:passed]
        else:
            scored[COARSE] = items, found.scores
            items = best_items(found.scores, items, passed)
    if not len(items):
        return Passed(items, scored, None)
    fine = await notes.stage(
        FINE,
        deadlines.fine_ms,
        Flag.FINE_FAILED,
        lambda ends: calls.fine(lambda: view.catalogue.tensors(items), items, ends),
    )
    return Passed(items, scored if fine is None else scored | {FINE: (items, fine.scores)}, fine)


async def _candidates(
    view: ReleaseView, calls: StageCalls, notes: Notes, deadlines: StageDeadlines, count: int
) -> tuple[np.ndarray, dict[str, tuple[np.ndarray, np.ndarray]]]:
    """What the retrieval finds; the popular items where it finds nothing."""
    if view.retrieval is None or view.catalogue is None:
        raise GatewayError(
            UNAVAILABLE, f"{view.id} is no cascade: it lists nothing by itself. Send the candidates to `/v1/rank`."
        )
    found = await notes.stage(
        RETRIEVE, deadlines.retrieve_ms, Flag.RETRIEVAL_FAILED, lambda ends: calls.retrieve(count, ends)
    )
    if found is not None and len(found.items):
        return found.items, {RETRIEVE: (found.items, found.scores)}
    if found is not None:
        notes.flags.add(Flag.NOTHING_RETRIEVED)
    elif not len(view.popular):
        raise GatewayError(
            UNAVAILABLE, f"The retrieval of {view.id} does not answer, and the release names no popular items."
        )
    if len(view.popular):
        notes.flags.add(Flag.POPULAR_ITEMS)
    return view.popular[:count], {}

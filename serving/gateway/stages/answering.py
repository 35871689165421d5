"""Makes the answer to one request of one release: who asks, the stages, the list."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from serving.cascade import FINE
from serving.experiments.assignment import Assignment
from serving.gateway.config import GatewayConfig
from serving.gateway.gateway_metrics import GatewayMetrics
from serving.gateway.releases.release_view import ReleaseView
from serving.gateway.schema import Flag, RankRequest, Recommendation, RecommendRequest
from serving.gateway.stages.answers import Listed, answer_of
from serving.gateway.stages.journey import EXPLAINED, LOOKUP, Notes, Passed, walk
from serving.gateway.stages.lookups import Looked, look_up, request_of
from serving.gateway.stages.model_client import CallError, ModelClient
from serving.gateway.stages.stage_calls import StageCalls
from serving.gateway.stages.workers import OBJECT, SHORT, Workers
from serving.gateway.traffic import DEGRADED, GREEDY, Drawn, Traffic, draw, exposure_of
from serving.requests.json_request import RequestError, row_from_request
from serving.requests.tensors import candidate_slates
from serving.saved.attention import FieldAttention, strongest_pairs
from serving.saved.signature_specs import DRAW_LOGITS, NUM_CANDIDATES


@dataclass(frozen=True)
class _Asked:
    """A request on its way.

    Attributes:
      view: the release that answers it.
      request: as it was sent.
      assignment: of the experiments.
      timestamp: of the request, UTC milliseconds.
      calls: of the stages.
      long_sums: the user's bucket sums, being read.
      notes: what is written down.
    """

    view: ReleaseView
    request: RecommendRequest
    assignment: Assignment
    timestamp: int
    calls: StageCalls
    long_sums: asyncio.Future[np.ndarray | None]
    notes: Notes


class Answering:
    """Answers requests of open releases. All methods belong to one event loop.

    Args:
      config: deadlines.
      client: of the server.
      workers: do what takes long.
      readers: threads that read stores.
      metrics: where answers are counted.
      traffic: experiments, and the log of what was shown.
    """

    def __init__(
        self,
        config: GatewayConfig,
        client: ModelClient,
        workers: Workers,
        readers: Executor,
        metrics: GatewayMetrics,
        traffic: Traffic,
    ):
        self._deadlines, self._client, self._metrics, self._traffic = config.deadlines, client, metrics, traffic
        self._workers, self._readers = workers, readers

    async def recommend(
        self, view: ReleaseView, request: RecommendRequest, assignment: Assignment, notes: Notes
    ) -> Recommendation:
        """Returns the best items of the release's catalogue; `Gateway.recommend`."""
        begun = time.perf_counter()
        asked, _ = await self._ask(view, request, assignment, notes)
        passed = await walk(view, asked.calls, notes, self._deadlines, request.k)
        drawn = await self._draw(asked, passed)
        rows = passed.items[drawn.places]
        ids = view.catalogue.item_ids.take(pa.array(rows)).to_pylist()
        attention = await self._attention(asked, lambda: view.catalogue.tensors(rows), len(rows))
        return await self._told(asked, Listed(passed, drawn, ids, attention), begun)

    async def rank(
        self, view: ReleaseView, request: RankRequest, assignment: Assignment, notes: Notes
    ) -> Recommendation:
        """Returns the caller's candidates, best first; `Gateway.rank`."""
        begun = time.perf_counter()
        asked, row = await self._ask(view, request, assignment, notes, request.candidates)
        items = np.arange(len(request.candidates))
        passed, slate = Passed(items, {}, None), {}
        if len(items):
            names = view.fine.signatures[view.fine.signature]
            slate = await self._workers.run(OBJECT * len(items), candidate_slates, view.spec, row, names)
            fine = await notes.stage(
                FINE,
                self._deadlines.fine_ms,
                Flag.FINE_FAILED,
                lambda ends: asked.calls.fine(lambda: slate, items, ends),
            )
            passed = Passed(items, {} if fine is None else {FINE: (items, fine.scores)}, fine)
        drawn = await self._draw(asked, passed)
        ids = [request.candidates[place].get("item_id") for place in drawn.places]
        attention = await self._attention(asked, lambda: _part_of(slate, drawn.places), len(ids))
        return await self._told(asked, Listed(passed, drawn, ids, attention, drawn.places), begun)

    async def _ask(
        self,
        view: ReleaseView,
        request: RecommendRequest,
        assignment: Assignment,
        notes: Notes,
        candidates: list[dict[str, Any]] | None = None,
    ) -> tuple[_Asked, pa.Table]:
        """Reads what is known of the user, and begins with what every stage needs."""
        timestamp = int(time.time() * 1000) if request.timestamp is None else request.timestamp
        # The table is needed by the fine ranker alone: it is read while the retrieval runs, which needs the profile.
        table = asyncio.ensure_future(self._look_up(request, view.tables))
        profile = await self._look_up(request, view.profiles)
        if profile.failed:
            notes.flags.add(Flag.NO_PROFILE)
        size = OBJECT * (len(request.history or ()) + len(candidates or ()))
        row, used = await self._workers.run(size, _row, view, request, timestamp, profile.found, candidates)
        if not used and profile.found is not None:
            notes.flags.add(Flag.NO_PROFILE)
        assignment, draws = self._drawable(view, assignment, notes)
        calls = StageCalls(view, self._client, self._workers, row, size, draws=draws)
        long_sums = asyncio.ensure_future(_sums(view, request, table, profile, notes))
        calls.prepare(long_sums)
        return _Asked(view, request, assignment, timestamp, calls, long_sums, notes), row

    def _drawable(self, view: ReleaseView, assignment: Assignment, notes: Notes) -> tuple[Assignment, bool]:
        """The assignment, without what the release cannot do; and whether the fine ranker is asked for draws."""
        if assignment.exploration is None or not self._traffic.explorer_of(assignment.exploration).needs_draws:
            return assignment, False
        if DRAW_LOGITS in view.fine.signatures:
            return assignment, True
        notes.flags.add(Flag.VARIANT_UNAVAILABLE)
        return Assignment({}, None, None, assignment.forced), False

    async def _draw(self, asked: _Asked, passed: Passed) -> Drawn:
        """The order of the list: that of the scores, or what a variant's policy draws of them."""
        k, exploration, fine = asked.request.k, asked.assignment.exploration, passed.fine
        if fine is None or exploration is None:
            places = passed.order[:k]
            sure = None if asked.notes.degraded else np.ones(len(places))
            return Drawn(places, DEGRADED if asked.notes.degraded else GREEDY, sure, sure)
        policy = self._traffic.explorer_of(exploration)
        chance = self._traffic.generator()
        # Exact propensities take milliseconds.
        return await self._workers.run(SHORT + 1, draw, passed.items, fine.scores, k, policy, chance, fine.deviations)

    async def _look_up(self, request: RecommendRequest, store) -> Looked:
        """What a store holds of the user; nothing where there is no store, or no user."""
        if store is None or request.user is None:
            return Looked()
        return await look_up(self._readers, store.get, request.user, self._deadlines.lookup_ms / 1000)

    async def _attention(
        self, asked: _Asked, slate: Callable[[], dict[str, np.ndarray]], count: int
    ) -> list[tuple[FieldAttention, ...]] | None:
        """The strongest pairs of each listed item; None where nobody asked, or nobody can say."""
        if not asked.request.explain or not count:
            return None
        fields, begun = asked.view.attention_fields, time.monotonic()
        try:
            if fields is None:
                raise CallError("NOT_EXPORTED", f"{asked.view.fine.released.path} has no signature `explain`.")
            ends = begun + self._deadlines.explain_ms / 1000
            maps = await asked.calls.attention(slate, count, ends)
        except CallError as error:
            self._metrics.stage_failed(EXPLAINED, error.code)
            asked.notes.flags.add(Flag.EXPLANATION_FAILED)
            return None
        asked.notes.stage_ms[EXPLAINED] = 1000 * (time.monotonic() - begun)
        return await self._workers.run(maps.size, lambda: [strongest_pairs(each, fields) for each in maps])

    async def _told(self, asked: _Asked, listed: Listed, begun: float) -> Recommendation:
        """The answer, counted."""
        notes = asked.notes
        await asked.long_sums  # What the stores know is said also where the fine ranker was not asked.
        if len(listed.ids) < asked.request.k:
            notes.flags.add(Flag.FEWER_THAN_K)
        variants = asked.assignment.variants
        answer = answer_of(asked.view, asked.request, variants, listed, notes, 1000 * (time.perf_counter() - begun))
        self._metrics.answer(answer.release, variants, [flag.value for flag in answer.flags], answer.stage_ms)
        # A request that names its release looks at it: it is no traffic.
        traffic = notes.shown and asked.request.release is None
        if traffic and not self._traffic.log(
            asked.view.spec,
            exposure_of(
                asked.request,
                asked.assignment,
                listed.drawn,
                listed.ids,
                request_id=answer.request_id,
                release=answer.release,
                timestamp=asked.timestamp,
                context=asked.request.context,
            ),
        ):
            self._metrics.exposure_lost()
        return answer


def _row(
    view: ReleaseView, request: RecommendRequest, timestamp: int, profile, candidates: list[dict[str, Any]] | None
) -> tuple[pa.Table, bool]:
    """The raw row of a request, and whether the profile is in it: one that does not fit the release is left out."""
    more = {} if candidates is None else {"candidates": view.with_catalogue_features(candidates)}

    def row(of: Any) -> pa.Table:
        asked = request_of(request, timestamp, of, view.spec) | more
        return row_from_request(view.spec, asked, candidates=candidates is not None)

    try:
        return row(profile), True
    except RequestError:
        if profile is None:
            raise
        # What a caller sent wrongly is wrong without the profile too.
        return row(None), False


async def _sums(
    view: ReleaseView, request: RecommendRequest, table: Awaitable[Looked], profile: Looked, notes: Notes
) -> np.ndarray | None:
    """The user's bucket sums [G, 2^tau, d]; None: nobody has any. Flags what the stores do not say."""
    begun = time.monotonic()
    looked = await table
    notes.stage_ms[LOOKUP] = 1000 * (time.monotonic() - begun)
    if looked.failed or view.tables is None and view.fine.inputs.takes_table:
        notes.flags.add(Flag.NO_TABLE)
    stores = [each for store, each in ((view.tables, looked), (view.profiles, profile)) if store is not None]
    if request.user is None or stores and all(each.found is None and not each.failed for each in stores):
        notes.flags.add(Flag.UNKNOWN_USER)
    return None if looked.found is None else looked.found.sums


def _part_of(slate: dict[str, np.ndarray], places: np.ndarray) -> dict[str, np.ndarray]:
    """The candidates in these places of a slate [1, N], as a slate."""
    part = {name: values[:, places] for name, values in slate.items() if name != NUM_CANDIDATES}
    return part | {NUM_CANDIDATES: np.array([len(places)], np.int32)}

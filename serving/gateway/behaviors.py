"""Takes behaviours in as they happen: into the user's profile, and into the bucket table of the fine ranker.

An event is written to the log beside the profile store first (`serving/user_stores/append_log.py`); the stores of a
release take the log in from where they stand. That is also how a store that was built anew, or one of another release,
gets what was appended since its build. docs/reference/serving/profiles.md says what becomes of an event.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import pyarrow as pa

from features.errors import ClickmillError
from features.histories.time_gaps import NUM_GAP_BUCKETS, gap_buckets
from features.histories.windows import ITEM, TIMESTAMP
from features.spec import FeatureSpec
from serving.gateway.schema import BehaviorEvent, BehaviorsAnswer
from serving.requests.json_request import behavior_columns
from serving.requests.tensors import value_tensors
from serving.saved.signature_specs import ENCODE_BEHAVIORS, GAP_WEIGHTS, HistoryInputs, arrow_type
from serving.user_stores.append_log import AppendLog, LoggedEvent, Mark
from serving.user_stores.behavior_window import Outcome
from serving.user_stores.bse.appending import AppendPlan, Change
from serving.user_stores.bse.store import BseStore
from serving.user_stores.environment import StoreError
from serving.user_stores.profiles.store import ProfileStore
from serving.user_stores.user_store import ReplacedError, UserStore

if TYPE_CHECKING:
    from serving.release.manifest import Release, ReleasedModel

#: Events that a store takes in by one transaction, and one call of the ranker embeds.
_BATCH = 256
#: Seconds for a call of the ranker, and between two looks for builds that lag behind the log.
_CALL_SECONDS = 2.0
_LOOK_SECONDS = 1.0
_USER, _FEATURES = "user", "features"


class Client(Protocol):
    """What asks the server: `serving.gateway.stages.model_client.ModelClient`."""

    async def predict(
        self,
        model: ReleasedModel,
        signature: str,
        tensors: Mapping[str, np.ndarray],
        outputs: Collection[str],
        until: float,
    ) -> dict[str, np.ndarray]: ...


class FineRanker(Protocol):
    """The fine ranker of a release: its version, and its signatures by name."""

    @property
    def released(self) -> ReleasedModel: ...
    @property
    def signatures(self) -> Mapping[str, Collection[str]]: ...


class View(Protocol):
    """What is read of an open release: `serving.gateway.releases.release_view.ReleaseView`."""

    @property
    def release(self) -> Release: ...
    @property
    def fine(self) -> FineRanker: ...
    @property
    def spec(self) -> FeatureSpec: ...
    @property
    def history(self) -> HistoryInputs | None: ...
    @property
    def profiles(self) -> ProfileStore | None: ...
    @property
    def tables(self) -> BseStore | None: ...
    def with_catalogue_features(self, candidates: Sequence[dict[str, Any]]) -> list[dict[str, Any]]: ...


class _Writable:
    """A store opened for writing, and opened again when it was built again.

    Attributes:
      read_by: the open store that requests read from; it is another one, as it follows what is built.
      opened: the one that is written.
    """

    def __init__(self, read_by: UserStore):
        self.read_by = read_by
        self.opened = self._open()

    def follow(self) -> bool:
        """Opens the next build if there is one; returns whether there was."""
        if not self.opened.was_replaced():
            return False
        before, self.opened = self.opened, self._open()
        before.close()
        return True

    def close(self) -> None:
        self.opened.close()

    def _open(self) -> UserStore:
        return type(self.read_by)(self.read_by.root, self.read_by.version)


class BehaviorWriter:
    """Appends behaviours for one open release. All methods belong to one event loop.

    Example:
      writer = await BehaviorWriter.open(view, client)
      answer = await writer.append([BehaviorEvent(user="u7", timestamp=1700000000000, item_id="i3")])

    Any number of writers, of other releases and in other processes, may work on the same stores.
    """

    def __init__(self, view: View, client: Client):
        """Opens the stores of a release for writing.

        Args:
          view: the release; its stores are read by others and stay theirs.
          client: asks the fine ranker to embed behaviours.

        Raises:
          StoreError: if the release has no profiles, or they cannot be written here.
        """
        if view.profiles is None or view.spec.history is None:
            raise StoreError(f"{view.release.id} has no profiles that behaviours could be appended to.")
        self._view, self._client = view, client
        self._lock = asyncio.Lock()
        self._waiting: dict[int, bool | None] = {}
        self._weights: np.ndarray | None = None
        self._log = AppendLog(view.profiles.root)
        self._profiles = _Writable(view.profiles)
        self._tables: _Writable | None = None
        if view.tables is not None and view.tables.is_appendable:
            self._tables = _Writable(view.tables)
        elif view.tables is not None:
            logging.getLogger(__name__).warning(
                "%s was built before tables knew their windows: behaviours go to profiles alone. Build it again.",
                view.tables.root / view.tables.version,
            )

    @classmethod
    async def open(cls, view: View, client: Client) -> BehaviorWriter:
        """Opens the stores of a release for writing, and lets them take in what they lack.

        Raises:
          StoreError: as of the class.
        """
        writer = await asyncio.to_thread(cls, view, client)
        await writer.catch_up()
        return writer

    def close(self) -> None:
        """Closes what it opened, once no append is under way."""
        self._log.close()
        self._profiles.close()
        if self._tables is not None:
            self._tables.close()

    async def append(self, events: Sequence[BehaviorEvent]) -> BehaviorsAnswer:
        """Takes events in; the next request of their users sees them.

        Where the fine ranker does not answer, tables take the events in with the next append or look that finds it.

        Args:
          events: of any users, in any order; one that came before changes nothing.

        Raises:
          RequestError: if an event does not hold what the release's histories hold; none is taken in.
          StoreError: if the stores cannot be written.
        """
        self._check(events)
        values = [event.model_dump() for event in events]
        numbers = await asyncio.to_thread(self._log.append, values)
        self._waiting |= dict.fromkeys(numbers)
        try:
            await self.catch_up()
        finally:
            added = [self._waiting.pop(number) for number in numbers]
        # Of what another process has taken in, only that process knows whether it was new.
        new = [event for event, is_new in zip(events, added, strict=True) if is_new is not False]
        users = len({(type(event.user), event.user) for event in new})
        return BehaviorsAnswer(appended=len(new), users=users, release=self._view.release.id)

    async def catch_up(self) -> None:
        """Lets the stores take in the log up to its end.

        Raises:
          StoreError: if they cannot be written.
        """
        async with self._lock:
            await self._take_in(self._profiles, self._into_profiles)
            if self._tables is None:
                return
            try:
                await self._take_in(self._tables, self._into_tables)
            except StoreError:
                raise
            except (ClickmillError, OSError) as error:
                logging.getLogger(__name__).warning("Bucket tables of %s lag behind: %s", self._view.release.id, error)

    async def follow_for_ever(self) -> None:
        """Lets builds that appear take in what they lack, now and then, until it is cancelled."""
        while True:
            try:
                await self.catch_up()
            except (ClickmillError, OSError) as error:
                logging.getLogger(__name__).warning("Stores of %s lag behind: %s", self._view.release.id, error)
            await asyncio.sleep(_LOOK_SECONDS)

    def _check(self, events: Iterable[BehaviorEvent]) -> None:
        rows = [{TIMESTAMP: event.timestamp, ITEM: event.item_id, **event.features} for event in events]
        behavior_columns(self._view.spec, rows)

    async def _take_in(self, store: _Writable, into: Callable[..., Awaitable[list[Outcome] | None]]) -> None:
        """Lets a store take in the log by batches; another process may do some of them."""
        replaced = False
        while True:
            replaced |= await asyncio.to_thread(store.follow)
            mark = await asyncio.to_thread(store.opened.mark, self._log.log_id)
            events = await asyncio.to_thread(self._log.read, mark.number, _BATCH)
            if not events:
                break
            self._warn_of_a_gap(store.opened, mark.number, events[0].number)
            behaviors = list(zip((event.values[_USER] for event in events), self._rows(events), strict=True))
            try:
                outcomes = await into(store.opened, mark, events[-1].number, behaviors)
            except ReplacedError:
                continue
            for event, outcome in zip(events, outcomes or (), strict=False):
                if event.number in self._waiting:
                    is_new = outcome is Outcome.ADDED
                    self._waiting[event.number] = bool(self._waiting[event.number]) or is_new
        if replaced:
            # Who reads has kept to the build before until now.
            await asyncio.to_thread(store.read_by.look)

    def _warn_of_a_gap(self, store: UserStore, taken: int, first: int) -> None:
        if taken and first > taken + 1:
            lost = first - taken - 1
            logging.getLogger(__name__).warning(
                "%s lacks %d behaviours that were dropped as too old before it took them in: build it again.",
                store.root / store.version,
                lost,
            )

    def _rows(self, events: Sequence[LoggedEvent]) -> list[dict[str, Any]]:
        """Behaviours as the stores hold them: what an event does not say of its item, the catalogue does."""
        said = [{ITEM: event.values[ITEM], **event.values[_FEATURES]} for event in events]
        found = self._view.with_catalogue_features(said)
        names = self._view.spec.history.features
        return [
            {TIMESTAMP: event.values[TIMESTAMP], ITEM: row[ITEM], **{name: row.get(name) for name in names}}
            for event, row in zip(events, found, strict=True)
        ]

    async def _into_profiles(self, profiles: ProfileStore, mark: Mark, number: int, behaviors: list):
        return await asyncio.to_thread(profiles.take_in, mark, number, behaviors)

    async def _into_tables(self, tables: BseStore, mark: Mark, number: int, behaviors: list):
        planned = await asyncio.to_thread(tables.plan, mark.log_id, number, behaviors)
        if planned.before != mark:
            return None
        changes = await self._encoded(planned, tables.header.get("as_of"))
        done = await asyncio.to_thread(tables.take_in, planned, changes)
        return planned.outcomes if done else None

    async def _encoded(self, planned: AppendPlan, as_of: int | None) -> list[Change]:
        """The moves of a plan with what tables add up, but for behaviours without a signature."""
        if not planned.moves:
            return []
        view, rows = self._view, [move.row for move in planned.moves]
        tensors: dict[str, np.ndarray] = {}
        for name in view.history.long_features:
            feature = view.spec[name]
            tensors |= value_tensors(feature, pa.array([row[name] for row in rows], arrow_type(feature)))
        outputs = ("embedding", "signature", "known")
        found = await self._call(ENCODE_BEHAVIORS, tensors, outputs)
        values = found["embedding"]
        weights = await self._gap_weights()
        if weights is not None and as_of is not None:
            times = np.array([row[TIMESTAMP] for row in rows], np.int64)
            values = values * weights[gap_buckets(as_of, times), np.newaxis]
        encoded = zip(planned.moves, values, found["signature"], found["known"], strict=True)
        return [Change(move.user, value, signed, move.expires) for move, value, signed, known in encoded if known]

    async def _gap_weights(self) -> np.ndarray | None:
        """What behaviours of an age count in the ranker's tables; None: all count alike."""
        if GAP_WEIGHTS not in self._view.fine.signatures:
            return None
        if self._weights is None:
            gaps = np.arange(NUM_GAP_BUCKETS, dtype=np.int32)
            self._weights = (await self._call(GAP_WEIGHTS, {"gap": gaps}, ("weight",)))["weight"]
        return self._weights

    async def _call(self, signature: str, tensors: Mapping[str, np.ndarray], outputs: Collection[str]) -> dict:
        until = time.monotonic() + _CALL_SECONDS
        return await self._client.predict(self._view.fine.released, signature, tensors, outputs, until)

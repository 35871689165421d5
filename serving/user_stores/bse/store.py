"""The BSE store: every user's bucket table for one ranker version, read once a request.

Behavior Sequence Encoding of SDIM (arXiv 2205.10249): the long history is hashed away from the request, and the ranker
gets a table of fixed size. A table holds sums of one ranker's embeddings, so a store belongs to one version of it and
refuses readers of another. serving/user_stores/builds.py says how a version is published.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from features.histories.bucket_table import BucketTable
from features.spec import HistorySpec
from serving.user_stores.append_log import Mark
from serving.user_stores.behavior_window import Row
from serving.user_stores.bse.appending import AppendPlan, Change, change_tables, plan
from serving.user_stores.bse.build import FORMAT
from serving.user_stores.bse.record import RecordLayout
from serving.user_stores.bse.table_state import StateLayout
from serving.user_stores.bse.verify import verify_records
from serving.user_stores.environment import StoreError
from serving.user_stores.record_pages import Verification, read_records
from serving.user_stores.user_keys import RecordError, user_key, user_of
from serving.user_stores.user_store import Opened, StoreKind, UserStore, record_of


class BseStore(UserStore):
    """The bucket tables of one ranker version, open (`UserStore`). Who follows does not append.

    Attributes:
      root: the store with all its versions.
      version: of the ranker.
    """

    kind = StoreKind(
        name="BSE store",
        records="tables of the ranker version",
        why="Tables are sums of one ranker's embeddings",
        command="clickmill bse build",
        format=FORMAT,
    )

    def get(self, user: str | int) -> BucketTable | None:
        """Returns a user's table, or None if the user has no long history.

        Raises:
          TypeError: if `user` is neither a string nor an integer; strings and integers are different users.
          StoreError: if the record is damaged.
        """
        key, _ = user_key(user)

        def read(opened: Opened) -> BucketTable | None:
            record = record_of(opened, key)
            return None if record is None else self._decode(opened, user, record)

        return self._read(read)

    def append(self, user: str | int, value: np.ndarray, signature: np.ndarray) -> None:
        """Adds a behaviour to a user's table and to disk; a user without one gets it. See `apply`."""
        self.apply([Change(user, value, signature)])

    def expire(self, user: str | int, value: np.ndarray, signature: np.ndarray) -> None:
        """Takes a behaviour out of a user's table; a table that becomes empty is removed. See `apply`."""
        self.apply([Change(user, value, signature, expires=True)])

    def apply(self, changes: Iterable[Change]) -> int:
        """Makes all changes in one transaction, in order; returns how many users they touched.

        The windows that the tables are made of stay as they are. Of a store that does not know them, in fp16 and int8
        each change rounds the table anew: rebuild such a store from time to time.

        Raises:
          ValueError: if a value or signature does not fit, or an expired behaviour is not there; nothing is changed.
          StoreError: if the store cannot be written, was replaced by a newer build, or follows one.
        """
        changes, opened = list(changes), self._to_write()
        environment, layout = opened.environment, opened.layout

        def work(transaction):
            return change_tables(transaction, environment, layout, self._states(opened), changes, {})

        return self._sound(environment.write, work)

    @property
    def is_appendable(self) -> bool:
        """Whether the store knows the windows that its tables are made of: `plan` and `take_in` then work."""
        return self._states(self._current()) is not None

    def plan(self, log_id: bytes, number: int, behaviors: Sequence[tuple[str | int, Row]]) -> AppendPlan:
        """Returns which behaviours enter tables, and which leave them, as more are added; nothing is changed.

        Args:
          log_id: of the log that they are from.
          number: of the last of them in the log.
          behaviors: (user, behaviour) in the log's order: `timestamp`, `item_id` and the other history features.

        Raises:
          StoreError: if the store was built without the windows of its tables, or is damaged.
        """
        opened = self._to_write()
        environment, layout = opened.environment, self._states(opened)
        if layout is None:
            raise StoreError(f"{self.root / self.version} knows no windows of its tables. Build it again.")

        def work(transaction):
            before = Mark.read(transaction, log_id)
            return plan(transaction, environment, layout, before, number, behaviors)

        return self._sound(environment.read, work)

    def take_in(self, planned: AppendPlan, changes: Iterable[Change]) -> bool:
        """Carries a plan out, in one transaction; returns whether: not if the store has taken in more meanwhile.

        Args:
          planned: of `plan`.
          changes: its moves, encoded, but for those of items without a signature.

        Raises:
          ValueError: if a value or signature does not fit; nothing is changed.
          StoreError: if the store cannot be written, or was replaced by a newer build.
        """
        changes, opened = list(changes), self._to_write()
        environment, layout = opened.environment, opened.layout

        def work(transaction):
            if Mark.read(transaction, planned.before.log_id) != planned.before:
                return False
            change_tables(transaction, environment, layout, self._states(opened), changes, planned.windows)
            planned.after.write(transaction)
            return True

        return self._sound(environment.write, work)

    def __iter__(self) -> Iterator[tuple[str | int, BucketTable]]:
        """Yields every user and table, integers before strings. Changes made meanwhile may or may not be seen."""
        with self._held() as opened:
            for key, record, text in read_records(opened.environment):
                user = user_of(key, text)
                yield user, self._decode(opened, user, record)

    def verify(self) -> Verification:
        """Reads every record and checks key, size, checksum, counts and sums, and the windows beside them.

        Raises:
          StoreError: if LMDB cannot read on.
        """
        with self._held() as opened:
            return verify_records(opened.environment, opened.layout, self._states(opened))

    def _sound(self, run, work):
        """What a transaction returns. Raises StoreError where it found something damaged."""
        try:
            return run(work)
        except RecordError as error:
            raise StoreError(f"{self.root / self.version}: {error}. Build it again.") from error

    def _states(self, opened: Opened) -> StateLayout | None:
        if opened.environment.states is None or "history" not in opened.header:
            return None
        return StateLayout(opened.layout, HistorySpec.model_validate(opened.header["history"]))

    def _layout_of(self, header: dict) -> RecordLayout:
        return RecordLayout(*(header[name] for name in ("num_groups", "num_buckets", "dim", "precision")))

    def _decode(self, opened: Opened, user, record: bytes) -> BucketTable:
        try:
            return opened.layout.decode(record)
        except RecordError as error:
            raise StoreError(f"{self.root / self.version}: user {user!r}: {error}. Build it again.") from error

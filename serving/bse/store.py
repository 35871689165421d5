"""The BSE store: every user's bucket table for one ranker version, read once a request.

Behavior Sequence Encoding of SDIM (arXiv 2205.10249): the long history is hashed away from the request, and the ranker
gets a table of fixed size. A table holds sums of one ranker's embeddings, so a store belongs to one version of it and
refuses readers of another. serving/user_stores/builds.py says how a version is published.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from features.histories.bucket_table import BucketTable
from serving.bse.build import FORMAT
from serving.bse.record import RecordLayout
from serving.bse.verify import verify_records
from serving.user_stores.environment import StoreError
from serving.user_stores.record_pages import Verification, read_records
from serving.user_stores.user_keys import RecordError, user_key, user_of
from serving.user_stores.user_store import Opened, StoreKind, UserStore, record_of


@dataclass(frozen=True)
class Change:
    """One behaviour that enters or leaves a table.

    Attributes:
      user: whose.
      value: [d] float32, its embedding by the store's ranker.
      signature: [G] its signature.
      expires: whether it leaves.
    """

    user: str | int
    value: np.ndarray
    signature: np.ndarray
    expires: bool = False


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

        In fp16 and int8 each change rounds the table anew: rebuild such a store from time to time.

        Raises:
          ValueError: if a value or signature does not fit, or an expired behaviour is not there; nothing is changed.
          StoreError: if the store cannot be written, was replaced by a newer build, or follows one.
        """
        changes, opened = list(changes), self._to_write()
        environment, layout = opened.environment, opened.layout

        def work(transaction):
            tables: dict[bytes, BucketTable] = {}
            for change in changes:
                key, text = user_key(change.user)
                if key not in tables:
                    found = transaction.get(key, db=environment.records)
                    empty = BucketTable.empty(layout.num_groups, layout.num_buckets, layout.dim)
                    tables[key] = empty if found is None else self._decode(opened, change.user, bytes(found))
                if change.expires:
                    tables[key].expire(change.value, change.signature)
                else:
                    tables[key].append(change.value, change.signature)
                if text is not None:
                    transaction.put(key, text, db=environment.long_ids)
            for key, table in tables.items():
                if table.counts.any():
                    record = layout.encode(table.sums[np.newaxis], table.counts[np.newaxis])[0]
                    transaction.put(key, record, db=environment.records)
                else:
                    transaction.delete(key, db=environment.records)
                    transaction.delete(key, db=environment.long_ids)
            return len(tables)

        return environment.write(work)

    def __iter__(self) -> Iterator[tuple[str | int, BucketTable]]:
        """Yields every user and table, integers before strings. Changes made meanwhile may or may not be seen."""
        with self._held() as opened:
            for key, record, text in read_records(opened.environment):
                user = user_of(key, text)
                yield user, self._decode(opened, user, record)

    def verify(self) -> Verification:
        """Reads every record and checks key, size, checksum, counts and sums.

        Raises:
          StoreError: if LMDB cannot read on.
        """
        with self._held() as opened:
            return verify_records(opened.environment, opened.layout)

    def _layout_of(self, header: dict) -> RecordLayout:
        return RecordLayout(*(header[name] for name in ("num_groups", "num_buckets", "dim", "precision")))

    def _decode(self, opened: Opened, user, record: bytes) -> BucketTable:
        try:
            return opened.layout.decode(record)
        except RecordError as error:
            raise StoreError(f"{self.root / self.version}: user {user!r}: {error}. Build it again.") from error

"""The BSE store: every user's bucket table for one ranker version, read once a request.

Behavior Sequence Encoding of SDIM (arXiv 2205.10249): the long history is hashed away from the request, and the ranker
gets a table of fixed size. A table holds sums of one ranker's embeddings, so a store belongs to one version of it and
refuses readers of another. serving/bse/build.py says how a version is published.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from features.errors import NotFoundError
from features.histories.bucket_table import BucketTable
from serving.bse.build import (
    CURRENT,
    FORMAT,
    HEADER_KEY,
    check_version,
    versions,
)
from serving.bse.environment import SharedEnvironment, StoreError, open_environment
from serving.bse.record import (
    RecordError,
    RecordLayout,
    user_key,
    user_of,
)

_PAGE_USERS = 256
_MAX_FAULTS = 20


class VersionMismatch(StoreError):
    """The store holds tables of another ranker version than the reader's."""


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


@dataclass
class Verification:
    """What `BseStore.verify` found.

    Attributes:
      users, behaviors: tables and behaviours in them.
      num_bytes: of the records.
      faults: (user or key, what is wrong), the first 20.
      num_faults: how many there are.
    """

    users: int = 0
    behaviors: int = 0
    num_bytes: int = 0
    faults: list[tuple[str, str]] = field(default_factory=list)
    num_faults: int = 0

    def add_fault(self, where: object, what: str) -> None:
        self.num_faults += 1
        if len(self.faults) < _MAX_FAULTS:
            self.faults.append((str(where), what))


class BseStore:
    """One published version, open. Reading is safe from many threads and while another process appends.

    Attributes:
      root: the store with all its versions.
      version: of the ranker.
      header: what the build wrote down.
      layout: of the records.
    """

    def __init__(self, root: str | Path, version: str | None = None):
        """Opens a version; the current one by default. Close it, or use it in `with`.

        Args:
          root: the store.
          version: the reader's ranker version.

        Raises:
          NotFoundError: if no store is there.
          VersionMismatch: if the store does not hold `version`, or holds another under its name.
          StoreError: if it is damaged.
        """
        if version is not None:
            check_version(version)
        self.root = Path(root).absolute()
        self._environment, self._build = _open_published(self.root, version)
        try:
            self.header = self._read_header()
            self.layout = RecordLayout(
                *(self.header[name] for name in ("num_groups", "num_buckets", "dim", "precision"))
            )
            self.version = self.header["version"]
            if version is not None and self.version != version:
                raise VersionMismatch(
                    f"{self.root / version} holds tables of the ranker version {self.version!r}. Build it again."
                )
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> BseStore:
        return self

    def __exit__(self, *error) -> None:
        self.close()

    def close(self) -> None:
        """Closes the store; closing twice is harmless."""
        if self._environment is not None:
            self._environment.close()
            self._environment = None

    def __len__(self) -> int:
        """Returns the number of users."""
        environment = self._open
        return environment.read(lambda transaction: transaction.stat(environment.tables)["entries"])

    def record(self, user: str | int) -> bytes | None:
        """Returns a user's record as stored, unchecked; None: the user has no long history."""
        environment, (key, _) = self._open, user_key(user)

        def read(transaction):
            found = transaction.get(key, db=environment.tables)
            return None if found is None else bytes(found)

        return environment.read(read)

    def get(self, user: str | int) -> BucketTable | None:
        """Returns a user's table, or None if the user has no long history.

        Raises:
          TypeError: if `user` is neither a string nor an integer; strings and integers are different users.
          StoreError: if the record is damaged.
        """
        record = self.record(user)
        return None if record is None else self._decode(user, record)

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
          StoreError: if the store cannot be written or was replaced by a newer build.
        """
        changes, environment = list(changes), self._open
        if os.path.realpath(self.root / self.version) != self._build:
            raise StoreError(f"{self.root / self.version} was replaced since it was opened: open the store again.")

        def work(transaction):
            tables: dict[bytes, BucketTable] = {}
            for change in changes:
                key, text = user_key(change.user)
                if key not in tables:
                    found = transaction.get(key, db=environment.tables)
                    layout = self.layout
                    empty = BucketTable.empty(layout.num_groups, layout.num_buckets, layout.dim)
                    tables[key] = empty if found is None else self._decode(change.user, bytes(found))
                if change.expires:
                    tables[key].expire(change.value, change.signature)
                else:
                    tables[key].append(change.value, change.signature)
                if text is not None:
                    transaction.put(key, text, db=environment.long_ids)
            for key, table in tables.items():
                if table.counts.any():
                    record = self.layout.encode(table.sums[np.newaxis], table.counts[np.newaxis])[0]
                    transaction.put(key, record, db=environment.tables)
                else:
                    transaction.delete(key, db=environment.tables)
                    transaction.delete(key, db=environment.long_ids)
            return len(tables)

        return environment.write(work)

    def __iter__(self) -> Iterator[tuple[str | int, BucketTable]]:
        """Yields every user and table, integers before strings. Changes made meanwhile may or may not be seen."""
        for key, record, text in self._records():
            user = user_of(key, text)
            yield user, self._decode(user, record)

    def verify(self) -> Verification:
        """Reads every record and checks key, size, checksum, counts and sums.

        Raises:
          StoreError: if LMDB cannot read on.
        """
        found = Verification()
        for key, record, text in self._records():
            found.users += 1
            found.num_bytes += len(record)
            user: object = key
            try:
                user = user_of(key, text)
                table = self.layout.decode(record)
            except (RecordError, UnicodeDecodeError) as error:
                found.add_fault(user, str(error))
                continue
            found.behaviors += int(table.counts[0].sum())
            for what in _faults(table):
                found.add_fault(user, what)
        return found

    @property
    def _open(self) -> SharedEnvironment:
        if self._environment is None:
            raise StoreError(f"{self.root}: this store was closed.")
        return self._environment

    def _decode(self, user, record: bytes) -> BucketTable:
        try:
            return self.layout.decode(record)
        except RecordError as error:
            raise StoreError(f"{self.root / self.version}: user {user!r}: {error}. Build it again.") from error

    def _records(self) -> Iterator[tuple[bytes, bytes, bytes | None]]:
        """Yields (key, record, long id) in the order of keys; each page is read in a transaction of its own."""
        environment, start = self._open, b""
        while True:

            def read_page(transaction, start=start):
                page = []
                cursor = transaction.cursor(environment.tables)
                found = cursor.set_range(start) if start else cursor.first()
                while found and len(page) < _PAGE_USERS:
                    key = bytes(cursor.key())
                    text = transaction.get(key, db=environment.long_ids) if key[:1] == b"t" else None
                    page.append((key, bytes(cursor.value()), None if text is None else bytes(text)))
                    found = cursor.next()
                return page

            page = environment.read(read_page)
            yield from page
            if len(page) < _PAGE_USERS:
                return
            start = page[-1][0] + b"\0"

    def _read_header(self) -> dict:
        found = self._open.read(lambda transaction: bytes(transaction.get(HEADER_KEY, b"")))
        try:
            header = json.loads(found)
        except json.JSONDecodeError as error:
            raise StoreError(f"{self._build} has no header: it is no finished BSE store. Build it again.") from error
        if header.get("format") != FORMAT:
            raise StoreError(
                f"{self._build} is of format {header.get('format')}; this program reads {FORMAT}. Build it again."
            )
        return header


def _faults(table: BucketTable) -> list[str]:
    found = []
    if table.counts.min() < 0:
        found.append("a count is negative")
    if len(set(table.counts.sum(axis=1).tolist())) > 1:
        found.append("groups count different numbers of behaviours")
    if not np.isfinite(table.sums).all():
        found.append("a sum is not finite")
    if table.sums[table.counts == 0].any():
        found.append("an empty bucket has a sum")
    return found


def _open_published(root: Path, version: str | None) -> tuple[SharedEnvironment, str]:
    """Opens what a link names; returns the environment and the directory of the build."""
    link = root / (CURRENT if version is None else version)
    for _ in range(3):
        build = os.path.realpath(link)
        if not os.path.isdir(build):
            break
        try:
            return open_environment(Path(build)), build
        except FileNotFoundError:
            continue  # replaced and removed between the two lines: the link names the next one now
    if not root.is_dir():
        raise NotFoundError(f"{root}: no BSE store is there. Build one with `clickmill bse build`.")
    held = versions(root)
    if version is None or not held:
        raise NotFoundError(f"{root} holds no published version. Build one with `clickmill bse build`.")
    raise VersionMismatch(
        f"{root} holds no tables of the ranker version {version!r}. It holds: {', '.join(held)}. Tables are sums of "
        "one ranker's embeddings: build them for this one with `clickmill bse build`."
    )

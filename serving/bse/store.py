"""The BSE store: every user's bucket table for one ranker version, read once a request.

Behavior Sequence Encoding of SDIM (arXiv 2205.10249): the long history is hashed away from the request, and the ranker
gets a table of fixed size. A table holds sums of one ranker's embeddings, so a store belongs to one version of it and
refuses readers of another. serving/bse/build.py says how a version is published.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

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
from serving.bse.environment import ClosedError, SharedEnvironment, StoreError, open_environment
from serving.bse.record import RecordError, RecordLayout, user_key, user_of
from serving.bse.verify import Verification, read_records, verify_records

Found = TypeVar("Found")

LOOK_SECONDS = 1.0
"""So often who follows a store looks whether it was rebuilt."""


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


@dataclass(frozen=True)
class _Opened:
    """One build, open: what is read together is of one build."""

    environment: SharedEnvironment
    build: str
    header: dict
    layout: RecordLayout


class BseStore:
    """One published version, open. Reading is safe from many threads and while another process appends or builds.

    Attributes:
      root: the store with all its versions.
      version: of the ranker.
    """

    def __init__(self, root: str | Path, version: str | None = None, *, follow: bool = False):
        """Opens a version; the current one by default. Close it, or use it in `with`.

        Args:
          root: the store.
          version: the reader's ranker version.
          follow: whether to read from the next build of this version once there is one: for readers that run long. A
            build that cannot be opened is left out with a warning, and the one before is read on. Who follows does
            not append.

        Raises:
          NotFoundError: if no store is there.
          VersionMismatch: if the store does not hold `version`, or holds another under its name.
          StoreError: if it is damaged.
        """
        if version is not None:
            check_version(version)
        self.root = Path(root).absolute()
        self._opened = _open_published(self.root, version)
        self.version: str = self._opened.header["version"]
        self._closed = False
        self._follow = follow
        self._looking = threading.Lock()
        self._next_look = time.monotonic() + LOOK_SECONDS
        self._warned = ""

    def __enter__(self) -> BseStore:
        return self

    def __exit__(self, *error) -> None:
        self.close()

    def close(self) -> None:
        """Closes the store; closing twice is harmless."""
        with self._looking:
            if not self._closed:
                self._closed = True
                self._opened.environment.close()

    @property
    def header(self) -> dict:
        """What the build wrote down."""
        return self._opened.header

    @property
    def layout(self) -> RecordLayout:
        """Of the records."""
        return self._opened.layout

    def __len__(self) -> int:
        """Returns the number of users."""

        def count(opened: _Opened) -> int:
            environment = opened.environment
            return environment.read(lambda transaction: transaction.stat(environment.tables)["entries"])

        return self._read(count)

    def record(self, user: str | int) -> bytes | None:
        """Returns a user's record as stored, unchecked; None: the user has no long history."""
        key, _ = user_key(user)
        return self._read(lambda opened: _record(opened, key))

    def get(self, user: str | int) -> BucketTable | None:
        """Returns a user's table, or None if the user has no long history.

        Raises:
          TypeError: if `user` is neither a string nor an integer; strings and integers are different users.
          StoreError: if the record is damaged.
        """
        key, _ = user_key(user)

        def read(opened: _Opened) -> BucketTable | None:
            record = _record(opened, key)
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
        changes, opened = list(changes), self._current()
        environment, layout = opened.environment, opened.layout
        if self._follow:
            # A behaviour may be in the newer build already: it would count twice.
            raise StoreError(f"{self.root} was opened to follow what is built: open it without `follow` to append.")
        if os.path.realpath(self.root / self.version) != opened.build:
            raise StoreError(f"{self.root / self.version} was replaced since it was opened: open the store again.")

        def work(transaction):
            tables: dict[bytes, BucketTable] = {}
            for change in changes:
                key, text = user_key(change.user)
                if key not in tables:
                    found = transaction.get(key, db=environment.tables)
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
                    transaction.put(key, record, db=environment.tables)
                else:
                    transaction.delete(key, db=environment.tables)
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

    def _current(self) -> _Opened:
        """The build that is open; who follows looks for the next one now and then."""
        if self._closed:
            raise StoreError(f"{self.root}: this store was closed.")
        # Whoever looks, the other threads read on meanwhile.
        if self._follow and time.monotonic() >= self._next_look and self._looking.acquire(blocking=False):
            try:
                self._next_look = time.monotonic() + LOOK_SECONDS
                if not self._closed and os.path.realpath(self.root / self.version) != self._opened.build:
                    self._reopen()
            finally:
                self._looking.release()
        return self._opened

    def _reopen(self) -> None:
        try:
            opened = _open_published(self.root, self.version)
        except (StoreError, FileNotFoundError) as error:
            if str(error) != self._warned:
                logging.getLogger(__name__).warning("%s Reading on from the build before.", error)
            self._warned = str(error)
            return
        before, self._opened, self._warned = self._opened, opened, ""
        before.environment.close()

    def _read(self, work: Callable[[_Opened], Found]) -> Found:
        while True:
            opened = self._current()
            try:
                return work(opened)
            except ClosedError:
                if opened is self._opened:
                    raise
                # Another thread has reopened the store between the two lines.

    @contextlib.contextmanager
    def _held(self) -> Iterator[_Opened]:
        """Keeps one build open for the block, for what reads on and on."""

        def retain(opened: _Opened) -> _Opened:
            opened.environment.retain()
            return opened

        held = self._read(retain)
        try:
            yield held
        finally:
            held.environment.close()

    def _decode(self, opened: _Opened, user, record: bytes) -> BucketTable:
        try:
            return opened.layout.decode(record)
        except RecordError as error:
            raise StoreError(f"{self.root / self.version}: user {user!r}: {error}. Build it again.") from error


def _record(opened: _Opened, key: bytes) -> bytes | None:
    environment = opened.environment

    def read(transaction):
        found = transaction.get(key, db=environment.tables)
        return None if found is None else bytes(found)

    return environment.read(read)


def _open_published(root: Path, version: str | None) -> _Opened:
    """Opens what a link names."""
    link = root / (CURRENT if version is None else version)
    while True:
        build = os.path.realpath(link)
        try:
            environment = open_environment(Path(build))
            break
        except (FileNotFoundError, StoreError) as error:
            if os.path.realpath(link) != build:
                continue  # replaced and removed meanwhile, which looks like damage: the link names the next one now
            if isinstance(error, StoreError):
                raise
            raise _not_held(root, version) from error
    try:
        header = _read_header(environment, build)
        layout = RecordLayout(*(header[name] for name in ("num_groups", "num_buckets", "dim", "precision")))
        if version is not None and header["version"] != version:
            raise VersionMismatch(
                f"{root / version} holds tables of the ranker version {header['version']!r}. Build it again."
            )
    except BaseException:
        environment.close()
        raise
    return _Opened(environment, build, header, layout)


def _read_header(environment: SharedEnvironment, build: str) -> dict:
    found = environment.read(lambda transaction: bytes(transaction.get(HEADER_KEY, b"")))
    try:
        header = json.loads(found)
    except json.JSONDecodeError as error:
        raise StoreError(f"{build} has no header: it is no finished BSE store. Build it again.") from error
    if header.get("format") != FORMAT:
        raise StoreError(f"{build} is of format {header.get('format')}; this program reads {FORMAT}. Build it again.")
    return header


def _not_held(root: Path, version: str | None) -> StoreError | NotFoundError:
    """What to say of a store that holds no such version."""
    if not root.is_dir():
        return NotFoundError(f"{root}: no BSE store is there. Build one with `clickmill bse build`.")
    held = versions(root)
    if version is None or not held:
        return NotFoundError(f"{root} holds no published version. Build one with `clickmill bse build`.")
    return VersionMismatch(
        f"{root} holds no tables of the ranker version {version!r}. It holds: {', '.join(held)}. Tables are sums of "
        "one ranker's embeddings: build them for this one with `clickmill bse build`."
    )

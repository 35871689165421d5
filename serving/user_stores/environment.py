"""An LMDB environment as a process may use it: opened once, used by many threads, grown where it is full.

LMDB leaves to its callers: never to open one file twice in a process (closing one handle would drop the locks of the
other), never to use or close a handle in a forked child (it would give up its parent's place as a reader), to grow the
map only while no transaction is open, and to notice that another process has grown it. `SharedEnvironment` does these.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import lmdb

from features.errors import InputError

Result = TypeVar("Result")

MAX_READERS = 1024
MIN_MAP = 1 << 26
DATA_FILE = "data.mdb"
LOCK_FILE = "lock.mdb"
#: The databases of a store: what its readers get, ids that are no keys, and what only appending needs. The first has
#: this name since stores held nothing but bucket tables.
RECORDS = b"tables"
LONG_IDS = b"long_ids"
STATES = b"states"


class StoreError(InputError):
    """A store that cannot be used. The message names the store, what is wrong and the fix."""


class ClosedError(StoreError):
    """The environment was given back by its last user."""


class SharedEnvironment:
    """One LMDB directory in this process. Get it from `open_environment`; every opener calls `close` once.

    Attributes:
      directory: where `data.mdb` lies.
      records, long_ids, states: handles of the databases, for `txn.get(key, db=…)`; `states` is None in a store that
        was built before there was one.
    """

    def __init__(self, directory: Path, key: tuple, durable: bool, create: bool = False):
        self.directory = directory
        self._key = key
        self._durable = durable
        self._uses = 0
        self._closed = False
        self._gate = threading.Condition()
        self._open(create)

    def read(self, work: Callable[[lmdb.Transaction], Result]) -> Result:
        """Runs `work` in a read transaction; buffers that it got are invalid when it returns.

        Raises:
          ClosedError: if its last user gave it back.
          StoreError: if LMDB finds the file damaged.
        """
        return self._run(work, write=False)

    def write(self, work: Callable[[lmdb.Transaction], Result]) -> Result:
        """Runs `work` in the write transaction and commits; if the map is full, grows it and runs `work` again.

        Raises:
          StoreError: if the store is read-only here or damaged.
        """
        if self.readonly:
            raise StoreError(f"{self.directory} cannot be written by this user: it was opened for reading.")
        return self._run(work, write=True)

    def sync(self) -> None:
        """Forces everything to disk."""
        self._environment.sync(True)

    def retain(self) -> None:
        """Makes the caller one more user, who calls `close` once. Raises `ClosedError` if the last one gave it back."""
        with _REGISTRY_LOCK:
            if self._references == 0:
                raise ClosedError(f"{self.directory} was closed.")
            self._references += 1

    def close(self) -> None:
        """Gives the environment back; the last one closes it, once no thread reads or writes any more."""
        with _REGISTRY_LOCK:
            self._references -= 1
            if self._references or self._pid != os.getpid():
                return
            _REGISTRY.pop(self._key, None)
        with self._gate:
            self._closed = True
            if not self._uses:
                self._environment.close()

    def _run(self, work, write):
        if self._pid != os.getpid():
            raise StoreError(
                f"{self.directory} was opened before this process was forked, and LMDB cannot be used across a fork. "
                "Open the store in the child alone, or start children by `spawn`."
            )
        while True:
            size = self._enter()
            try:
                with self._environment.begin(write=write, buffers=True) as transaction:
                    return work(transaction)
            except (lmdb.MapFullError, lmdb.MapResizedError) as error:
                full = isinstance(error, lmdb.MapFullError)
            except (lmdb.CorruptedError, lmdb.PageNotFoundError, lmdb.InvalidError, lmdb.PanicError) as error:
                raise StoreError(f"{self.directory} is damaged ({error}). Build it again.") from error
            except lmdb.Error as error:
                raise StoreError(f"{self.directory}: {error}") from error
            finally:
                self._leave()
            self._resize(size, grow=full)

    def _enter(self) -> int:
        with self._gate:
            if self._closed:
                raise ClosedError(f"{self.directory} was closed.")
            self._uses += 1
            return self._map_size

    def _leave(self) -> None:
        with self._gate:
            self._uses -= 1
            if not self._uses:
                self._gate.notify_all()
                if self._closed:
                    self._environment.close()

    def _resize(self, seen: int, grow: bool) -> None:
        with self._gate:
            # The map may move: every transaction of this process ends first, and none begins while the gate is held.
            while self._uses:
                self._gate.wait()
            if self._closed or self._map_size != seen:
                return  # another thread has done it; who enters a closed one is told
            self._environment.set_mapsize(2 * seen if grow else 0)
            self._map_size = self._environment.info()["map_size"]

    def _open(self, create: bool) -> None:
        data, lock = self.directory / DATA_FILE, self.directory / LOCK_FILE
        exists = data.exists()
        if not exists and not create:
            raise FileNotFoundError(f"{data} is not there.")
        self.readonly = exists and not (os.access(data, os.W_OK) and os.access(self.directory, os.W_OK))
        # Who may not write the lock file cannot announce himself as a reader; on a read-only mount nobody writes.
        locked = not self.readonly or os.access(lock, os.W_OK)
        self._environment = None
        try:
            self._environment = lmdb.open(
                str(self.directory),
                map_size=max(MIN_MAP, data.stat().st_size if exists else 0),
                max_dbs=3,
                max_readers=MAX_READERS,
                max_spare_txns=8,
                readonly=self.readonly,
                create=not exists,
                lock=locked,
                sync=self._durable,
                metasync=self._durable,
                # Records are read one user at a time, from all over the file.
                readahead=False,
            )
            self._check_length(data)
            if not self.readonly:
                self._environment.reader_check()
            self.records = self._environment.open_db(RECORDS, create=not exists)
            self.long_ids = self._environment.open_db(LONG_IDS, create=not exists)
            self.states = self._states(create=not exists)
        except BaseException as error:
            if self._environment is not None:
                self._environment.close()
            if isinstance(error, lmdb.Error):
                said = f"{self.directory} is no store or is damaged ({error}). Build it again."
                raise StoreError(said) from error
            raise
        self._map_size = self._environment.info()["map_size"]
        self._pid = os.getpid()
        self._references = 0

    def _states(self, create: bool):
        try:
            return self._environment.open_db(STATES, create=create)
        except (lmdb.NotFoundError, lmdb.ReadonlyError):
            return None

    def _check_length(self, data: Path) -> None:
        # Reading behind the end of a mapped file would kill the process (SIGBUS).
        needed = (self._environment.info()["last_pgno"] + 1) * self._environment.stat()["psize"]
        if data.stat().st_size < needed:
            size = data.stat().st_size
            raise StoreError(f"{data} is cut off: {size:,} bytes of {needed:,}. Build or copy it again.")


_REGISTRY: dict[tuple, SharedEnvironment] = {}
_REGISTRY_LOCK = threading.RLock()


def open_environment(directory: Path, *, create: bool = False, durable: bool = True) -> SharedEnvironment:
    """Opens an LMDB directory, or returns the one that this process has open already.

    Args:
      directory: holds `data.mdb`.
      create: make it there if there is none.
      durable: force every commit to disk; without, only `sync` does.

    Raises:
      FileNotFoundError: if there is none.
      StoreError: if it is damaged or cut off.
    """
    data = directory / DATA_FILE
    if create and not data.exists():
        directory.mkdir(parents=True, exist_ok=True)
        SharedEnvironment(directory, (), durable, create=True)._environment.close()
    with _REGISTRY_LOCK:
        found = data.stat()
        key = (found.st_dev, found.st_ino)
        shared = _REGISTRY.get(key)
        if shared is None:
            shared = _REGISTRY[key] = SharedEnvironment(directory.resolve(), key, durable)
        shared._references += 1
        return shared

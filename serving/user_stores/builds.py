"""Building a version of a store and publishing it whole.

    ROOT/current         -> VERSION                   what is served; swapped by rename
    ROOT/VERSION         -> .builds/VERSION-BUILD     one link a version; swapped by rename
    ROOT/.builds/VERSION-BUILD/{data,lock}.mdb        written to the end and to disk before a link names it
    ROOT/.builds/lock                                 held by the one who builds

LMDB maps local files, and a version is published by renaming a link: a store lies on a local file system, and is
written without `features.storage`.

Whatever kills a build, the links still name the whole stores that they named before; the next build removes what no
link names. A reader keeps the store that it has open even when its directory is gone.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import uuid
from collections.abc import Iterable
from pathlib import Path

from features.errors import InputError
from serving.user_stores.environment import SharedEnvironment, StoreError, open_environment
from serving.user_stores.user_keys import user_key

CURRENT = "current"
BUILDS = ".builds"
HEADER_KEY = b"header"

REOPEN_USERS = 1 << 12
"""Pages of a mapped file stay in memory once they were touched: a build closes its file after so many users."""

VERSION_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9_.-]*$"

Entry = tuple[str | int, bytes | memoryview]


class RecordWriter:
    """Writes records into an unpublished store. It pickles as its address: a Beam worker opens the store to write.

    Attributes:
      directory: of the store.
    """

    def __init__(self, directory: Path):
        self.directory = directory
        self._environment: SharedEnvironment | None = None
        self._written = 0

    def __getstate__(self):
        return self.__dict__ | {"_environment": None, "_written": 0}

    def put(self, records: Iterable[Entry], states: Iterable[Entry] = ()) -> None:
        """Writes some users in one transaction.

        Args:
          records: (user, what readers get).
          states: (user, what only appending needs), also of users without a record.
        """
        if self._environment is None:
            self._environment = open_environment(self.directory, create=True, durable=False)
        environment = self._environment
        long_ids: dict[bytes, bytes] = {}
        written, kept = _keyed(records, long_ids), _keyed(states, long_ids)

        def put(transaction):
            for database, entries in (
                (environment.records, written),
                (environment.states, kept),
                (environment.long_ids, [*long_ids.items()]),
            ):
                with transaction.cursor(database) as cursor:
                    cursor.putmulti(entries)

        environment.write(put)
        self._written += max(len(written), len(kept))
        if self._written >= REOPEN_USERS:
            self.close()

    def close(self) -> None:
        """Closes the store here; the next write opens it again."""
        if self._environment is not None:
            self._environment.close()
            self._environment = None
        self._written = 0


class StoreBuild:
    """Builds one version of a store: a context manager that discards what was not published.

    Attributes:
      root: the store, with all its versions.
      version: that is built.
      directory: the build, which no link names yet.
      writer: gets the records.
    """

    def __init__(self, root: str | Path, version: str):
        """Prepares a build; nothing is written before `with`.

        Args:
          root: the store, with all its versions.
          version: to build.

        Raises:
          InputError: if `version` cannot be a directory's name.
        """
        check_version(version)
        self.root = Path(root)
        self.version = version
        self._name = f"{version}-{uuid.uuid4().hex[:12]}"
        self._lock = None
        self._published = False
        self.directory = self.root / BUILDS / self._name
        self.writer = RecordWriter(self.directory)

    def __enter__(self):
        """Raises StoreError if another process builds here."""
        builds = self.root / BUILDS
        builds.mkdir(parents=True, exist_ok=True)
        self._lock = open(builds / "lock", "w")  # noqa: SIM115 - held until `__exit__`, freed by the kernel on a crash
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self._lock.close()
            raise StoreError(f"{self.root}: another process builds a version here. Wait for it to end.") from error
        remove_unlinked(self.root)
        open_environment(self.directory, create=True, durable=False).close()
        return self

    def publish_with(self, header: dict) -> Path:
        """Makes the version visible, and current, in one rename each; returns its link.

        Args:
          header: what readers find out about the build; `version` is added.
        """
        self.writer.close()
        environment = open_environment(self.directory, durable=False)
        text = json.dumps({"version": self.version, **header}).encode()
        environment.write(lambda transaction: transaction.put(HEADER_KEY, text))
        environment.sync()
        environment.close()
        sync_directory(self.directory)
        sync_directory(self.root / BUILDS)
        _swap_link(self.root / self.version, f"{BUILDS}/{self._name}")
        make_current(self.root, self.version)
        self._published = True
        return self.root / self.version

    def __exit__(self, *error) -> None:
        self.writer.close()
        try:
            if not self._published:
                shutil.rmtree(self.directory, ignore_errors=True)
            remove_unlinked(self.root)
        finally:
            self._lock.close()


def _keyed(entries: Iterable[Entry], long_ids: dict[bytes, bytes]) -> list[tuple[bytes, bytes | memoryview]]:
    """The entries by their keys; ids that these cannot hold are added to `long_ids`."""
    found = []
    for user, record in entries:
        key, text = user_key(user)
        if text is not None:
            long_ids[key] = text
        found.append((key, record))
    return found


def check_version(version: str) -> None:
    """Raises InputError if `version` cannot name a directory of a store."""
    if not re.match(VERSION_PATTERN, version) or version == CURRENT:
        raise InputError(f"`version` must match {VERSION_PATTERN} and not be `{CURRENT}`. Received: {version!r}")


def versions(root: str | Path) -> list[str]:
    """The published versions of a store, by name."""
    root = Path(root)
    links = [path for path in root.iterdir() if path.is_symlink()] if root.is_dir() else []
    return sorted(path.name for path in links if path.name != CURRENT and not path.name.startswith("."))


def make_current(root: str | Path, version: str) -> None:
    """Lets `current` name a published version; nothing happens if it does."""
    link = Path(root) / CURRENT
    if not (link.is_symlink() and os.readlink(link) == version):
        _swap_link(link, version)


def remove_version(root: str | Path, version: str) -> None:
    """Withdraws a version; whoever has it open may go on reading.

    Raises:
      FileNotFoundError: if there is none.
      StoreError: if it is the current one.
    """
    root = Path(root)
    if os.path.realpath(root / CURRENT) == os.path.realpath(root / version):
        raise StoreError(f"{root}: `{version}` is the current version. Publish another one first.")
    build = os.path.realpath(root / version)
    os.unlink(root / version)
    shutil.rmtree(build, ignore_errors=True)


def remove_unlinked(root: Path) -> None:
    """Removes builds that no link names: interrupted or replaced. Only for the holder of the lock."""
    linked = {os.readlink(root / name).rpartition("/")[2] for name in versions(root)}
    for build in (root / BUILDS).iterdir():
        if build.is_dir() and build.name not in linked:
            shutil.rmtree(build, ignore_errors=True)
    for stray in root.glob(".link-*"):
        stray.unlink(missing_ok=True)


def sync_directory(directory: Path) -> None:
    """Forces a directory's entries to disk."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _swap_link(link: Path, target: str) -> None:
    aside = link.parent / f".link-{uuid.uuid4().hex[:12]}"
    os.symlink(target, aside)
    os.replace(aside, link)
    sync_directory(link.parent)

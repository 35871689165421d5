"""Building a version of a BSE store and publishing it whole.

    ROOT/current         -> VERSION                   what is served; swapped by rename
    ROOT/VERSION         -> .builds/VERSION-BUILD     one link a ranker version; swapped by rename
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
from pathlib import Path

import numpy as np
import pyarrow as pa

from features.errors import InputError
from serving.bse.environment import SharedEnvironment, StoreError, open_environment
from serving.bse.record import RecordLayout, user_key

CURRENT = "current"
BUILDS = ".builds"
HEADER_KEY = b"header"
FORMAT = 2

REOPEN_USERS = 1 << 12
"""Pages of a mapped file stay in memory once they were touched: a build closes its file after so many users."""

VERSION_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9_.-]*$"


class TableWriter:
    """Writes tables into an unpublished store. It pickles as its address: a Beam worker opens the store when it writes.

    Attributes:
      directory: of the store.
      layout: of its records.
    """

    def __init__(self, directory: Path, layout: RecordLayout):
        self.directory = directory
        self.layout = layout
        self._environment: SharedEnvironment | None = None
        self._written = 0

    def __getstate__(self):
        return self.__dict__ | {"_environment": None, "_written": 0}

    def write(self, user_ids: pa.Array, sums: np.ndarray, counts: np.ndarray) -> None:
        """Writes a block of users in one transaction.

        Args:
          user_ids: [U] string or int64, no nulls.
          sums: [U, G, 2 ** tau, d] float32.
          counts: [U, G, 2 ** tau] int32.
        """
        if self._environment is None:
            self._environment = open_environment(self.directory, create=True, durable=False)
        environment = self._environment
        keys = [user_key(user) for user in user_ids.to_pylist()]
        records = self.layout.encode(sums, counts)
        tables = [(key, record) for (key, _), record in zip(keys, records, strict=True)]
        long_ids = [(key, text) for key, text in keys if text is not None]

        def put(transaction):
            with transaction.cursor(environment.tables) as cursor:
                cursor.putmulti(tables)
            with transaction.cursor(environment.long_ids) as cursor:
                cursor.putmulti(long_ids)

        environment.write(put)
        self._written += len(records)
        if self._written >= REOPEN_USERS:
            self.close()

    def close(self) -> None:
        """Closes the store here; the next write opens it again."""
        if self._environment is not None:
            self._environment.close()
            self._environment = None
        self._written = 0


class StoreBuilder:
    """Builds one version of a store: a context manager that discards what was not published.

    Attributes:
      writer: gets the tables.
    """

    def __init__(self, root: str | Path, version: str, layout: RecordLayout):
        """Prepares a build; nothing is written before `with`.

        Args:
          root: the store, with all its versions.
          version: of the ranker whose embeddings the tables hold.
          layout: of the records.

        Raises:
          InputError: if `version` cannot be a directory's name.
        """
        check_version(version)
        self.root = Path(root)
        self.version = version
        self._name = f"{version}-{uuid.uuid4().hex[:12]}"
        self._lock = None
        self._published = False
        self.writer = TableWriter(self.root / BUILDS / self._name, layout)

    def __enter__(self) -> StoreBuilder:
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
        open_environment(self.writer.directory, create=True, durable=False).close()
        return self

    def publish(self, details: dict | None = None) -> Path:
        """Makes the version visible, and current, in one rename each; returns its link.

        Args:
          details: further facts for the header.
        """
        writer = self.writer
        writer.close()
        environment = open_environment(writer.directory, durable=False)
        layout = writer.layout
        header = {
            "format": FORMAT,
            "version": self.version,
            "num_groups": layout.num_groups,
            "num_buckets": layout.num_buckets,
            "dim": layout.dim,
            "precision": layout.precision,
            **(details or {}),
        }
        environment.write(lambda transaction: transaction.put(HEADER_KEY, json.dumps(header).encode()))
        environment.sync()
        environment.close()
        sync_directory(writer.directory)
        sync_directory(self.root / BUILDS)
        _swap_link(self.root / self.version, f"{BUILDS}/{self._name}")
        make_current(self.root, self.version)
        self._published = True
        return self.root / self.version

    def __exit__(self, *error) -> None:
        self.writer.close()
        try:
            if not self._published:
                shutil.rmtree(self.writer.directory, ignore_errors=True)
            remove_unlinked(self.root)
        finally:
            self._lock.close()


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

"""One published version of a store of users, open: reading, following what is built next.

Reading is safe from many threads and while another process appends or builds. What a record holds is a subclass's own.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from features.errors import NotFoundError
from serving.user_stores.append_log import Mark
from serving.user_stores.builds import CURRENT, HEADER_KEY, check_version, versions
from serving.user_stores.environment import ClosedError, SharedEnvironment, StoreError, open_environment
from serving.user_stores.record_pages import read_records
from serving.user_stores.user_keys import user_key, user_of

Found = TypeVar("Found")

LOOK_SECONDS = 1.0
"""So often who follows a store looks whether it was rebuilt."""

WAIT_SECONDS = 60.0
"""So long who follows a store waits for a new build to take in what was appended to the one before."""


class VersionMismatch(StoreError):
    """The store holds another version than the reader's."""


class ReplacedError(StoreError):
    """The build that is open was replaced by a newer one: it is the wrong one to change."""


@dataclass(frozen=True)
class Opened:
    """One build, open: what is read together is of one build.

    Attributes:
      environment: its LMDB environment.
      build: its real path.
      header: what the build wrote down.
      layout: how its records are read.
    """

    environment: SharedEnvironment
    build: str
    header: dict
    layout: Any


@dataclass(frozen=True)
class StoreKind:
    """What a store of this kind is called in messages.

    Attributes:
      name: "BSE store".
      records: what it holds of a version: "tables of the ranker version".
      why: a sentence that says why another version's are of no use.
      command: that builds one.
      format: of the records, which a reader must know.
    """

    name: str
    records: str
    why: str
    command: str
    format: int


class UserStore:
    """One published version, open. Close it, or use it in `with`.

    Attributes:
      root: the store with all its versions.
      version: that is open.
    """

    kind: ClassVar[StoreKind]

    def __init__(self, root: str | Path, version: str | None = None, *, follow: bool = False):
        """Opens a version; the current one by default.

        Args:
          root: the store.
          version: the reader's version.
          follow: whether to read from the next build of this version once there is one: for readers that run long. A
            build that cannot be opened is left out with a warning, and the one before is read on. So it is while the
            next build lacks what was appended to the one before, for a minute at most.

        Raises:
          NotFoundError: if no store is there.
          VersionMismatch: if the store does not hold `version`, or holds another under its name.
          StoreError: if it is damaged.
        """
        if version is not None:
            check_version(version)
        self.root = Path(root).absolute()
        self._opened = self._open_published(version)
        self.version: str = self._opened.header["version"]
        self._closed = False
        self._follow = follow
        self._looking = threading.Lock()
        self._next_look = time.monotonic() + LOOK_SECONDS
        self._warned = ""
        self._wait_until: float | None = None

    def __enter__(self):
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
    def layout(self) -> Any:
        """How records are read."""
        return self._opened.layout

    def __len__(self) -> int:
        """Returns the number of users."""

        def count(opened: Opened) -> int:
            environment = opened.environment
            return environment.read(lambda transaction: transaction.stat(environment.records)["entries"])

        return self._read(count)

    def first_users(self, count: int) -> list[str | int]:
        """Returns so many of the users at most, in the order of their keys; their records are not read."""

        def read(opened: Opened) -> list[str | int]:
            environment = opened.environment

            def first(transaction) -> list[str | int]:
                keys = itertools.islice(transaction.cursor(environment.records).iternext(values=False), count)
                found = [(bytes(key), transaction.get(key, db=environment.long_ids)) for key in keys]
                return [user_of(key, None if text is None else bytes(text)) for key, text in found]

            return environment.read(first)

        return self._read(read)

    def users(self) -> Iterator[str | int]:
        """Yields the users who have a record, integers before strings."""
        with self._held() as opened:
            for key, _, text in read_records(opened.environment):
                yield user_of(key, text)

    def record(self, user: str | int) -> bytes | None:
        """Returns a user's record as stored, unchecked; None: the user has none."""
        key, _ = user_key(user)
        return self._read(lambda opened: record_of(opened, key))

    def _layout_of(self, header: dict) -> Any:
        """What reads the records of a build."""
        raise NotImplementedError

    def look(self) -> None:
        """Looks for the next build now, instead of within a second; nothing for who does not follow."""
        self._next_look = 0.0
        self._current()

    def was_replaced(self) -> bool:
        """Whether the version was built again since it was opened."""
        return self._was_replaced(self._current())

    def mark(self, log_id: bytes) -> Mark:
        """Returns up to where the store has taken in the log of what was appended."""
        return self._read(lambda opened: opened.environment.read(lambda transaction: Mark.read(transaction, log_id)))

    def _current(self) -> Opened:
        """The build that is open; who follows looks for the next one now and then."""
        if self._closed:
            raise StoreError(f"{self.root}: this store was closed.")
        # Whoever looks, the other threads read on meanwhile.
        if self._follow and time.monotonic() >= self._next_look and self._looking.acquire(blocking=False):
            try:
                self._next_look = time.monotonic() + LOOK_SECONDS
                if not self._closed and self._was_replaced(self._opened):
                    self._reopen()
            finally:
                self._looking.release()
        return self._opened

    def _to_write(self) -> Opened:
        """The build that is open, for who changes it. Raises StoreError if it is the wrong one to change."""
        opened = self._current()
        if self._follow:
            # What is added may be in the newer build already: it would count twice.
            raise StoreError(f"{self.root} was opened to follow what is built: open it without `follow` to append.")
        if self._was_replaced(opened):
            raise ReplacedError(f"{self.root / self.version} was replaced since it was opened: open the store again.")
        return opened

    def _was_replaced(self, opened: Opened) -> bool:
        return os.path.realpath(self.root / self.version) != opened.build

    def _reopen(self) -> None:
        try:
            opened = self._open_published(self.version)
        except (StoreError, FileNotFoundError) as error:
            if str(error) != self._warned:
                logging.getLogger(__name__).warning("%s Reading on from the build before.", error)
            self._warned = str(error)
            return
        if self._wait_until is None:
            self._wait_until = time.monotonic() + WAIT_SECONDS
        if _lacks(opened, self._opened) and time.monotonic() < self._wait_until:
            opened.environment.close()
            return
        before, self._opened, self._warned, self._wait_until = self._opened, opened, "", None
        before.environment.close()

    def _read(self, work: Callable[[Opened], Found]) -> Found:
        while True:
            opened = self._current()
            try:
                return work(opened)
            except ClosedError:
                if opened is self._opened:
                    raise
                # Another thread has reopened the store between the two lines.

    @contextlib.contextmanager
    def _held(self) -> Iterator[Opened]:
        """Keeps one build open for the block, for what reads on and on."""

        def retain(opened: Opened) -> Opened:
            opened.environment.retain()
            return opened

        held = self._read(retain)
        try:
            yield held
        finally:
            held.environment.close()

    def _open_published(self, version: str | None) -> Opened:
        """Opens what a link names."""
        link = self.root / (CURRENT if version is None else version)
        while True:
            build = os.path.realpath(link)
            try:
                environment = open_environment(Path(build))
                break
            except (FileNotFoundError, StoreError) as error:
                if os.path.realpath(link) != build:
                    continue  # replaced and removed meanwhile, which looks like damage: the link names the next one
                if isinstance(error, StoreError):
                    raise
                raise self._not_held(version) from error
        try:
            header = self._read_header(environment, build)
            layout = self._layout_of(header)
            if version is not None and header["version"] != version:
                raise VersionMismatch(
                    f"{self.root / version} holds {self.kind.records} {header['version']!r}. Build it again."
                )
        except BaseException:
            environment.close()
            raise
        return Opened(environment, build, header, layout)

    def _read_header(self, environment: SharedEnvironment, build: str) -> dict:
        found = environment.read(lambda transaction: bytes(transaction.get(HEADER_KEY, b"")))
        name, known = self.kind.name, self.kind.format
        try:
            header = json.loads(found)
        except json.JSONDecodeError as error:
            raise StoreError(f"{build} has no header: it is no finished {name}. Build it again.") from error
        if header.get("format") != known:
            raise StoreError(
                f"{build} is of format {header.get('format')}; this program reads {known}. Build it again."
            )
        return header

    def _not_held(self, version: str | None) -> StoreError | NotFoundError:
        """What to say of a store that holds no such version."""
        root, kind = self.root, self.kind
        if not root.is_dir():
            return NotFoundError(f"{root}: no {kind.name} is there. Build one with `{kind.command}`.")
        held = versions(root)
        if version is None or not held:
            return NotFoundError(f"{root} holds no published version. Build one with `{kind.command}`.")
        return VersionMismatch(
            f"{root} holds no {kind.records} {version!r}. It holds: {', '.join(held)}. {kind.why}: build them for this "
            f"one with `{kind.command}`."
        )


def _lacks(opened: Opened, before: Opened) -> bool:
    """Whether a build has taken in less of the log than the one before it."""
    there, here = (each.environment.read(Mark.read) for each in (opened, before))
    return here.number > 0 and (there.log_id != here.log_id or there.number < here.number)


def record_of(opened: Opened, key: bytes) -> bytes | None:
    """Returns the record under a key; None: there is none."""
    environment = opened.environment

    def read(transaction):
        found = transaction.get(key, db=environment.records)
        return None if found is None else bytes(found)

    return environment.read(read)

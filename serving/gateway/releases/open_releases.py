"""Which releases are open: the one that a label names, followed as the label moves, and others that are asked for."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from concurrent.futures import Executor
from dataclasses import dataclass

from features.config import SpecError
from features.errors import ClickmillError, InputError, NotFoundError
from serving.gateway.refusal import NOT_FOUND, TOO_LATE, UNAVAILABLE, GatewayError
from serving.gateway.releases.release_view import ReleaseView
from serving.release.manifest import Release
from serving.release.registry import Releases


@dataclass
class _Held:
    """An open release: how many requests use it, and whether it is closed after the last of them."""

    view: ReleaseView
    requests: int = 0
    retired: bool = False

    def retire(self) -> None:
        self.retired = True
        if not self.requests:
            self.view.close()


class OpenReleases:
    """Opens releases aside and hands them out. All methods belong to one event loop.

    A release is swapped whole: who holds the one before keeps it until its request ends. One that cannot be opened, or
    that the server does not serve yet, is tried again at the next look; the one before answers meanwhile.

    Args:
      releases: of the serving root.
      label: that is followed.
      missing: says what the server does not serve of a release, a sentence each; what it raises is a reason too.
      workers: threads that open releases.
      limit: of the releases that are neither followed nor kept, how many stay open.
      fresh_s: seconds for which a name is taken to mean the same release.
      prepare: is given a release that was opened, before any request is.

    Attributes:
      reason: why the release that the label names is not open, or '' if it is.
      unserved: why the server could not answer for the followed release at the last look, or '' if it could.
    """

    def __init__(
        self,
        releases: Releases,
        label: str,
        missing: Callable[[Release], Awaitable[list[str]]],
        workers: Executor,
        limit: int,
        fresh_s: float,
        prepare: Callable[[ReleaseView], Awaitable[None]],
    ):
        self._releases, self._label, self._missing, self._workers = releases, label, missing, workers
        self._limit, self._fresh_s, self._prepare = limit, fresh_s, prepare
        self._followed: _Held | None = None
        self._others: OrderedDict[str, _Held] = OrderedDict()
        self._opening: dict[str, asyncio.Task[_Held]] = {}
        self._names: dict[str, tuple[str, float]] = {}
        self._keep: frozenset[str] = frozenset()
        self.reason = "No release was opened yet."
        self.unserved = ""

    @property
    def followed(self) -> ReleaseView | None:
        """The release that requests get which name none; None: none is open."""
        return None if self._followed is None else self._followed.view

    @property
    def open_ids(self) -> list[str]:
        """Ids of the open releases, the followed one first."""
        followed = [] if self._followed is None else [self._followed.view.id]
        return [*followed, *(each for each in self._others if each not in followed)]

    async def follow_for_ever(self, poll_s: float) -> None:
        """Looks at the label now and then, until it is cancelled."""
        while True:
            await self.look()
            await asyncio.sleep(poll_s)

    async def look(self) -> None:
        """Opens the release that the label names now, if it is another one than before, and swaps them."""
        before = self.reason
        try:
            release = await self._on_worker(self._releases.labelled, self._label)
            if self._followed is None or release.id != self._followed.view.id:
                self._swap(self._known(release.id) or await self._opened_by(release, None))
            self.reason = ""
        except (ClickmillError, OSError) as error:
            self.reason = str(error)
        for name in self._keep:
            with contextlib.suppress(GatewayError):  # whoever asks for it is told
                await self._named(name, None)
        self.unserved = await self._what_is_unserved()
        if self.reason and self.reason != before:
            logging.getLogger(__name__).warning("The label `%s`: %s", self._label, self.reason)

    async def _what_is_unserved(self) -> str:
        if self._followed is None:
            return ""
        try:
            return " ".join(await self._missing(self._followed.view.release))
        except ClickmillError as error:
            return str(error)

    def keep(self, names: Iterable[str]) -> None:
        """Says which names are asked for all the time: their releases are opened at the next look and stay open."""
        self._keep = frozenset(names)

    @contextlib.asynccontextmanager
    async def hold(self, name: str | None = None, until: float | None = None) -> AsyncIterator[ReleaseView]:
        """Yields a release that stays open for the block.

        Args:
          name: its id, or a label; None: the followed one.
          until: when the caller waits no longer for it to open, in `time.monotonic`'s seconds; it opens nevertheless.

        Raises:
          GatewayError: 404 if there is none, 503 if it cannot be opened or is not served, 504 if that takes too long.
        """
        held = self._current() if name is None else await self._named(name, until)
        held.requests += 1
        try:
            yield held.view
        finally:
            held.requests -= 1
            if held.retired and not held.requests:
                held.view.close()

    async def close(self) -> None:
        """Closes all releases, each when its last request ends."""
        for task in self._opening.values():
            task.cancel()
        await asyncio.gather(*self._opening.values(), return_exceptions=True)
        for held in [*self._others.values(), *([self._followed] if self._followed else [])]:
            if not held.retired:
                held.retire()
        self._others.clear()
        self._followed = None

    def _current(self) -> _Held:
        if self._followed is None:
            raise GatewayError(UNAVAILABLE, f"No release is served yet. {self.reason}")
        return self._followed

    async def _named(self, name: str, until: float | None) -> _Held:
        try:
            release_id = await self._id_of(name)
            held = self._known(release_id)
            if held is not None:
                return held
            release = await self._on_worker(self._releases.get, release_id)
        except (SpecError, OSError) as error:
            if isinstance(error, NotFoundError):
                raise GatewayError(NOT_FOUND, str(error)) from error
            raise GatewayError(UNAVAILABLE, f"The release {name} cannot be read: {error}") from error
        except InputError as error:
            raise GatewayError(NOT_FOUND, str(error)) from error
        return await self._opened_by(release, until)

    def _known(self, release_id: str) -> _Held | None:
        if self._followed is not None and release_id == self._followed.view.id:
            return self._followed
        if release_id in self._others:
            self._others.move_to_end(release_id)
        return self._others.get(release_id)

    async def _opened_by(self, release: Release, until: float | None) -> _Held:
        """A release that is not open, once it is; one that had to make room at once is opened again."""
        held = None
        while held is None or held.retired:
            wait_s = None if until is None else max(0.0, until - time.monotonic())
            try:
                held = await asyncio.wait_for(asyncio.shield(self._opening_of(release)), wait_s)
            except asyncio.TimeoutError:
                raise GatewayError(
                    TOO_LATE, f"The release {release.id} is being opened: ask again in a moment."
                ) from None
            except GatewayError:
                raise
            except (ClickmillError, OSError) as error:
                raise GatewayError(UNAVAILABLE, f"The release {release.id} cannot be opened: {error}") from error
        return held

    async def _id_of(self, name: str) -> str:
        """The id that a name means; looked up again when what is known of it is old."""
        known, fresh_until = self._names.get(name, ("", 0.0))
        if time.monotonic() >= fresh_until:
            known = (await self._on_worker(self._releases.find, name)).id
            if len(self._names) > 1000:
                self._names.clear()
            self._names[name] = known, time.monotonic() + self._fresh_s
        return known

    def _opening_of(self, release: Release) -> asyncio.Task[_Held]:
        """The one task that opens a release, however many wait for it."""
        task = self._opening.get(release.id)
        if task is None:
            task = self._opening[release.id] = asyncio.create_task(self._open(release))
            task.add_done_callback(lambda done: self._opening.pop(release.id, None))
            task.add_done_callback(lambda done: done.cancelled() or done.exception())  # somebody may have waited
        return task

    async def _open(self, release: Release) -> _Held:
        if missing := await self._missing(release):
            raise GatewayError(UNAVAILABLE, " ".join(missing))
        held = _Held(await self._on_worker(ReleaseView.open, self._releases, release))
        try:
            await self._prepare(held.view)
        except BaseException:
            held.retire()
            raise
        # Kept before the task ends: whoever asks next finds it, also if nobody waited for it.
        self._others[release.id] = held
        kept = {self._names[name][0] for name in self._keep if name in self._names}
        for other in [each for each in self._others if each not in kept][: -self._limit]:
            self._others.pop(other).retire()
        return held

    def _swap(self, held: _Held) -> None:
        before, self._followed = self._followed, held
        self._others.pop(held.view.id, None)
        if before is not None:
            before.retire()

    async def _on_worker(self, work, *arguments):
        return await asyncio.get_running_loop().run_in_executor(self._workers, work, *arguments)

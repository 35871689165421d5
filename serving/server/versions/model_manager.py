"""The versions of all models: which are wanted, which are loaded, who uses them, and what became of each.

The states are TensorFlow Serving's (apis/get_model_status.proto). A version is unloaded when its last call has ended.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple

import grpc

from serving.server.status import ServingError
from serving.server.versions.availability_policy import Managed, Phase, next_action
from serving.server.versions.loaded_model import LoadedModel

_LOG = logging.getLogger(__name__)

#: States of `GetModelStatusResponse`.
START, LOADING, AVAILABLE, UNLOADING, END = 10, 20, 30, 40, 50


class VersionState(NamedTuple):
    """What is known of a version.

    Attributes:
      state: one of `START`, `LOADING`, `AVAILABLE`, `UNLOADING` and `END`.
      error: what its load ended by, if it failed.
    """

    state: int
    error: ServingError | None = None


class LoadSettings(NamedTuple):
    """How versions are loaded.

    Attributes:
      threads: versions that load at a time.
      max_retries: how often a failed load is tried again.
      retry_s: seconds between two tries.
    """

    threads: int = 1
    max_retries: int = 5
    retry_s: float = 60.0


def unavailable(failed: Mapping[tuple[str, int], VersionState], what: str) -> ServingError:
    """Returns the error that says which versions did not become available, by (name, version), and why.

    Args:
      failed: their states.
      what: how the text calls them.
    """
    told = ""
    for (name, version), state in failed.items():
        why = f" due to error: {state.error}" if state.error else ""
        told += f"{{{{name: {name} version: {version}}}{why}}}, "
    text = f"{len(failed)} {what}(s) did not become available: {{{told}}}"
    return ServingError(grpc.StatusCode.UNKNOWN, text)


@dataclass
class _Version:
    """A version that is managed: from when it is first wanted until it is unloaded."""

    path: str
    aspired: bool = True
    phase: Phase = Phase.NEW
    model: LoadedModel | None = None
    calls: int = 0
    failures: int = 0
    error: ServingError | None = None
    retry: threading.Timer | None = None


class ModelManager:
    """Loads the wanted versions, and hands them out to calls.

    Args:
      load: of a model's name, a version and its folder makes the version, warmed up; raises `ServingError`.
      settings: how versions are loaded.
    """

    def __init__(self, load: Callable[[str, int, str], LoadedModel], settings: LoadSettings):
        self._load, self._settings = load, settings
        self._changed = threading.Condition()
        self._managed: dict[str, dict[int, _Version]] = defaultdict(dict)
        self._states: dict[str, dict[int, VersionState]] = defaultdict(dict)
        self._wanted: dict[str, dict[int, str]] = {}  # what could not be taken up yet: a version of it still unloads
        self._loads = ThreadPoolExecutor(settings.threads, thread_name_prefix="load")
        self._unloads = ThreadPoolExecutor(1, thread_name_prefix="unload")
        self._closed = False

    def aspire(self, name: str, versions: Mapping[int, str]) -> None:
        """Says which versions of a model are wanted from now on, by number with their folders; the others go."""
        with self._changed:
            if not self._closed:
                self._wanted[name] = dict(versions)
                self._take_up(name)

    @contextlib.contextmanager
    def use(self, name: str, version: int | None = None) -> Iterator[LoadedModel]:
        """Yields an available version (the highest if None), which stays loaded until the block ends.

        Raises:
          ServingError: NOT_FOUND if there is none.
        """
        with self._changed:
            held = self._find(name, version)
            held.calls += 1
        try:
            yield held.model
        finally:
            with self._changed:
                held.calls -= 1
                if not held.calls and held.phase is Phase.UNLOADING:
                    self._unload(name, held)

    def states(self, name: str) -> dict[int, VersionState]:
        """Returns what is known of every version that a model ever had, the highest first."""
        with self._changed:
            return dict(sorted(self._states.get(name, {}).items(), reverse=True))

    def available(self, name: str) -> list[int]:
        """Returns the versions of a model that can be called, the highest first."""
        with self._changed:
            return sorted(self._ready(name), reverse=True)

    def wait(self, names: Iterable[str], timeout_s: float | None = None) -> dict[tuple[str, int], VersionState]:
        """Waits until each model has a version that is available, or one whose load has failed for good.

        Returns:
          The state that ended the wait by (name, version); empty if the time ran out or the server is closed.
        """
        names = list(names)
        with self._changed:
            self._changed.wait_for(lambda: self._closed or all(self._settled(name) for name in names), timeout_s)
            found = [self._settled(name) for name in names]
            return {} if not all(found) else {key: state for each in found for key, state in each.items()}

    def wait_for_versions(self, versions: Iterable[tuple[str, int]], timeout_s: float | None = None) -> bool:
        """Waits until versions are available; returns whether they are, false as soon as the load of one has failed."""
        wanted = list(versions)

        def states() -> list[VersionState]:
            return [self._states.get(name, {}).get(version, VersionState(START)) for name, version in wanted]

        def decided() -> bool:
            found = states()
            return (
                self._closed
                or all(each.state == AVAILABLE for each in found)
                or any(each.state == END and each.error is not None for each in found)
            )

        with self._changed:
            self._changed.wait_for(decided, timeout_s)
            return all(each.state == AVAILABLE for each in states())

    def has_failed(self, name: str, version: int) -> bool:
        """Whether the load of a version has failed, and will not be tried again."""
        with self._changed:
            state = self._states.get(name, {}).get(version, VersionState(START))
            return state.state == END and state.error is not None

    def close(self) -> None:
        """Ends loads that wait, and unloads everything; calls that still run end by CANCELLED."""
        with self._changed:
            self._closed = True
            for name in self._managed:
                for held in self._managed[name].values():
                    held.aspired = False
                    if held.retry is not None:
                        held.retry.cancel()
            self._loads.shutdown(wait=False, cancel_futures=True)
            for name, managed in list(self._managed.items()):
                self._advance(name)
                for held in managed.values():
                    if held.calls:
                        self._unload(name, held)  # closing a session cancels its runs
            self._changed.notify_all()

    def _ready(self, name: str) -> dict[int, _Version]:
        return {v: held for v, held in self._managed.get(name, {}).items() if held.phase is Phase.READY}

    def _find(self, name: str, version: int | None) -> _Version:
        managed = self._managed.get(name, {})
        if version is None:
            version = max((v for v, held in managed.items() if held.phase is Phase.READY), default=None)
            if version is None:
                raise ServingError(grpc.StatusCode.NOT_FOUND, f"Servable not found for request: Latest({name})")
        held = managed.get(version)
        if held is None or held.phase is not Phase.READY:
            raise ServingError(
                grpc.StatusCode.NOT_FOUND, f"Servable not found for request: Specific({name}, {version})"
            )
        return held

    def _settled(self, name: str) -> dict[tuple[str, int], VersionState]:
        """The available version of a model, or those that failed if none of the wanted ones is still to come."""
        managed = self._managed.get(name, {})
        states = {v: self._states[name][v] for v in managed}
        ready = [v for v, state in states.items() if state.state == AVAILABLE]
        if ready:
            return {(name, max(ready)): states[max(ready)]}
        failed = [v for v, state in states.items() if state.state == END and state.error]
        return {(name, max(failed)): states[max(failed)]} if failed and len(failed) == len(managed) else {}

    def _take_up(self, name: str) -> None:
        """Turns what is wanted into managed versions, unless one of it still unloads, and does what is to be done."""
        managed, wanted = self._managed[name], self._wanted.get(name)
        if wanted is not None and not any(
            version in managed and managed[version].phase is Phase.UNLOADING for version in wanted
        ):
            del self._wanted[name]
            for version, held in list(managed.items()):
                held.aspired = version in wanted
                if not held.aspired:
                    self._give_up(name, version, held)
            for version, path in wanted.items():
                if version not in managed:
                    managed[version] = _Version(path)
                    self._note(name, version, VersionState(START))
        self._advance(name)

    def _give_up(self, name: str, version: int, held: _Version) -> None:
        """Forgets a version that is no longer wanted and not loaded, nor being loaded."""
        waits = held.phase is Phase.LOADING and held.retry is not None
        if waits:
            held.retry.cancel()
        if waits or held.phase in (Phase.NEW, Phase.FAILED):
            del self._managed[name][version]
            self._note(name, version, VersionState(END, held.error))

    def _advance(self, name: str) -> None:
        """Does what the policy says until it says nothing."""
        managed = self._managed[name]
        while action := next_action(Managed(v, held.aspired, held.phase) for v, held in managed.items()):
            held = managed[action.version]
            if action.kind == "load":
                held.phase = Phase.LOADING
                self._note(name, action.version, VersionState(LOADING))
                self._loads.submit(self._try_load, name, action.version, held)
            else:
                held.phase = Phase.UNLOADING
                self._note(name, action.version, VersionState(UNLOADING))
                if not held.calls:
                    self._unload(name, held)

    def _try_load(self, name: str, version: int, held: _Version) -> None:
        """Loads a version, in a thread of its own; a failure is tried again later, or is the end."""
        with self._changed:
            held.retry = None
            if not held.aspired:
                self._managed[name].pop(version, None)
                self._note(name, version, VersionState(END, held.error))
                self._take_up(name)
                return
        try:
            model = self._load(name, version, held.path)
        except ServingError as error:
            self._failed(name, version, held, error)
        except Exception as error:  # a load must end in a state whatever it ends by
            _LOG.exception("%s version %d: the load ended by a defect", name, version)
            text = f"{type(error).__name__}: {error}"
            self._failed(name, version, held, ServingError(grpc.StatusCode.INTERNAL, text))
        else:
            with self._changed:
                held.model, held.phase, held.error = model, Phase.READY, None
                self._note(name, version, VersionState(AVAILABLE))
                self._take_up(name)

    def _failed(self, name: str, version: int, held: _Version, error: ServingError) -> None:
        _LOG.error("%s version %d cannot be loaded: %s", name, version, error)
        with self._changed:
            held.error = error
            held.failures += 1
            if held.aspired and held.failures <= self._settings.max_retries and not self._closed:
                held.retry = threading.Timer(self._settings.retry_s, self._again, (name, version, held))
                held.retry.daemon = True
                held.retry.start()
                return
            held.phase = Phase.FAILED
            if not held.aspired:
                self._managed[name].pop(version, None)
            self._note(name, version, VersionState(END, error))
            self._take_up(name)

    def _again(self, name: str, version: int, held: _Version) -> None:
        with self._changed:
            if held.retry is not None and not self._closed:
                self._loads.submit(self._try_load, name, version, held)

    def _unload(self, name: str, held: _Version) -> None:
        with contextlib.suppress(RuntimeError):  # the interpreter ends, and everything with it
            self._unloads.submit(self._close, name, held)

    def _close(self, name: str, held: _Version) -> None:
        """Ends the session of a version that no call uses any more."""
        if held.model is not None:
            held.model.close()
            held.model = None
        with self._changed:
            version = next((v for v, each in self._managed[name].items() if each is held), None)
            if version is not None:
                del self._managed[name][version]
                self._note(name, version, VersionState(END))
                self._take_up(name)

    def _note(self, name: str, version: int, state: VersionState) -> None:
        self._states[name][version] = state
        _LOG.info("%s version %d: state %d", name, version, state.state)
        self._changed.notify_all()

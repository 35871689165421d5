"""What says which models are served while a server runs: a models.config that is read again, or labelled releases."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from features import storage
from features.errors import ClickmillError
from serving.server.versions.model_configs import read_models_config
from serving.server.versions.model_manager import unavailable
from serving.server.versions.routing import Routing
from serving.server.versions.version_files import Policy, Watched

if TYPE_CHECKING:
    from serving.release.manifest import Release
    from serving.server.core import ServerCore

_LOG = logging.getLogger(__name__)

#: Versions of models: (name, version).
Versions = frozenset[tuple[str, int]]


class _Repeated:
    """Something that is done every few seconds in a thread of its own."""

    def __init__(self, name: str, every_s: float):
        self._every_s = every_s
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Begins."""
        if self._every_s:
            self._thread.start()

    def stop(self) -> None:
        """Ends."""
        self._stopped.set()

    def step(self) -> None:
        """Is done again and again."""
        raise NotImplementedError

    def _run(self) -> None:
        while not self._stopped.wait(self._every_s):
            try:
                self.step()
            except (ClickmillError, OSError) as error:
                _LOG.error("what is served stays as it is: %s", error)
            except Exception:
                _LOG.exception("what is served stays as it is")


class ConfigFile(_Repeated):
    """Reads a models.config again every few seconds and serves what it says.

    A label that was refused is taken once its version is available, as in TensorFlow Serving, for the file is applied
    whether or not it has changed.

    Args:
      core: serves.
      path: of the file.
      every_s: seconds between two looks.
    """

    def __init__(self, core: ServerCore, path: str, every_s: float):
        super().__init__("models-config", every_s)
        self._core, self._path = core, path

    def step(self) -> None:
        """Reads the file and serves what it says."""
        self._core.apply(read_models_config(self._path))


class ReleaseFollower(_Repeated):
    """Serves the releases that labels name, and follows the labels.

    A label that has moved is followed in three steps: the versions of the new release are loaded beside the old ones;
    when all can be called, the label and the default versions of all models switch at once; those that no label needs
    are unloaded after `linger_s`. A release that cannot be loaded changes nothing.

    Args:
      core: serves; its configuration says which labels, and how long versions linger.
      root: the serving root.
    """

    def __init__(self, core: ServerCore, root: str):
        super().__init__("releases", core.config.poll_s)
        self._core, self._root = core, root
        self._served: dict[str, Release] = {}
        self._refused: dict[str, str] = {}
        self._lingering: list[tuple[float, Versions]] = []

    def start(self) -> None:
        """Serves the labelled releases, returns when all of their models can be called, and follows from then on.

        Raises:
          InputError: if a label names no release.
          ServingError: UNKNOWN if a model cannot be loaded.
        """
        releases = self._labelled()
        if not self._switch(releases):
            manager, versions = self._core.manager, sorted(_versions(releases.values()))
            failed = {key: manager.states(key[0])[key[1]] for key in versions if manager.has_failed(*key)}
            raise unavailable(failed, "servable")
        super().start()

    def step(self) -> None:
        """Looks whether a label has moved, and follows it; unloads what has lingered long enough."""
        releases = self._labelled()
        ids = {label: release.id for label, release in releases.items()}
        if ids != {label: release.id for label, release in self._served.items()} and ids != self._refused:
            self._refused = {} if self._switch(releases) else ids
        elif self._lingering and self._lingering[0][0] <= time.monotonic():
            self._lingering = [each for each in self._lingering if each[0] > time.monotonic()]
            self._watch(_versions(self._served.values()))

    def _labelled(self) -> dict[str, Release]:
        from serving.release.registry import Releases

        found = Releases(self._root)
        return {label: found.labelled(label) for label in self._core.config.labels}

    def _switch(self, releases: Mapping[str, Release]) -> bool:
        """Loads releases, then switches to them; false, and nothing has changed, if that cannot be done."""
        old, new = _versions(self._served.values()), _versions(releases.values())
        self._watch(old | new)
        if not self._loaded(releases, new):
            self._watch(old)
            return False
        self._core.route(_routing(releases))
        self._served = dict(releases)
        if old - new:
            self._lingering.append((time.monotonic() + self._core.config.linger_s, old - new))
        _LOG.info("serving %s", {label: release.id for label, release in releases.items()})
        return True

    def _loaded(self, releases: Mapping[str, Release], versions: Versions) -> bool:
        """Waits until versions can be called, one cannot be loaded, the labels move on, or the server ends."""
        ids = {label: release.id for label, release in releases.items()}
        while not self._core.manager.wait_for_versions(versions, self._every_s or None):
            failed = [key for key in sorted(versions) if self._core.manager.has_failed(*key)]
            if failed or self._stopped.is_set():
                _LOG.error("%s: %s cannot be loaded; what is served stays as it is", ids, failed)
                return False
            if self._served and {label: each.id for label, each in self._labelled().items()} != ids:
                return False
        return True

    def _watch(self, versions: Versions) -> None:
        """Wants these versions, and those that linger."""
        wanted = versions.union(*(each for _, each in self._lingering))
        by_name: dict[str, list[int]] = {}
        for name, version in sorted(wanted):
            by_name.setdefault(name, []).append(version)
        self._core.watch(
            [Watched(name, storage.join(self._root, name), Policy(versions=tuple(v))) for name, v in by_name.items()]
        )


def _versions(releases: Iterable[Release]) -> Versions:
    return frozenset((model.name, model.version) for release in releases for model in release.models)


def _routing(releases: Mapping[str, Release]) -> Routing:
    """The labels of releases; calls without a version get the release of the first that has the model."""
    labels: dict[str, dict[str, int]] = {}
    defaults: dict[str, int] = {}
    for label, release in releases.items():
        for model in release.models:
            labels.setdefault(model.name, {})[label] = model.version
            defaults.setdefault(model.name, model.version)
    return Routing(labels, defaults)

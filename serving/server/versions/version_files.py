"""Which versions lie below a base path, and which of them a policy wants; looked at again and again.

See sources/storage_path/file_system_storage_path_source.cc of tensorflow/serving.
"""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from features import storage
from serving.server.status import ServingError, invalid_argument

_LOG = logging.getLogger(__name__)
_NUMBER = re.compile(r"\s*[+-]?[0-9]+\s*", re.ASCII)
_LONGEST_NAME = 255
_INT64 = range(-(2**63), 2**63)

#: What `VersionWatcher` tells: the wanted versions of a model, by number with their folders.
Aspire = Callable[[str, Mapping[int, str]], None]


class Policy(NamedTuple):
    """Which of the versions that are there are wanted.

    Attributes:
      latest: so many of the highest.
      versions: these; None if it is not by number.
      everything: all of them.
    """

    latest: int = 1
    versions: tuple[int, ...] | None = None
    everything: bool = False


class Watched(NamedTuple):
    """A model whose versions are looked for: its name, its base path, and which versions are wanted."""

    name: str
    base_path: str
    policy: Policy = Policy()


def version_number(name: str) -> int | None:
    """Returns the version that a folder's name stands for, also `0001`; None if it stands for none."""
    if len(name) > _LONGEST_NAME or not _NUMBER.fullmatch(name):
        return None
    number = int(name)
    return number if number in _INT64 else None


def wanted_versions(watched: Watched) -> dict[int, str]:
    """Returns the wanted versions of a model that are there, by number with their folders.

    Raises:
      ServingError: INVALID_ARGUMENT if the base path is not there.
    """
    path = watched.base_path
    if not storage.is_folder(path):
        raise invalid_argument(
            f"Could not find base path {path} for servable {watched.name} with error NOT_FOUND: {path} not found"
        )
    found: dict[int, str] = {}
    for folder in storage.entries(path):
        number = version_number(storage.name(folder))
        if number is not None:
            found[number] = folder
    policy = watched.policy
    if policy.everything:
        return found
    if policy.versions is not None:
        for missing in set(policy.versions) - set(found):
            _LOG.warning("version %d of %s is wanted and not there", missing, watched.name)
        return {number: found[number] for number in found if number in policy.versions}
    if not found:
        _LOG.warning("no versions of %s below %s: its folders must be named by numbers", watched.name, path)
    return {number: found[number] for number in sorted(found)[-max(policy.latest, 1) :]}


class VersionWatcher:
    """Looks at base paths every few seconds, and tells which versions are wanted.

    A base path that is missing ends a look for all models, as in TensorFlow Serving: what is served stays.

    Args:
      aspire: is told.
      poll_s: seconds between two looks; 0 looks only when the models change.
    """

    def __init__(self, aspire: Aspire, poll_s: float = 1.0):
        self._aspire, self._poll_s = aspire, poll_s
        self._lock = threading.Lock()
        self._models: tuple[Watched, ...] = ()
        self._stop = threading.Event()
        self._said: str | None = None
        self._thread = threading.Thread(target=self._watch, name="versions", daemon=True)

    def start(self) -> None:
        """Begins to look again and again, unless `poll_s` is 0."""
        if self._poll_s:
            self._thread.start()

    def stop(self) -> None:
        """Ends that."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    @property
    def models(self) -> tuple[Watched, ...]:
        """The models that are watched."""
        return self._models

    def watch(self, models: Sequence[Watched]) -> None:
        """Watches other models from now on, looks at once, and wants no version of those that it no longer watches."""
        with self._lock:
            names = {each.name for each in models}
            gone = [each.name for each in self._models if each.name not in names]
            self._models = tuple(models)
            for name in gone:
                self._aspire(name, {})
        self.look()

    def look(self) -> None:
        """Looks once and tells what is wanted; a look that fails is logged and tells nothing."""
        with self._lock:
            try:
                found = [(each.name, wanted_versions(each)) for each in self._models]
            except (ServingError, OSError) as error:
                if str(error) != self._said:  # once, not every second
                    _LOG.error("the versions of all models stay as they are: %s", error)
                self._said = str(error)
                return
            self._said = None
            for name, versions in found:
                self._aspire(name, versions)

    def _watch(self) -> None:
        while not self._stop.wait(self._poll_s):
            self.look()

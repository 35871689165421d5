"""Reading the releases of a serving root: which there are, which of them a label names."""

from __future__ import annotations

import json
import os
import re

from features import storage
from features.config import SpecError, nearest, parse_model
from features.errors import InputError, NotFoundError
from serving.release.manifest import LABEL_PATTERN, LATEST, NAME_PATTERN, Release, created_at

RELEASES_FOLDER = "releases"
LABELS_FILE = "labels.json"


class Releases:
    """The releases of a serving root. Reading needs no lock and keeps nothing: every call reads what is there now.

    Example:
      release = Releases("serving_models").labelled("stable")

    Attributes:
      root: the serving root, a path or a URI.
    """

    def __init__(self, root: storage.AnyPath):
        """Opens nothing; a root without releases has none.

        Args:
          root: the folder that holds the models' folders, `releases/` and `labels.json`.
        """
        self.root = os.fspath(root)

    @property
    def folder(self) -> str:
        """The folder of the manifests."""
        return storage.join(self.root, RELEASES_FOLDER)

    def manifest_path(self, release_id: str) -> str:
        """Returns where the manifest of a release lies. Raises `InputError` for what cannot be an id."""
        if not re.fullmatch(NAME_PATTERN, release_id):
            raise InputError(f"{release_id!r} is no id of a release, as `20261126T073000-1f2e3d4c`.")
        return storage.join(self.folder, f"{release_id}.json")

    def path(self, inside: str) -> str:
        """Returns where something lies that a manifest names by its path in the root."""
        return storage.join(self.root, *inside.split("/"))

    def ids(self) -> list[str]:
        """Returns the ids of all releases, sorted, without reading the manifests."""
        return [storage.name(path).removesuffix(".json") for path in storage.entries(self.folder, "*.json")]

    def all(self) -> list[Release]:
        """Returns all releases, the newest first.

        Raises:
          SpecError: if a manifest is damaged or of another version of Clickmill.
        """
        found = [self.get(release_id) for release_id in self.ids()]
        return sorted(found, key=lambda release: (created_at(release), release.id), reverse=True)

    def get(self, release_id: str) -> Release:
        """Returns a release by its id.

        Raises:
          NotFoundError: if there is none.
          SpecError: if its manifest is damaged or of another version of Clickmill.
        """
        path = self.manifest_path(release_id)
        try:
            values = json.loads(storage.read_text(path))
        except FileNotFoundError as error:
            held = self.ids()
            there = f" It holds {len(held)}: `clickmill release list`." if held else " It holds none: `clickmill run`."
            near = nearest(release_id, held)
            raise NotFoundError(f"{self.root} has no release {release_id}.{near}{there}") from error
        except ValueError as error:
            raise SpecError(f"{path}: not valid JSON: {error}. It is no manifest of a release.") from error
        if not isinstance(values, dict):
            raise SpecError(f"{path}: expected an object. It is no manifest of a release.")
        release = parse_model(values, Release, path)
        if release.id != release_id:
            raise SpecError(f"{path}: it is the manifest of {release.id}. A manifest lies under its own id.")
        return release

    def labels(self) -> dict[str, str]:
        """Returns the id of the release that each label names; none where no label was set.

        Raises:
          SpecError: if `labels.json` is damaged.
        """
        path = storage.join(self.root, LABELS_FILE)
        try:
            values = json.loads(storage.read_text(path))
        except FileNotFoundError:
            return {}
        except ValueError as error:
            raise SpecError(
                f"{path}: not valid JSON: {error}. Write it again by `clickmill release promote`."
            ) from error
        if not isinstance(values, dict) or not all(isinstance(each, str) for each in values.values()):
            raise SpecError(f'{path}: expected an object of labels and ids of releases, as {{"stable": "…"}}.')
        return values

    def labelled(self, label: str) -> Release:
        """Returns the release that a label names; of `latest`, which is no label, the newest.

        Raises:
          NotFoundError: if there is no such label, or no release at all.
          SpecError: if `labels.json` or the manifest is damaged.
        """
        if label == LATEST:
            releases = self.all()
            if not releases:
                raise NotFoundError(f"{self.root} holds no release. `clickmill run` makes one of what it pushes.")
            return releases[0]
        labels = self.labels()
        if label not in labels:
            held = f"The labels there: {', '.join(sorted(labels))}." if labels else "No label is set there."
            raise NotFoundError(
                f"{self.root} has no label `{label}`.{nearest(label, labels)} {held} Set one by `clickmill release "
                f"promote ID --label {label}`."
            )
        try:
            return self.get(labels[label])
        except NotFoundError:
            # Moved since it was read, and the release before it pruned; a label that stays where it is names nothing.
            if self.labels() == labels:
                raise
            return self.labelled(label)

    def find(self, name: str) -> Release:
        """Returns a release by its id, by a label that names it, or the newest as `latest`.

        Raises:
          NotFoundError: if there is neither.
        """
        if name == LATEST or name in self.labels():
            return self.labelled(name)
        return self.get(name)


def check_label(label: str) -> str:
    """Returns a label that may be set. Raises `InputError` for what cannot be one."""
    if not re.fullmatch(LABEL_PATTERN, label) or label == LATEST:
        raise InputError(f"a label is small letters, digits, `_` and `-`, and not `{LATEST}`. Received: {label!r}")
    return label

"""The anchor: the version of a model that the losses of all later ones are judged against.

Each of many successors may lose a little less than a gate can show, and all of them together much. So beside the live
model stands an anchor: the last model that was shown to be better, the first one that was pushed, or one set by hand.
It lies in `<serving_dir>/<pipeline>_<model>_anchor/<version>/`, beside the folder that TF Serving watches: a copy that
outlives the pushed version (hard links, where the file system has them). The one before it is kept too: by that one the
anchor itself was judged, so a second run of the same input asks for the same two models and finds its evaluation.
"""

from __future__ import annotations

import json
import os
from datetime import datetime, timezone

from features import storage
from features.config import Strict, parse_model
from features.errors import NotFoundError

#: In the folder of an anchor's version: an `Anchor`.
ANCHOR_FILE = "anchor.json"

#: Written into every SavedModel by TensorFlow; holds a random id, so two exports never share it.
FINGERPRINT_FILE = "fingerprint.pb"
GRAPH_FILE = "saved_model.pb"

_KEPT = 2


class Anchor(Strict):
    """An anchor, as its folder says.

    Attributes:
      version: under which it was pushed.
      why: it is the anchor, as a sentence.
      since: when it became the anchor, ISO 8601 in UTC; of two in a folder the later one is the anchor.
    """

    version: str
    why: str
    since: str


def anchor_dir(push_dir: storage.AnyPath) -> str:
    """The folder of a model's anchors, beside that of its pushed versions."""
    return f"{os.fspath(push_dir).rstrip('/')}_anchor"


def read_anchors(push_dir: storage.AnyPath) -> list[tuple[str, Anchor]]:
    """The folders of a model's anchors, and what they are: the anchor, then the one before it; none where none is.

    Raises:
      SpecError: if a record is of another version of Clickmill.
    """
    found = []
    for folder in storage.entries(anchor_dir(push_dir)):
        record = storage.join(folder, ANCHOR_FILE)
        if storage.is_file(storage.join(folder, GRAPH_FILE)) and storage.is_file(record):
            found.append((folder, parse_model(json.loads(storage.read_text(record)), Anchor, record)))
    return sorted(found, key=lambda each: each[1].since, reverse=True)


def find_anchor(push_dir: storage.AnyPath, candidate: storage.AnyPath) -> str | None:
    """The folder of the anchor that a candidate is judged against; None if there is none.

    The candidate may be the anchor by now, after its push: then it was the one before.
    """
    own = identity(candidate)
    return next((folder for folder, _ in read_anchors(push_dir) if identity(folder) != own), None)


def move_anchor(push_dir: storage.AnyPath, saved_model: storage.AnyPath, version: str, why: str) -> Anchor:
    """Makes a copy of a version the anchor; its folder appears whole. Returns what it says."""
    anchor = Anchor(version=version, why=why, since=datetime.now(timezone.utc).isoformat(timespec="microseconds"))
    with storage.publishing(storage.join(anchor_dir(push_dir), version), replace=True) as folder:
        storage.copy_tree(saved_model, folder)
        storage.write_text(storage.join(folder, ANCHOR_FILE), anchor.model_dump_json(indent=2) + "\n")
    for folder, _ in read_anchors(push_dir)[_KEPT:]:
        storage.delete(folder)
    return anchor


def set_anchor(push_dir: storage.AnyPath, version: str | None = None) -> Anchor:
    """Makes a pushed version the anchor by hand: the latest one by default. Returns what its folder says.

    Raises:
      NotFoundError: if there is no such version.
    """
    versions = pushed_versions(push_dir)
    if version is None and versions:
        version = storage.name(versions[0])
    chosen = next((path for path in versions if storage.name(path) == version), None)
    if chosen is None:
        there = ", ".join(map(storage.name, versions)) or "none"
        raise NotFoundError(f"{os.fspath(push_dir)} has no pushed version {version or ''}. Versions there: {there}.")
    return move_anchor(push_dir, chosen, storage.name(chosen), "It was set by hand.")


def pushed_versions(push_dir: storage.AnyPath) -> list[str]:
    """The folders of a model's pushed versions, the latest first; one that is half copied is none."""
    versions = [path for path in storage.entries(push_dir) if storage.name(path).isdecimal()]
    versions = [path for path in versions if storage.is_file(storage.join(path, GRAPH_FILE))]
    return sorted(versions, key=lambda path: int(storage.name(path)), reverse=True)


def identity(saved_model: storage.AnyPath) -> bytes:
    """What tells an export from every other, wherever it was copied to."""
    file = storage.join(saved_model, FINGERPRINT_FILE)
    return storage.read_bytes(file if storage.is_file(file) else storage.join(saved_model, GRAPH_FILE))

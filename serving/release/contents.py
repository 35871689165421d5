"""What a release names, held against what lies in the serving root: missing or changed, it is not served."""

from __future__ import annotations

import hashlib

from features import storage
from features.errors import InputError, NotFoundError
from serving.release.manifest import Release, ReleasedFile, ReleasedModel, ReleasedTables
from serving.release.registry import Releases

GRAPH_FILE = "saved_model.pb"

_BLOCK = 1 << 20


def take_stock(folder: storage.AnyPath) -> tuple[ReleasedFile, ...]:
    """Returns the files below a folder with their sizes and digests, by path.

    Raises:
      NotFoundError: if it is no SavedModel.
    """
    if not storage.is_file(storage.join(folder, GRAPH_FILE)):
        raise NotFoundError(f"{folder} holds no {GRAPH_FILE}: push a model there before it is released.")
    start = len(storage.join(folder).rstrip("/")) + 1
    found = []
    for path in storage.files_under(folder):
        found.append(ReleasedFile(path=path[start:], bytes=storage.size(path), sha256=digest(path)))
    return tuple(found)


def digest(path: storage.AnyPath) -> str:
    """Returns the SHA-256 of a file, in hexadecimal digits. Raises `FileNotFoundError`."""
    found = hashlib.sha256()
    with storage.open_read(path) as file:
        while block := file.read(_BLOCK):
            found.update(block)
    return found.hexdigest()


def problems_of(releases: Releases, release: Release) -> list[str]:
    """Returns what is missing or changed of a release, a sentence each; none of one that can be served.

    Reads all files that have a digest, and opens the stores of bucket tables.

    Args:
      releases: of the root that the release lies in.
      release: the one to check.
    """
    found = []
    for model in release.models:
        found += model_problems(releases, model)
    for tables in release.tables:
        found += tables_problems(releases, tables)
    if release.catalogue is not None:
        path = releases.path(release.catalogue)
        if not storage.is_file(path):
            found.append(f"{path} is missing, the catalogue.")
        elif release.catalogue_sha256 and digest(path) != release.catalogue_sha256:
            found.append(f"{path} has changed, the catalogue.")
    if release.profiles is not None:
        found += profiles_problems(releases, release.profiles)
    if release.popular_items is not None and not storage.is_file(releases.path(release.popular_items)):
        found.append(f"{releases.path(release.popular_items)} is missing, the most clicked items.")
    return found


def model_problems(releases: Releases, model: ReleasedModel) -> list[str]:
    """Returns what is missing or changed of a model's version, a sentence each."""
    folder = releases.path(model.path)
    if not storage.is_file(storage.join(folder, GRAPH_FILE)):
        return [f"{folder} is missing, version {model.version} of {model.name}."]
    found = []
    for file in model.files:
        path = storage.join(folder, *file.path.split("/"))
        if not storage.is_file(path):
            found.append(f"{path} is missing.")
        elif storage.size(path) != file.bytes or digest(path) != file.sha256:
            found.append(f"{path} has changed since it was released.")
    return found


def tables_problems(releases: Releases, tables: ReleasedTables) -> list[str]:
    """Returns why bucket tables cannot be read, as a sentence; nothing where they can."""
    from serving.user_stores.bse.store import BseStore

    try:
        BseStore(releases.path(tables.path), tables.version).close()
    except (InputError, OSError) as error:
        return [f"the bucket tables of {tables.model}: {error}"]
    return []


def profiles_problems(releases: Releases, inside: str) -> list[str]:
    """Returns why users' profiles cannot be read, as a sentence; nothing where they can."""
    from serving.user_stores.profiles.store import open_profiles

    try:
        open_profiles(releases.path(inside)).close()
    except (InputError, OSError) as error:
        return [f"the users' profiles: {error}"]
    return []

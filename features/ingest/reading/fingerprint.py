"""What stands behind a path, as a string that changes when the files do."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable

from features import storage
from features.errors import NotFoundError


def fingerprint_files(files: Iterable[tuple[str, int, float]]) -> str:
    """Returns a digest of (path, bytes, modification time) of files, in any order.

    The names count: renaming a file changes the digest. The contents are not read, as in TFX's ExampleGen: logs are
    too large to be read twice.
    """
    listed = sorted((path, int(size), float(modified)) for path, size, modified in files)
    return hashlib.sha256(json.dumps(listed).encode()).hexdigest()


def match_files(path: str) -> list[tuple[str, int, float]]:
    """Lists (path, bytes, modification time) of a file, of a directory's files (recursively) or of a glob's matches.

    Raises:
      NotFoundError: if nothing is there.
    """
    files = [(file, storage.size(file), storage.modified(file)) for file in storage.match(path)]
    if not files:
        raise NotFoundError(f"No file matches `{path}`.")
    return files


def fingerprint_paths(paths: Iterable[str]) -> str:
    """Returns the digest of everything behind the paths; see `match_files` and `fingerprint_files`."""
    return fingerprint_files(item for path in paths for item in match_files(path))

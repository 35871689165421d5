"""What a store was built from: which files, and up to which time."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence

import pyarrow.compute as pc

from features import storage
from features.arrow import open_parquet
from features.histories.windows import TIMESTAMP


def fingerprint(files: Sequence[str], facts: list) -> str:
    """Returns a digest of names, sizes and modification times of files, and of what else a build depends on."""
    listed = [(storage.name(path), storage.size(path), storage.modified(path)) for path in files]
    return hashlib.sha256(json.dumps([listed, *facts]).encode()).hexdigest()


def end_of_log(files: Sequence[str]) -> int:
    """Returns the millisecond after the newest behaviour of a log, so that all are before it; 0 without any."""
    newest = -1
    for path in files:
        with open_parquet(path) as file:
            for batch in file.iter_batches(columns=[TIMESTAMP]):
                found = pc.max(batch[TIMESTAMP].flatten()).as_py()
                newest = newest if found is None else max(newest, found)
    return newest + 1

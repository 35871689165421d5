"""The folders that LogIngest writes to: emptied of what an earlier run left there, before anything is written."""

from __future__ import annotations

from features import storage
from features.errors import OccupiedError
from features.examples.shards import KEPT_DIR, USERS_DIR
from features.ingest.config import SPLITS
from features.ingest.counts import COUNTS_FILE
from features.ingest.joining.spill import SPILLED_ROWS
from features.ingest.spans.accounts import SPANS_FILE
from features.items.catalogue import CATALOGUE_FILE

_SCRATCH = ("_items-*.arrow", SPILLED_ROWS)


def clear_outputs(examples_dir: str, behaviors_dir: str, dead_letters_dir: str) -> None:
    """Deletes what an earlier run wrote, whole or not, so that the outcome is that of new folders.

    `counts.json`, which stands for a complete ingestion, goes first; it comes back last.

    Raises:
      OccupiedError: if something else lies among the splits. Nothing was deleted then.
    """
    splits = storage.entries(examples_dir, "Split-*")
    for split in splits:
        known = storage.name(split) in [f"Split-{name}" for name in SPLITS]
        ours = _written(split, "requests-*.parquet") if known else []
        for path in _everything(split):
            if path not in ours:
                raise OccupiedError(
                    f"{path} was not written by LogIngest, and readers of {examples_dir} would take it for requests: "
                    "move it away, or ingest into another folder."
                )
    catalogue = storage.join(examples_dir, CATALOGUE_FILE)
    users = storage.join(examples_dir, USERS_DIR)
    kept = storage.entries(storage.join(examples_dir, KEPT_DIR), "Split-*")
    for path in (
        *_written(examples_dir, COUNTS_FILE),
        *_written(examples_dir, SPANS_FILE),
        *splits,
        *_written(storage.parent(catalogue), storage.name(catalogue)),
        *_written(users, "users-*.parquet"),
        *(path for split in kept for path in _written(split, "requests-*.parquet")),
        *(path for pattern in _SCRATCH for path in _written(examples_dir, pattern)),
        *_written(behaviors_dir, "behaviors-*.parquet"),
        *_written(dead_letters_dir, "dead_letters-*.parquet"),
    ):
        storage.delete(path)
    for folder in (storage.parent(catalogue), users, *kept, storage.join(examples_dir, KEPT_DIR)):
        if not _everything(folder):
            storage.delete(folder)


def drop_scratch(examples_dir: str) -> None:
    """Deletes the rows that waited for their shard, and the items that all shards read."""
    for path in (path for pattern in _SCRATCH for path in _written(examples_dir, pattern)):
        storage.delete(path)


def _everything(folder: str) -> list[str]:
    return [*storage.entries(folder), *storage.entries(folder, ".*")]


def _written(folder: str, pattern: str) -> list[str]:
    """Returns files of a pattern in a folder, those too that a killed run had not finished (`storage.aside`)."""
    return [*storage.entries(folder, pattern), *storage.entries(folder, f".{pattern}.*.tmp")]

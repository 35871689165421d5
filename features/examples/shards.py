"""Where the requests of a split lie, in raw and in encoded examples (docs/reference/data_formats.md)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from features import storage
from features.arrow import open_parquet, splits_of
from features.errors import NotFoundError
from features.storage import AnyPath

#: In encoded examples: the folder of the behaviour log.
BEHAVIORS_DIR = "behaviors"


def behaviors_file(requests: AnyPath) -> str:
    """Returns the name of the file of the behaviour log that a file of requests refers to."""
    return storage.name(requests).replace("requests-", "behaviors-", 1)


def list_shards(examples_dir: AnyPath, split: str) -> list[str]:
    """Returns the Parquet files of a split in shard order.

    Raises:
      NotFoundError: if the split has none; the message names the splits that are there.
    """
    folder = storage.join(examples_dir, f"Split-{split}")
    shards = storage.entries(folder, "requests-*.parquet")
    if not shards:
        present = [storage.name(path).removeprefix("Split-") for path in storage.entries(examples_dir, "Split-*")]
        raise NotFoundError(
            f"{folder}: split `{split}` has no requests-*.parquet. Splits there: {', '.join(present) or 'none'}."
        )
    return shards


def rows_of(shard: AnyPath) -> int:
    """Returns the rows of a Parquet file."""
    with open_parquet(shard) as file:
        return int(file.metadata.num_rows)


def draw_requests(shards: Sequence[str], count: int, seed: int) -> list[tuple[str, np.ndarray]]:
    """Draws requests of a split uniformly, without replacement; all where there are fewer.

    Returns:
      Of each shard that any was drawn from, the file and the rows, both in order.
    """
    sizes = [rows_of(path) for path in shards]
    drawn = np.sort(np.random.default_rng(seed).permutation(sum(sizes))[:count])
    parts = np.split(drawn, np.searchsorted(drawn, np.cumsum(sizes)[:-1]))
    found = [(path, rows - first) for path, rows, first in zip(shards, parts, splits_of(sizes), strict=False)]
    return [(path, rows) for path, rows in found if len(rows)]

"""Where the requests of a split lie, in raw and in encoded examples (docs/data_formats.md)."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq


def list_shards(examples_dir: str | os.PathLike, split: str) -> list[Path]:
    """Returns the Parquet files of a split in shard order.

    Raises:
      FileNotFoundError: if the split has none; the message names the splits that are there.
    """
    folder = Path(examples_dir, f"Split-{split}")
    shards = sorted(folder.glob("requests-*.parquet"))
    if not shards:
        present = sorted(path.name.removeprefix("Split-") for path in folder.parent.glob("Split-*"))
        raise FileNotFoundError(
            f"{folder}: split `{split}` has no requests-*.parquet. Splits there: {', '.join(present) or 'none'}."
        )
    return shards


def draw_requests(shards: Sequence[Path], count: int, seed: int) -> list[tuple[Path, np.ndarray]]:
    """Draws requests of a split uniformly, without replacement; all where there are fewer.

    Returns:
      Of each shard that any was drawn from, the file and the rows, both in order.
    """
    sizes = [pq.read_metadata(path).num_rows for path in shards]
    drawn = np.sort(np.random.default_rng(seed).permutation(sum(sizes))[:count])
    parts = np.split(drawn, np.searchsorted(drawn, np.cumsum(sizes)[:-1]))
    firsts = np.cumsum([0] + sizes)
    found = [(path, rows - first) for path, rows, first in zip(shards, parts, firsts, strict=False)]
    return [(path, rows) for path, rows in found if len(rows)]


def link(source: Path, target: Path) -> None:
    """The same file under another name, in a folder that is made for it; a copy where the file system has no links."""
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def link_tree(source: str | os.PathLike, target: str | os.PathLike) -> None:
    """Links every file under a folder, `link` by `link`, to the same place under another."""
    for path in sorted(path for path in Path(source).rglob("*") if path.is_file()):
        link(path, Path(target) / path.relative_to(source))

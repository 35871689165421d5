"""Where the requests of a split lie, in raw and in encoded examples (docs/data_formats.md)."""

from __future__ import annotations

import os
from pathlib import Path


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

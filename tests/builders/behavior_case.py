"""A raw behaviour log of two shards, and an encoder whose embeddings are known, for tests of bucket tables."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from features.histories.bucket_table import BucketTable
from features.histories.time_gaps import gap_buckets
from features.items.simhash import SimHash, SimHashConfig
from features.spec import HistorySpec

DIM = 6
HISTORY = HistorySpec(features=("item_id", "tags"), short_length=3, long_length=10)
UNKNOWN = "item 9"
#: UTC milliseconds of the first behaviour of each user; one follows another after six hours.
START, EVERY = 1_700_000_000_000, 6 * 3_600_000


def embed(item: str, tags: list) -> np.ndarray:
    """Depends on both features, so that mixed up rows are seen."""
    seed = int(item.split()[1]) if item else 0
    return np.random.default_rng(seed).normal(size=DIM).astype(np.float32) + np.float32(sum(tags or []))


class TableEncoder:
    """Encodes row by row, and remembers how often it met each item."""

    history = HISTORY
    simhash = SimHashConfig(seed=5)
    dim = DIM

    def __init__(self, gap_weights: np.ndarray | None = None):
        self.met: list[str] = []
        self.gap_weights = gap_weights

    def encode(self, behaviors: pa.Table):
        items, tags = behaviors["item_id"].to_pylist(), behaviors["tags"].to_pylist()
        self.met += items
        values = np.stack([embed(*each) for each in zip(items, tags, strict=True)])
        signatures = SimHash(DIM, self.simhash).signatures(values).astype(np.int32)
        known = np.array([item != UNKNOWN for item in items])
        signatures[~known] = -1
        return values, signatures, known


def histories(users: int, seed: int = 0) -> dict[str, list[str | None]]:
    """{user: items, oldest first}: none, few, and more than both windows hold; some items are null."""
    generator = np.random.default_rng(seed)
    lengths = [0, 1, 3, 4, 13, 14, 60] + generator.integers(0, 40, max(0, users - 7)).tolist()
    made = {}
    for user, length in enumerate(lengths[:users]):
        items = [f"item {item}" for item in generator.integers(0, 30, length)]
        made[f"user {user:05d}"] = [None if generator.random() < 0.03 else item for item in items]
    return made


def tags_of(item: str | None) -> list[int] | None:
    """A multi-valued feature of items: none, or some."""
    return None if item is None or item.endswith("7") else list(range(int(item.split()[1]) % 3))


def times_of(items: list) -> list[int]:
    """When a user met his items."""
    return [START + EVERY * number for number in range(len(items))]


def write_log(directory: Path, users: dict, shards: int = 2, row_group_size: int = 1 << 14) -> list[str]:
    """Writes `behaviors-*.parquet`; users go to the shards in turn."""
    directory.mkdir(parents=True, exist_ok=True)
    names = sorted(users)
    for shard in range(shards):
        mine = names[shard::shards]
        table = pa.table(
            {
                "user_id": pa.array(mine, pa.string()),
                "timestamp": pa.array([times_of(users[user]) for user in mine], pa.list_(pa.int64())),
                "item_id": pa.array([users[user] for user in mine], pa.list_(pa.string())),
                "tags": pa.array(
                    [[tags_of(item) for item in users[user]] for user in mine], pa.list_(pa.list_(pa.int64()))
                ),
            }
        )
        path = directory / f"behaviors-{shard:05d}-of-{shards:05d}.parquet"
        pq.write_table(table, path, compression="zstd", row_group_size=row_group_size)
    return sorted(map(str, directory.glob("behaviors-*.parquet")))


def expected_table(items: list[str | None], as_of: int | None = None, weights: np.ndarray | None = None) -> BucketTable:
    """The table of a history by its definition: cut the window, embed, sign and age each behaviour, add them up."""
    pairs = [(item, time) for item, time in zip(items, times_of(items), strict=True) if as_of is None or time < as_of]
    window = pairs[: max(0, len(pairs) - HISTORY.short_length)][-HISTORY.long_length :]
    window = [(item, time) for item, time in window if item not in (None, UNKNOWN)]
    values = np.array([embed(item, tags_of(item)) for item, _ in window], np.float32).reshape(-1, DIM)
    config = TableEncoder.simhash
    signed = SimHash(DIM, config).signatures(values)
    if weights is not None:
        values = values * weights[gap_buckets(as_of, np.array([time for _, time in window], np.int64)), np.newaxis]
    return BucketTable.build(values, signed, config.num_buckets)

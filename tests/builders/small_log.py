"""A small log, raw and encoded, written by the real encoder."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from features.encoding.encode import encode_file
from features.encoding.feature_encoding import FeatureEncoding
from features.encoding.fit import encoding_of, summarise_file
from features.histories.windows import attach_histories, read_behaviors
from features.items.catalogue import CATALOGUE_FILE
from features.spec import FeatureSpec

SPEC = FeatureSpec.model_validate(
    {
        "name": "small",
        "embedding_dim": 8,
        "features": [
            {"name": "age", "table": "users"},
            {"name": "interests", "table": "users", "kind": "multi_categorical"},
            {"name": "hour", "table": "impressions", "kind": "numeric", "transform": "standardize"},
            {"name": "item_id", "table": "items", "dtype": "int64"},
            {"name": "category", "table": "items"},
            {"name": "title", "table": "items", "kind": "multi_categorical"},
            {"name": "price", "table": "items", "kind": "numeric", "transform": "log_squared"},
        ],
        "history": {"features": ["item_id", "category"], "short_length": 3, "long_length": 4},
    }
)
#: The same with a history feature of several values.
MULTI_VALUED = SPEC.model_copy(
    update={"history": SPEC.history.model_copy(update={"features": ("item_id", "title", "category")})}
)
NUM_SHARDS = 3
SHARD_REQUESTS = 60
NUM_USERS = 7
#: Logs hold items 0 to 29; the last ones are not in the catalogue.
CATALOGUE_ITEMS = 27
CATEGORIES = np.array(["a", "b", "c"])
#: UTC milliseconds: requests come in the quarter of an hour after it, behaviours in the year before.
NOW = 1_700_000_000_000


def raw_requests(rng: np.random.Generator, shard: int) -> pa.Table:
    """Requests whose clicks follow age × category, so that there is something to learn."""
    sizes = rng.integers(1, 7, SHARD_REQUESTS)
    offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int32)
    total = int(offsets[-1])
    items = rng.integers(0, 30, total)
    ages = rng.choice(["young", "old"], SHARD_REQUESTS)
    age_of = np.repeat(ages, sizes)
    liked = np.where(age_of == "young", CATEGORIES[items % 3] == "a", CATEGORIES[items % 3] == "b")
    clicks = (rng.random(total) < np.where(liked, 0.9, 0.1)).astype(np.float32)

    def lists(values) -> pa.Array:
        return pa.ListArray.from_arrays(pa.array(offsets), values if isinstance(values, pa.Array) else pa.array(values))

    titles = pa.array([[f"t{i % 5}", f"t{i % 4}"][: i % 3] for i in items.tolist()], pa.list_(pa.string()))
    users = rng.integers(-1, NUM_USERS, SHARD_REQUESTS)
    return pa.table(
        {
            "request_id": [f"{shard}-{i}" for i in range(SHARD_REQUESTS)],
            "timestamp": NOW + np.sort(rng.integers(0, 10**6, SHARD_REQUESTS)),
            "user_id": [f"u{u}" for u in users],
            "history_end": np.where(users < 0, 0, rng.integers(0, np.maximum(users, 0) * 2 + 1)),
            "user_index": pa.array(users, pa.int32()),
            "item_id": lists(items),
            "position": lists(np.concatenate([np.arange(n) for n in sizes]).astype(np.int32)),
            "click": lists(clicks),
            "age": ages,
            "interests": pa.array([[f"i{u % 3}"] * (u % 3) for u in users.tolist()], pa.list_(pa.string())),
            "hour": pa.array(rng.normal(size=SHARD_REQUESTS)),
            "category": lists(CATEGORIES[items % 3]),
            "title": lists(titles),
            "price": lists(rng.random(total) * 50),
        }
    )


def raw_titles(items: list[int]) -> list[list[str | None] | None]:
    """Of behaviours: none, one or two words, words that train never saw, and nothing at all of unknown items."""

    def title(item: int) -> list[str | None] | None:
        if item >= CATALOGUE_ITEMS:
            return None
        return ["unseen", "", "t1"] if item % 11 == 4 else [f"t{item % 5}", None, f"t{item % 4}"][: 2 * (item % 3)]

    return [title(item) for item in items]


def raw_behaviors(rng: np.random.Generator) -> pa.Table:
    """User u has 2u behaviours: histories shorter and longer than both windows."""
    offsets = np.concatenate([[0], np.cumsum(2 * np.arange(NUM_USERS))]).astype(np.int32)
    items = rng.integers(0, 30, int(offsets[-1]))

    def lists(values) -> pa.Array:
        return pa.ListArray.from_arrays(pa.array(offsets), values if isinstance(values, pa.Array) else pa.array(values))

    return pa.table(
        {
            "user_id": [f"u{u}" for u in range(NUM_USERS)],
            "timestamp": lists(np.concatenate([_times(2 * user) for user in range(NUM_USERS)])),
            "item_id": lists(items),
            "category": lists(CATEGORIES[items % 3]),
            "title": lists(pa.array(raw_titles(items.tolist()), pa.list_(pa.string()))),
        }
    )


def _times(count: int) -> np.ndarray:
    """Times of a user's behaviours, ever closer to each other: from over a year ago to ten seconds."""
    return NOW - np.geomspace(4e10, 1e4, count).astype(np.int64)


def raw_catalogue() -> pa.Table:
    items = np.arange(CATALOGUE_ITEMS)
    return pa.table(
        {
            "item_id": items,
            "category": CATEGORIES[items % 3],
            "title": pa.array([[f"t{i % 5}", f"t{i % 4}"][: i % 3] for i in items.tolist()], pa.list_(pa.string())),
            "price": items / 2.0,
        }
    )


def write_raw_log(raw: Path, seed: int = 7) -> None:
    """Writes raw examples: splits train and eval, behaviours, catalogue."""
    rng = np.random.default_rng(seed)
    for shard in range(NUM_SHARDS):
        name = f"{shard:05d}-of-{NUM_SHARDS:05d}.parquet"
        for split in ("train", "eval"):
            path = raw / f"Split-{split}" / f"requests-{name}"
            path.parent.mkdir(exist_ok=True)
            pq.write_table(raw_requests(rng, shard), path)
        path = raw / "behaviors" / f"behaviors-{name}"
        path.parent.mkdir(exist_ok=True)
        pq.write_table(raw_behaviors(rng), path)
    catalogue = raw / CATALOGUE_FILE
    catalogue.parent.mkdir()
    pq.write_table(raw_catalogue(), catalogue)


def encode_log(raw: Path, encoded: Path, spec: FeatureSpec = SPEC) -> FeatureEncoding:
    """Writes the encoded examples, and returns their encoding, which is fitted on train."""
    states = None
    for path in sorted(raw.glob("Split-train/*.parquet")):
        (found,) = summarise_file(str(path), spec)
        if states is None:
            states = found
        else:
            for feature, state in found.items():
                states[feature].merge(state)
    encoding = encoding_of(spec, states)
    ids = raw_catalogue()["item_id"]
    for path in sorted(raw.glob("*/*.parquet")):
        kind = {"behaviors": "behaviors", "catalogue": "catalogue"}.get(path.parent.name, "requests")
        encode_file(encoding, str(path), str(encoded / path.relative_to(raw)), kind, ids)
    return encoding


def raw_rows(raw: Path, spec: FeatureSpec) -> pa.Table:
    """The raw requests of split eval with their windows, in the order of the encoded shards."""
    tables = []
    for path in sorted(raw.glob("Split-eval/*.parquet")):
        behaviors = read_behaviors(raw / "behaviors", path, spec.history)
        tables.append(attach_histories(pq.read_table(path), behaviors, spec.history))
    return pa.concat_tables(tables).combine_chunks()

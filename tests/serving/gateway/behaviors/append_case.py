"""A small shop whose behaviours are appended: its stores, built from any part of its events, and a release of them.

The ranker is `behavior_case.TableEncoder`, known numbers without a model; who asks a server for them asks `Encodes`.
"""

from __future__ import annotations

import asyncio
import dataclasses
import types
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from features.histories.build_tables import build_tables
from features.spec import FeatureSpec
from serving.gateway.behaviors import BehaviorWriter
from serving.gateway.schema import BehaviorEvent
from serving.saved.signature_specs import HistoryInputs
from serving.user_stores.bse.build import StoreBuilder
from serving.user_stores.bse.record import Precision, RecordLayout
from serving.user_stores.bse.store import BseStore
from serving.user_stores.profiles.build import build_profiles, profile_version
from serving.user_stores.profiles.store import ProfileStore
from tests.builders.behavior_case import DIM, HISTORY, START, TableEncoder, tags_of

VERSION = "v1"
#: Of the events of the crash tests, how many the stores are built from.
KNOWN = 50
SPEC = FeatureSpec.model_validate(
    {
        "name": "shop",
        "features": [
            {"name": "age_band", "table": "users"},
            {"name": "item_id", "table": "items"},
            {"name": "tags", "table": "items", "kind": "multi_categorical", "dtype": "int64"},
        ],
        "history": HISTORY.model_dump(),
    }
)
INPUTS = HistoryInputs(
    short_features=HISTORY.features,
    long_features=HISTORY.features,
    short_length=HISTORY.short_length,
    long_length=HISTORY.long_length,
    version=VERSION,
    simhash=TableEncoder.simhash,
    dim=DIM,
)

Event = tuple[str, int, str]


def random_events(count: int, users: int, seed: int = 0) -> list[Event]:
    """(user, time, item) in the order in which they come: mostly that of time, some of them late, none twice."""
    generator = np.random.default_rng(seed)
    whose = np.minimum(generator.geometric(3.0 / users, count), users) - 1  # few do most
    times = (
        START
        + 1000 * np.arange(count)
        - 1000 * np.where(generator.random(count) < 0.2, generator.integers(0, count, count), 0)
    )
    items = generator.integers(0, 30, count)  # the ranker knows no signature of item 9
    found = [(f"user {u}", int(t), f"item {i}") for u, t, i in zip(whose, times, items, strict=True)]
    return list(dict.fromkeys(found))


def write_events(folder: Path, events: list[Event]) -> None:
    """Writes the behaviour log of events, one shard: sorted by user and time, of one time as they came."""
    folder.mkdir(parents=True, exist_ok=True)
    rows: dict[str, list[tuple[int, str]]] = {}
    for user, time, item in events:
        rows.setdefault(user, []).append((time, item))
    users = sorted(rows)
    lists = [sorted(rows[user], key=lambda row: row[0]) for user in users]
    table = {
        "user_id": pa.array(users, pa.string()),
        "timestamp": pa.array([[time for time, _ in row] for row in lists], pa.list_(pa.int64())),
        "item_id": pa.array([[item for _, item in row] for row in lists], pa.list_(pa.string())),
        "tags": pa.array([[tags_of(item) for _, item in row] for row in lists], pa.list_(pa.list_(pa.int64()))),
    }
    pq.write_table(pa.table(table), folder / "behaviors-00000-of-00001.parquet")


def build_shop(root: Path, events: list[Event], precision: Precision = "fp32") -> None:
    """Builds both stores of a shop from the log of some events: `tables` and `profiles` in `root`."""
    write_events(root / "log", events)
    layout = RecordLayout(TableEncoder.simhash.num_groups, TableEncoder.simhash.num_buckets, DIM, precision)
    as_of = START + 10**12
    with StoreBuilder(root / "tables", VERSION, layout, HISTORY) as builder:
        build_tables([str(root / "log/behaviors-00000-of-00001.parquet")], TableEncoder(), builder.writer, as_of=as_of)
        builder.publish({"as_of": as_of})
    build_profiles(SPEC, root / "examples", root / "log", root / "profiles", as_of=as_of, force=True)


class Encodes:
    """Answers as a server of the ranker would.

    Attributes:
      error: what it raises instead of an answer.
      calls: behaviours of each call so far.
    """

    def __init__(self):
        self.error: Exception | None = None
        self.calls: list[int] = []

    async def predict(self, model, signature, tensors, outputs, until):
        assert (model, signature) == ("the ranker", "encode_behaviors")
        await asyncio.sleep(0)
        if self.error is not None:
            raise self.error
        items = [item.decode() for item in tensors["item_id"]]
        counts = tensors["tags_num_values"]
        tags = [row[:count].tolist() for row, count in zip(tensors["tags"], counts, strict=True)]
        self.calls.append(len(items))
        found = TableEncoder().encode(pa.table({"item_id": items, "tags": pa.array(tags, pa.list_(pa.int64()))}))
        return dict(zip(outputs, found, strict=True))


@dataclasses.dataclass
class OpenShop:
    """An open release of a shop, as the gateway opens it. Use it in `with`."""

    root: Path
    spec = SPEC
    history = INPUTS
    release = types.SimpleNamespace(id="release 1")
    fine = types.SimpleNamespace(released="the ranker", signatures={"encode_behaviors": frozenset(HISTORY.features)})

    def __enter__(self):
        self.tables = BseStore(self.root / "tables", VERSION, follow=True)
        self.profiles = ProfileStore(self.root / "profiles", profile_version(SPEC), follow=True)
        return self

    def __exit__(self, *error):
        self.tables.close()
        self.profiles.close()

    def with_catalogue_features(self, candidates):
        return [{"tags": tags_of(each["item_id"]), **each} for each in candidates]


def posted(events: list[Event]) -> list[BehaviorEvent]:
    """Events as they are posted."""
    return [BehaviorEvent(user=user, timestamp=time, item_id=item) for user, time, item in events]


async def append_all(view: OpenShop, events: list[Event], client: Encodes | None = None, each: int = 1) -> int:
    """Appends events, some at a time; returns how many were new."""
    writer = await BehaviorWriter.open(view, client or Encodes())
    try:
        return sum([(await writer.append(posted(events[i : i + each]))).appended for i in range(0, len(events), each)])
    finally:
        writer.close()


def contents(root: Path) -> tuple[dict, dict]:
    """All that the stores of a shop hold: `{user: bytes}` of tables and profiles, bit for bit."""
    with BseStore(root / "tables", VERSION) as tables, ProfileStore(root / "profiles") as profiles:
        assert tables.verify().num_faults == profiles.verify().num_faults == 0
        found = {user: table.sums.tobytes() + table.counts.tobytes() for user, table in tables}
        return found, {user: profiles.record(user) for user in profiles.users()}

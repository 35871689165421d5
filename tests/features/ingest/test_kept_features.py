"""What models that are compared read beside the spec: kept beside the examples, seen by nothing that learns."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from features.errors import UnscorableError
from features.examples.shards import kept_file, list_shards, request_batches
from features.histories.windows import read_behaviors
from features.ingest.checking.kept import KeptFeatures
from features.ingest.config import IngestConfig
from features.ingest.ingest_logs import run_ingest
from features.spec import FeatureSpec
from tests.builders.ingest_case import SPEC, USERS, T, clicks, impressions, write

#: What a model that is live was trained with: the spec of the log's tests, and features that it no longer names.
LIVE = FeatureSpec.model_validate(
    SPEC.model_dump()
    | {
        "features": [
            *SPEC.model_dump()["features"],
            {"name": "mood", "table": "users"},
            {"name": "colour", "table": "items", "kind": "multi_categorical"},
            {"name": "floor", "table": "impressions", "dtype": "int64", "scope": "candidate"},
            {"name": "gone", "table": "items"},
            {"name": "cost", "table": "items", "column": "price", "dtype": "string"},
        ],
        "history": {"features": ["item_id", "colour", "gone"], "short_length": 7},
    }
)
ROWS = 240


@pytest.fixture(scope="module")
def tables():
    rng = np.random.default_rng(0)
    rows = [(f"r{i // 3}", T + 60_000 * (i // 3), ["ann", "bob", "cid"][i // 3 % 3], 1 + i % 3) for i in range(ROWS)]
    floors = [str(int(rng.integers(9))) if i % 7 else "mezzanine" for i in range(ROWS)]
    items = {"item_id": [1, 2, 3, 4], "price": [1.5, None, 0.0, 8.0], "tags": [["x"], None, ["z"], ["x"]]}
    return {
        "impressions": impressions(rows, floor=floors),
        "clicks": clicks([(f"r{i}", 1, T + 60_000 * i + 10) for i in range(0, ROWS // 3, 2)]),
        "items": pa.table(items | {"colour": [["red", "blue"], ["green"], None, []]}),
        "users": USERS.append_column("mood", pa.array(["glad", None, "sad"])),
    }


@pytest.fixture(scope="module")
def ingested(tables, tmp_path_factory):
    """The folders of an ingestion that keeps what the live model reads, and of one that does not."""
    root = tmp_path_factory.mktemp("kept")
    for name, table in tables.items():
        write(table, root / name)
    split = {"eval_fraction": 0.2, "test_fraction": 0.2}
    paths = {name: str(root / name) for name in tables}
    config = IngestConfig(tables=paths, attribution_window_hours=1.0, label_maturity=False, num_shards=2, split=split)
    folders = {}
    for which, kept in (("plain", KeptFeatures()), ("kept", KeptFeatures.of(SPEC, [LIVE]))):
        folders[which] = [root / which / name for name in ("examples", "behaviors", "dead")]
        run_ingest(config, SPEC, *folders[which], kept=kept)
    return folders


def test_what_other_specs_read_beside_a_spec():
    kept = KeptFeatures.of(SPEC, [SPEC, LIVE])
    assert [feature.name for feature in kept.features] == ["colour", "cost", "floor", "gone", "mood"]
    assert kept.history == ("colour", "gone")
    # A model that lacks a feature asks for nothing; one whose histories name another one of the spec, for these.
    assert KeptFeatures.of(LIVE, [SPEC, LIVE]) == KeptFeatures(history=("tags",))
    # A key is in the examples anyway, whatever the spec says.
    without = SPEC.model_copy(update={"features": SPEC.features[1:4], "history": None})
    assert [feature.name for feature in KeptFeatures.of(without, [SPEC]).features] == ["price", "tags"]


def test_what_models_learn_from_is_the_same_with_and_without(ingested):
    plain, kept = (folders[0] for folders in ingested.values())
    files = sorted(path.relative_to(plain) for path in plain.rglob("*.*"))
    others = sorted(path.relative_to(kept) for path in kept.rglob("*.*"))
    assert [str(path) for path in others if path not in files] == [
        f"kept/Split-{split}/requests-0000{shard}-of-00002.parquet" for split in ("eval", "test") for shard in (0, 1)
    ]
    for file in files:
        if file.parts[0] == "users":  # what profiles are made of, for the live models too
            table = pq.read_table(plain / file)
            assert pq.read_table(kept / file).select(table.column_names).equals(table)
        else:
            assert (plain / file).read_bytes() == (kept / file).read_bytes(), file
    for folder in (1, 2):
        for file in ingested["plain"][folder].iterdir():
            table = pq.read_table(file)
            assert pq.read_table(ingested["kept"][folder] / file.name).select(table.column_names).equals(table)


def test_kept_columns_belong_to_their_requests(ingested, tables):
    examples, behaviors, _ = ingested["kept"]
    moods = dict(zip(*(tables["users"][name].to_pylist() for name in ("user_id", "mood")), strict=True))
    colours = dict(zip(*(tables["items"][name].to_pylist() for name in ("item_id", "colour")), strict=True))
    shown = zip(*(tables["impressions"][name].to_pylist() for name in ("request_id", "item_id", "floor")), strict=True)
    floors = {(request, item): int(floor) if floor.isdigit() else None for request, item, floor in shown}
    wanted, seen = [LIVE[name] for name in ("mood", "colour", "floor", "city", "price")], 0
    for shard in list_shards(examples, "test"):
        for batch in request_batches(shard, ["user_id", "item_id", "request_id"], wanted, 3):
            assert len(batch) <= 3
            for row in batch.to_pylist():
                seen += 1
                assert row["mood"] == moods[row["user_id"]]
                assert row["colour"] == [colours[item] for item in row["item_id"]]
                assert row["floor"] == [floors[row["request_id"], item] for item in row["item_id"]]
        # A value that does not fit is missing, and costs no row.
    assert seen == 16
    history = LIVE.history.model_copy(update={"features": ("item_id", "colour")})
    log = pa.concat_tables([read_behaviors(behaviors, shard, history) for shard in list_shards(examples, "test")])
    for row in log.to_pylist():
        assert row["colour"] == [colours[item] for item in row["item_id"]]


def test_what_the_log_has_not_or_holds_otherwise_is_named(ingested):
    shard = list_shards(ingested["kept"][0], "test")[0]
    with pytest.raises(UnscorableError, match="no column `gone`, `cost`"):
        list(request_batches(shard, ["user_id"], [LIVE[name] for name in ("gone", "mood", "cost")], 8))
    with pytest.raises(UnscorableError, match="has no column `colour`, `floor`, `mood`"):
        list(request_batches(list_shards(ingested["plain"][0], "test")[0], ["colour", "floor", "mood"], [], 8))
    with pytest.raises(UnscorableError, match="no column `gone` of the behaviours"):
        read_behaviors(ingested["kept"][1], shard, LIVE.history)
    number = LIVE["city"].model_copy(update={"dtype": "int64"})
    of_request = LIVE["price"].model_copy(update={"scope": "request"})
    with pytest.raises(UnscorableError, match=r"`city` \(int64, request; here string\), `price` \(float64, request"):
        list(request_batches(shard, [], [number, of_request], 8))


def test_a_folder_is_emptied_of_what_was_kept(ingested, tmp_path):
    import shutil

    folders = [tmp_path / folder.name for folder in ingested["kept"]]
    for old, new in zip(ingested["kept"], folders, strict=True):
        shutil.copytree(old, new)
    assert (tmp_path / "examples" / "kept").is_dir()
    from features.ingest.outputs import clear_outputs

    clear_outputs(*map(str, folders))
    assert list((tmp_path / "examples").iterdir()) == []
    assert kept_file("a/Split-eval/requests-0.parquet") == "a/kept/Split-eval/requests-0.parquet"

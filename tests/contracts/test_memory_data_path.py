"""The whole data path on `memory://`: a log becomes batches on any file system that fsspec knows, and the same ones."""

from __future__ import annotations

import numpy as np
import pytest

from features import storage
from features.arrow import read_parquet
from features.datasets.simulator.marketplace import SimulatorConfig, simulate
from features.encoding.encode import encode_examples
from features.encoding.fit import fit_encoding
from features.errors import InputError
from features.examples.raw_sample import RAW_SAMPLE_FILE, write_raw_sample
from features.ingest.counts import IngestCounts
from features.ingest.ingest_logs import IngestConfig, run_ingest
from features.items.catalogue import read_catalogue
from features.spec import FeatureSpec

TABLES = ("impressions", "clicks", "items", "users")
SPEC = FeatureSpec.model_validate(
    {
        "name": "memory",
        "features": [
            {"name": "user_id", "table": "users"},
            {"name": "age_band", "table": "users"},
            {"name": "hour", "table": "impressions", "dtype": "int64"},
            {"name": "item_id", "table": "items", "vocabulary": {"min_count": 2, "oov_buckets": 4}},
            {"name": "category", "table": "items"},
            {"name": "price", "table": "items", "kind": "numeric", "transform": "log_squared"},
        ],
        "history": {"features": ["item_id", "category"], "short_length": 3, "long_length": 20},
    }
)


def prepare(log: str, work: str) -> IngestCounts:
    """Ingests, fits and encodes the log in one folder into another."""
    examples, behaviors, encoding = (storage.join(work, name) for name in ("examples", "behaviors", "encoding"))
    config = IngestConfig.model_validate(
        {"tables": {table: storage.join(log, table) for table in TABLES}, "num_shards": 3}
    )
    counts = run_ingest(config, SPEC, examples, behaviors, storage.join(work, "dead_letters"))
    fit_encoding(examples, SPEC, encoding)
    encode_examples(examples, behaviors, encoding, storage.join(work, "encoded"))
    write_raw_sample(examples, behaviors, SPEC, 5, storage.join(work, "encoded", RAW_SAMPLE_FILE))
    return counts


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    """The work folder on local disk, the one in memory, and the counts of both."""
    local, memory = str(tmp_path_factory.mktemp("world")), "memory://clickmill/world"
    simulate(SimulatorConfig(impressions=6_000, num_users=300, seed=3, shards=2), storage.join(local, "log"))
    storage.copy_tree(storage.join(local, "log"), storage.join(memory, "log"))
    yield local, memory, [prepare(storage.join(work, "log"), work) for work in (local, memory)]
    storage.delete("memory://clickmill")


def files(work: str) -> dict[str, str]:
    return {path.removeprefix(f"{work}/"): path for path in storage.files_under(work)}


def test_the_same_files_come_out(paths):
    local, memory, (on_disk, in_memory) = paths
    assert on_disk == in_memory and on_disk.tables["impressions"].dead_letters > 0
    found, expected = files(memory), files(local)
    assert found.keys() == expected.keys()
    assert not [name for name in found if ".tmp" in name or name.startswith(("_items", "examples/_items"))]
    for name, path in found.items():
        if name.startswith("dead_letters/"):  # They name the file that a row came from.
            tables = [read_parquet(each).drop(["source"]) for each in (path, expected[name])]
            assert tables[0].equals(tables[1]), name
        elif name.endswith(".parquet"):
            assert read_parquet(path).equals(read_parquet(expected[name])), name
        else:
            assert storage.read_bytes(path) == storage.read_bytes(expected[name]), name


def test_the_training_input_is_the_same(paths):
    import tensorflow as tf

    from features.encoding.feature_encoding import FeatureEncoding
    from models.inputs.input_pipeline import InputConfig, count_candidates, count_positives, make_dataset
    from models.inputs.item_corpus import ItemCorpus

    def batches(work: str):
        encoding = FeatureEncoding.load(storage.join(work, "encoding"))
        folder, config = storage.join(work, "encoded"), InputConfig(batch_size=256, buffer_shards=2)
        made = make_dataset(folder, "train", encoding, config, shuffle=True, seed=1, histories=True)
        items = ItemCorpus.load(folder, encoding)
        positives = count_positives(folder, "train", SPEC.label, len(items))
        return list(made), items, positives, count_candidates(folder, "train")

    (expected, items, taken, number), (found, *others) = (batches(work) for work in paths[:2])
    assert len(found) == len(expected) > 5
    for one, other in zip(found, expected, strict=True):
        tf.nest.assert_same_structure(one, other)
        pairs = zip(
            tf.nest.flatten(one, expand_composites=True), tf.nest.flatten(other, expand_composites=True), strict=True
        )
        assert all(np.array_equal(a, b) for a, b in pairs)
    assert sum(float(tf.reduce_sum(batch["label"])) for batch in found) > 0
    assert others[0].item_ids.equals(items.item_ids) and np.array_equal(others[1], taken) and others[2] == number > 0


def test_predictions_are_the_same(paths, tmp_path):
    """Trained on examples in memory, exported into memory, and scored on the raw examples there."""
    from features.encoding.feature_encoding import FeatureEncoding
    from models.autoint.config import AutoIntConfig
    from models.autoint.model import AutoInt
    from models.sdim.config import HistoryConfig
    from models.training.config import TrainingConfig
    from models.training.loop import train
    from serving.export.ranker import export_ranker
    from serving.offline.scoring import score_examples

    history = HistoryConfig(short="mean", long="sdim", signature_source="end_to_end")
    config = AutoIntConfig(num_layers=1, head_dim=4, history=history)
    scored = []
    for number, work in enumerate(paths[:2]):
        encoding, encoded = FeatureEncoding.load(storage.join(work, "encoding")), storage.join(work, "encoded")
        model, _ = train(
            lambda encoding=encoding: AutoInt(encoding, config),
            encoding,
            encoded,
            TrainingConfig(epochs=1),
            tmp_path / str(number),
            histories=True,
        )
        rows = read_parquet(storage.join(encoded, RAW_SAMPLE_FILE))
        export_ranker(model, encoding, storage.join(work, "model", "1"), rows)
        folders = storage.join(work, "examples"), storage.join(work, "behaviors")
        scored.append(score_examples(storage.join(work, "model"), folders[0], "eval", behaviors_dir=folders[1]))
    assert scored[0].drop(["score"]).equals(scored[1].drop(["score"])) and len(scored[0]) > 100
    here, there = (table["score"].to_numpy() for table in scored)
    np.testing.assert_allclose(there, here, rtol=0, atol=1e-5)
    assert here.std() > 0


def test_a_catalogue_in_memory_is_found(paths):
    assert len(read_catalogue(storage.join(paths[1], "encoded"))) == len(read_catalogue(paths[0] + "/encoded"))


def test_paths_with_a_scheme_survive_configuration():
    tables = {"impressions": "gs://bucket/log/impressions", "clicks": "s3://b/x/*.parquet", "items": "memory://i"}
    config = IngestConfig.model_validate({"tables": tables})
    read = IngestConfig.model_validate_json(config.model_dump_json()).tables.given()
    assert {name: table.path for name, table in read.items()} == tables
    assert storage.absolute("gs://bucket/run") == "gs://bucket/run"
    assert storage.join("gs://bucket/run/", "a", "b") == "gs://bucket/run/a/b"
    assert storage.parent("gs://bucket/run/a") == "gs://bucket/run"


def test_a_scheme_that_is_not_known_is_named():
    with pytest.raises(InputError, match="^nowhere://bucket/x: .*nowhere"):
        storage.exists("nowhere://bucket/x")


def test_a_simulation_goes_where_it_is_told():
    config = SimulatorConfig(impressions=1_000, shards=1)
    try:
        for _ in range(2):  # The second replaces the first.
            simulate(config, "memory://clickmill-simulation/log")
        assert storage.is_file("memory://clickmill-simulation/log/summary.json")
        assert len(storage.entries("memory://clickmill-simulation/log/impressions")) == 1
    finally:
        storage.delete("memory://clickmill-simulation")

"""Statistics of ingested requests, and the gate behind them, through real TFX components."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import models  # noqa: F401  (before TensorFlow)
from pipeline.components.anomaly_gate import AnomalyGate, DataAnomalyError
from pipeline.components.log_statistics import LogStatistics, as_list_array, statistics_batches
from pipeline.config import LOCAL_BEAM_ARGS

VALUES = st.one_of(st.none(), st.integers(-5, 5))


def expected(row):
    """What TFDV must see of a Python value: None for missing, else the flat list of present values."""
    if row is None:
        return None
    if not isinstance(row, list):
        return [row]
    return [value for part in row if part is not None for value in (expected(part) or [])]


@settings(max_examples=200, deadline=None)
@given(
    rows=st.one_of(
        st.lists(VALUES, min_size=1),
        st.lists(st.one_of(st.none(), st.lists(VALUES, max_size=4)), min_size=1),
    ),
    start=st.integers(0, 3),
)
def test_scalars_and_lists_become_lists_of_present_values(rows, start):
    nested = any(isinstance(row, list) for row in rows)
    array = pa.array(rows, pa.list_(pa.int64()) if nested else pa.int64())[start:]
    assert as_list_array(array).to_pylist() == [expected(row) for row in rows[start:]]


@settings(max_examples=200, deadline=None)
@given(
    rows=st.lists(
        st.one_of(st.none(), st.lists(st.one_of(st.none(), st.lists(VALUES, max_size=3)), max_size=3)), min_size=1
    ),
    start=st.integers(0, 3),
)
def test_lists_of_lists_are_flattened_and_slices_rebased(rows, start):
    array = pa.array(rows, pa.list_(pa.list_(pa.int64())))[start:]
    flat = as_list_array(array)
    assert flat.to_pylist() == [expected(row) for row in rows[start:]]
    assert flat.offset == 0


def write_examples(directory, split, price, requests=50):
    """Requests of two candidates: one string per request, one price per candidate, tags in lists of lists."""
    path = directory / f"Split-{split}"
    path.mkdir(parents=True)
    table = pa.table(
        {
            "request_id": [f"{split}{i}" for i in range(requests)],
            "user_index": pa.array(range(requests), pa.int32()),
            "city": [None if i % 10 == 0 else f"city {i % 3}" for i in range(requests)],
            "price": [[price, price + 1.0] for _ in range(requests)],
            "tags": [[["new", "red"], None] for _ in range(requests)],
            "click": pa.array([[0.0, 1.0]] * requests, pa.list_(pa.float32())),
        }
    )
    pq.write_table(table, path / "requests-00000-of-00001.parquet")


def test_batches_leave_out_what_only_identifies_rows(tmp_path):
    write_examples(tmp_path, "train", 1.0)
    (batch,) = statistics_batches(str(tmp_path / "Split-train" / "requests-00000-of-00001.parquet"))
    assert batch.schema.names == ["city", "price", "tags", "click"]
    assert all(pa.types.is_list(column.type) for column in batch.columns)


def run_components(tmp_path, schema_path=None):
    """Importer → LogStatistics → (Import)SchemaGen → ExampleValidator → AnomalyGate on LocalDagRunner."""
    from tfx.components.example_validator.component import ExampleValidator
    from tfx.components.schema_gen.component import SchemaGen
    from tfx.dsl.components.common.importer import Importer
    from tfx.orchestration.local.local_dag_runner import LocalDagRunner
    from tfx.orchestration.metadata import sqlite_metadata_connection_config
    from tfx.orchestration.pipeline import Pipeline
    from tfx.types.standard_artifacts import Examples

    from pipeline.components.import_schema_gen import ImportSchemaGen

    examples = Importer(str(tmp_path / "examples"), Examples, properties={"split_names": '["train", "eval"]'}).with_id(
        "Examples"
    )
    statistics = LogStatistics(examples=examples.outputs["result"])
    stats = statistics.outputs["statistics"]
    schema = ImportSchemaGen(str(schema_path)) if schema_path else SchemaGen(statistics=stats)
    validator = ExampleValidator(statistics=stats, schema=schema.outputs["schema"])
    gate = AnomalyGate(anomalies=validator.outputs["anomalies"])
    LocalDagRunner().run(
        Pipeline(
            "statistics",
            str(tmp_path / "artifacts"),
            sqlite_metadata_connection_config(str(tmp_path / "metadata.sqlite")),
            [examples, statistics, schema, validator, gate],
            enable_cache=True,
            beam_pipeline_args=list(LOCAL_BEAM_ARGS),
        )
    )


@pytest.fixture
def examples_dir(tmp_path):
    write_examples(tmp_path / "examples", "train", 10.0)
    write_examples(tmp_path / "examples", "eval", 20.0, requests=20)
    return tmp_path


def only(directory, pattern):
    (found,) = sorted(directory.glob(pattern))
    return found


def test_standard_components_read_the_statistics(examples_dir):
    import tensorflow_data_validation as tfdv

    run_components(examples_dir)
    artifacts = examples_dir / "artifacts"
    stats = tfdv.load_stats_binary(
        str(only(artifacts, "LogStatistics/statistics/*/Split-train/FeatureStats.pb"))
    ).datasets[0]
    features = {feature.path.step[0]: feature for feature in stats.features}
    assert stats.num_examples == 50
    assert features["city"].string_stats.common_stats.num_missing == 5
    assert features["price"].num_stats.mean == pytest.approx(10.5)
    assert features["click"].num_stats.mean == pytest.approx(0.5)
    # Zeros are values, not missing ones.
    assert features["click"].num_stats.common_stats.num_missing == 0
    assert features["tags"].string_stats.common_stats.tot_num_values == 100
    assert only(artifacts, "SchemaGen/schema/*/schema.pbtxt").read_text().count("name: ") >= 4


def test_an_anomaly_stops_the_run_naming_feature_and_reason(examples_dir):
    run_components(examples_dir)
    reviewed = only(examples_dir / "artifacts", "SchemaGen/schema/*/schema.pbtxt").read_text()
    schema_path = examples_dir / "schema.pbtxt"
    schema_path.write_text(reviewed)
    run_components(examples_dir, schema_path)
    # The reviewed schema is tightened behind the same path: prices above 15 are now an error (eval has 20).
    tightened = reviewed.replace('name: "price"', 'name: "price"\n  float_domain {\n    max: 15.0\n  }')
    assert tightened != reviewed
    schema_path.write_text(tightened)
    with pytest.raises(DataAnomalyError, match=r"split `eval`, feature `price`: .*high value: 21>15"):
        run_components(examples_dir, schema_path)

"""The stock TFX path over flat, already joined impressions: ExampleGen, StatisticsGen, SchemaGen, Transform.

What `data_prep.py` measures Clickmill against. The stock components get what they cannot make themselves
for free: clicks are attributed and items and users joined beforehand, rows hold the features and the label alone, no
ids, positions or histories.
"""

from __future__ import annotations

from pathlib import Path

from benchmarks.preparation import CONFIGS
from benchmarks.processes import Stopwatch

SPEC = CONFIGS / "features_simulated.yaml"
BEAM_ARGS = ["--runner=apache_beam.runners.portability.fn_api_runner.FnApiRunner"]


def preprocessing_fn(inputs):
    """Does with Transform what the feature spec says: vocabularies of the same cuts, the same scaling."""
    import tensorflow_transform as tft

    import clickmill as cm

    spec = cm.load_spec(SPEC)
    outputs = {spec.label: inputs[spec.label]}
    for feature in spec.features:
        values = inputs[feature.name]
        if feature.kind == "numeric":
            outputs[feature.name] = tft.scale_to_z_score(values)
        else:
            rule = feature.vocabulary
            outputs[feature.name] = tft.compute_and_apply_vocabulary(
                values,
                top_k=rule.max_size,
                frequency_threshold=rule.min_count if rule.min_count > 1 else None,
                num_oov_buckets=rule.oov_buckets,
            )
    return outputs


def write_flat(examples_dir: Path, output_dir: Path, rows: int) -> int:
    """Writes the first `rows` impressions of the raw examples as flat Parquet and as TFRecords of tf.Example.

    Args:
      examples_dir: raw examples (docs/reference/data_formats.md).
      output_dir: gets `parquet/` and `tfrecord/`.
      rows: how many at most; as many files as there are shards.

    Returns:
      The rows written.
    """
    import pyarrow.parquet as pq
    import tensorflow as tf
    from tfx.components.example_gen.utils import dict_to_example

    files = sorted(Path(examples_dir).glob("Split-*/*.parquet"))
    (output_dir / "parquet").mkdir(parents=True)
    (output_dir / "tfrecord").mkdir()
    written = 0
    for index, path in enumerate(files):
        wanted = round(rows * (index + 1) / len(files)) - round(rows * index / len(files))
        flat = flatten(pq.read_table(path)).slice(0, wanted)
        if len(flat):
            pq.write_table(flat, output_dir / "parquet" / f"{index:05d}.parquet")
            with tf.io.TFRecordWriter(str(output_dir / "tfrecord" / f"{index:05d}.tfrecord")) as writer:
                for row in flat.to_pylist():
                    writer.write(dict_to_example(row).SerializeToString())
        written += len(flat)
    return written


def flatten(requests):
    """One row an impression: the features and the label. [R] requests to [n] impressions, Arrow tables."""
    import pyarrow as pa
    import pyarrow.compute as pc

    import clickmill as cm

    spec = cm.load_spec(SPEC)
    requests = requests.combine_chunks()
    parents = pc.list_parent_indices(requests["item_id"].combine_chunks())
    columns = {}
    for feature in spec.features:
        column = requests[feature.name].combine_chunks()
        columns[feature.name] = column.take(parents) if feature.scope == "request" else column.flatten()
    columns[spec.label] = requests[spec.label].combine_chunks().flatten()
    return pa.table(columns)


def run_standard_path(flat_dir: Path, work_dir: Path) -> dict[str, dict[str, float]]:
    """Runs the stock components with TFX's LocalDagRunner.

    Args:
      flat_dir: what `write_flat` wrote.
      work_dir: for artifacts and metadata; new.

    Returns:
      {component: {"seconds", "cpu_seconds"}}, driver and publisher of each included. `ImportExampleGen` only copies
      finished tf.Examples; the later components read those of `ParquetExampleGen`.
    """
    from tfx import v1 as tfx
    from tfx.components.example_gen.component import FileBasedExampleGen
    from tfx.components.example_gen.custom_executors import parquet_executor
    from tfx.dsl.components.base import executor_spec
    from tfx.orchestration.portable import launcher
    from tfx.proto import example_gen_pb2

    splits = [
        example_gen_pb2.SplitConfig.Split(name=name, hash_buckets=buckets)
        for name, buckets in (("train", 8), ("eval", 1), ("test", 1))
    ]
    output = example_gen_pb2.Output(split_config=example_gen_pb2.SplitConfig(splits=splits))
    from_parquet = FileBasedExampleGen(
        input_base=str(flat_dir / "parquet"),
        output_config=output,
        custom_executor_spec=executor_spec.BeamExecutorSpec(parquet_executor.Executor),
    ).with_id("ParquetExampleGen")
    from_records = tfx.components.ImportExampleGen(input_base=str(flat_dir / "tfrecord"), output_config=output)
    statistics = tfx.components.StatisticsGen(examples=from_parquet.outputs["examples"])
    schema = tfx.components.SchemaGen(statistics=statistics.outputs["statistics"])
    transform = tfx.components.Transform(
        examples=from_parquet.outputs["examples"],
        schema=schema.outputs["schema"],
        preprocessing_fn="benchmarks.throughput.standard_path.preprocessing_fn",
    )
    pipeline = tfx.dsl.Pipeline(
        pipeline_name="standard",
        pipeline_root=str(work_dir / "artifacts"),
        metadata_connection_config=tfx.orchestration.metadata.sqlite_metadata_connection_config(
            str(work_dir / "metadata.db")
        ),
        components=[from_parquet, from_records, statistics, schema, transform],
        enable_cache=False,
        beam_pipeline_args=BEAM_ARGS,
    )
    work_dir.mkdir(parents=True, exist_ok=True)
    measured: dict[str, dict[str, float]] = {}
    launch = launcher.Launcher.launch

    def timed_launch(self):
        clock = Stopwatch()
        result = launch(self)
        measured[self._pipeline_node.node_info.id] = clock.read()
        return result

    launcher.Launcher.launch = timed_launch
    try:
        tfx.orchestration.LocalDagRunner().run(pipeline)
    finally:
        launcher.Launcher.launch = launch
    return measured

"""LogIngest as a component: its cache looks behind the paths, and bad rows survive a failed run."""

import os
from pathlib import Path

import pyarrow.parquet as pq
import pytest

import models  # noqa: F401  (before TensorFlow)
from features.datasets.simulator.marketplace import SimulatorConfig, simulate
from features.ingest.config import IngestConfig
from features.spec import load_spec
from pipeline.components.log_ingest import LogIngest
from pipeline.config import LOCAL_BEAM_ARGS
from pipeline.run.lineage import component_runs, last_execution_id, metadata_connection

SPEC = load_spec(Path(__file__).parents[3] / "tfx_config" / "features_simulated.yaml")


@pytest.fixture
def log(tmp_path):
    simulate(SimulatorConfig(impressions=2_000, seed=1), tmp_path / "log")
    return tmp_path / "log"


def ingest(tmp_path, log, **changes):
    """Runs a pipeline of LogIngest alone. Returns what it did."""
    from tfx.orchestration.local.local_dag_runner import LocalDagRunner
    from tfx.orchestration.pipeline import Pipeline

    config = IngestConfig(
        tables={name: str(log / name) for name in ("impressions", "clicks", "items", "users")}, num_shards=2, **changes
    )
    metadata = tmp_path / "metadata.sqlite"
    before = last_execution_id(metadata)
    LocalDagRunner().run(
        Pipeline(
            "ingest",
            str(tmp_path / "artifacts"),
            metadata_connection(metadata),
            [LogIngest(config, SPEC)],
            enable_cache=True,
            beam_pipeline_args=list(LOCAL_BEAM_ARGS),
        )
    )
    (run,) = component_runs(metadata, "ingest", after=before)
    return run


@pytest.mark.slow
def test_changed_files_behind_the_same_path_are_ingested_again(tmp_path, log):
    first, again = ingest(tmp_path, log), ingest(tmp_path, log)
    assert (first.state, again.state) == ("COMPLETE", "CACHED")
    assert again.outputs == first.outputs
    shard = log / "users" / "users-00000-of-00001.parquet"
    before = shard.stat()
    users = pq.read_table(shard)
    pq.write_table(users.slice(1), shard)
    changed = ingest(tmp_path, log)
    assert changed.state == "COMPLETE" and changed.outputs != first.outputs
    # A file of the same size, newer only: its contents may differ.
    os.utime(shard, ns=(before.st_atime_ns, before.st_mtime_ns + 5_000_000_000))
    assert ingest(tmp_path, log).state == "COMPLETE"


@pytest.mark.slow
def test_too_many_bad_rows_fail_the_run_and_are_kept(tmp_path, log):
    with pytest.raises(Exception, match="of `impressions` are bad") as failure:
        ingest(tmp_path, log, max_bad_row_fraction=0.0)
    (kept,) = (tmp_path / "artifacts" / "LogIngest" / "refused").iterdir()
    assert str(kept) in str(failure.value)
    letters = pq.read_table(kept)
    assert letters.num_rows > 0 and letters["reason"].null_count == 0

"""A run in two lanes: components execute side by side, and ML Metadata holds what a run one by one would leave."""

import os
from pathlib import Path

import pytest

from pipeline.run.dag import PipelineFailed, run_dag
from pipeline.run.lineage import component_runs
from pipeline.run.timings import read_timings
from tests.pipeline.run.meeting_pipeline import create_meeting_pipeline
from tests.pipeline.run.test_nodes_alone import make_config

pytestmark = pytest.mark.slow


@pytest.fixture
def config(tmp_path, monkeypatch, these_tests_on_the_path):
    monkeypatch.setattr("pipeline.pipeline.create_pipeline", create_meeting_pipeline)
    return make_config(tmp_path, lanes=2)


def test_components_meet_and_a_killed_one_fails_alone(config, tmp_path):
    """One test of both: every lane imports TensorFlow."""
    told = []
    (tmp_path / "kill b").touch()
    with pytest.raises(PipelineFailed, match="`Meet.b` failed: LaneDied: its process was ended by SIGKILL") as failure:
        run_dag(config, told.append)
    assert failure.value.component == "Meet.b"
    first, second = component_runs(config.metadata_path, config.name)
    states = {first.component: first.state, second.component: second.state}
    assert states == {"Meet.a": "COMPLETE", "Meet.b": "FAILED"}  # They met, and `Gather` did not start.
    assert {("Meet.a", "a has met b"), ("Meet.b", "b has met a")} <= {(p.component, p.text) for p in told}
    assert [(p.component, p.state) for p in told if p.state in ("done", "failed")] == [
        ("Meet.a", "done"),
        ("Meet.b", "failed"),
    ]
    timings = {entry["component"]: entry for entry in read_timings(config.timings_path)}
    assert timings["Meet.a"]["peak_rss_mb"] > 100
    log = Path(config.log_path).read_text()
    assert "[Meet.a]" in log and "[Meet.b]" in log

    # What ended is kept, and read by a run without lanes, as it would be without the lanes' one.
    (tmp_path / "kill b").unlink()
    runs = {run.component: run for run in run_dag(make_config(tmp_path))}
    assert {name: run.state for name, run in runs.items()} == {
        "Meet.a": "CACHED",
        "Meet.b": "COMPLETE",
        "Gather": "COMPLETE",
    }
    met, here = Path(runs["Gather"].outputs["model"], "processes").read_text().split()
    assert here == str(os.getpid()) != met
    assert {entry["component"]: entry for entry in read_timings(config.timings_path)}["Meet.a"] == timings["Meet.a"]

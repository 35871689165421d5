"""A node that is run alone finds what the others left, as in a whole run, and a run goes on where it stopped."""

from pathlib import Path

import pytest

from features.errors import InputError, NothingNewError
from features.spec import load_spec
from pipeline.config import PipelineConfig
from pipeline.run.by_node.launch import REPORT, Launcher, check_run_id
from pipeline.run.dag import PipelineFailed, run_dag, run_node
from pipeline.run.lineage import component_runs, run_context
from tests.pipeline.run.small_pipeline import create_small_pipeline, value_of

SPEC = load_spec(Path(__file__).parents[3] / "tfx_config" / "features_simulated.yaml")


@pytest.fixture
def config(tmp_path, monkeypatch):
    monkeypatch.setattr("pipeline.pipeline.create_pipeline", create_small_pipeline)
    return make_config(tmp_path)


def make_config(folder: Path, **changes) -> PipelineConfig:
    values = {
        "name": "shop",
        "feature_spec": SPEC,
        "ingest": {"tables": {name: name for name in ("impressions", "clicks", "items", "users")}},
        "run_dir": folder / "run",
        "lanes": 1,
        "warmup_requests": 3,
    }
    return PipelineConfig.model_validate({**values, **changes})


def alone(config: PipelineConfig, run_id: str, *nodes: str) -> dict[str, str]:
    """Runs nodes one by one, each with a launcher of its own as in a process of its own; returns the run's states."""
    for node in nodes:
        run_node(config, Launcher(config, run_id), node)
    return Launcher(config, run_id).states()


def sums(config: PipelineConfig, run_id: str, round_: int = 1) -> int:
    runs = component_runs(config.metadata_path, config.name, run=run_context(config.name, run_id, round_))
    return value_of({run.component: run for run in runs}["Add"].outputs["sum_of_both"])


def test_nodes_alone_do_what_a_whole_run_does(config):
    assert Launcher(config, "x").upstream == {"Make": (), "Double": ("Make",), "Add": ("Double", "Make")}
    whole = run_dag(config, run_id="whole")
    assert alone(config, "parts", "Make", "Double", "Add") == dict.fromkeys(("Make", "Double", "Add"), "CACHED")
    parts = component_runs(config.metadata_path, config.name, run="shop.parts")
    assert [run.outputs for run in parts] == [run.outputs for run in whole]
    assert sums(config, "whole") == sums(config, "parts") == 9
    assert [run.component for run in run_node(config, Launcher(config, "parts"), REPORT)] == ["Make", "Double", "Add"]


def test_two_runs_never_read_one_another_s_work(config, tmp_path):
    other = make_config(tmp_path, warmup_requests=5)
    alone(config, "one", "Make")
    alone(other, "two", "Make", "Double", "Add")
    alone(config, "one", "Double", "Add")
    assert (sums(config, "one"), sums(other, "two")) == (9, 15)


def test_a_node_waits_for_those_before_it(config):
    with pytest.raises(PipelineFailed, match="`Double` waits for Make, which the run one has not done"):
        alone(config, "one", "Double")
    alone(config, "one", "Make", "Double")
    with pytest.raises(Exception, match="`Report` waits for Add"):
        alone(config, "one", REPORT)
    with pytest.raises(InputError, match="no node `Dubble`. Did you mean `Double`"):
        Launcher(config, "one").check_node("Dubble")


def test_a_run_goes_on_where_it_stopped(config):
    source = Path(config.run_dir) / "source"
    source.parent.mkdir(parents=True)
    source.write_text("no space left")
    with pytest.raises(PipelineFailed, match="`Make` failed: ValueError: no space left"):
        alone(config, "one", "Make")
    source.unlink()
    told = []
    run_dag(config, told.append, run_id="one")
    assert [(each.component, each.state) for each in told if each.state != "running"] == [
        ("Make", "done"),
        ("Double", "done"),
        ("Add", "done"),
    ]
    told.clear()
    run_node(config, Launcher(config, "one"), "Double", told.append)
    assert [(each.component, each.state) for each in told] == [("Double", "cached")], "what is done is not done again"


def test_what_a_killed_try_left_is_gone(config):
    source = Path(config.run_dir) / "source"
    source.parent.mkdir(parents=True)
    source.write_text("killed")
    with pytest.raises(KeyboardInterrupt):
        alone(config, "one", "Make")
    assert Launcher(config, "one").states() == {"Make": "RUNNING"}
    (left,) = Path(config.pipeline_root).glob("Make/examples/*/half of it")
    source.unlink()
    assert alone(config, "one", "Make", "Double", "Add") == dict.fromkeys(("Make", "Double", "Add"), "COMPLETE")
    assert sums(config, "one") == 9 and [path.name for path in left.parent.iterdir()] == ["value"]


def test_a_first_node_that_is_asked_for_again_begins_the_run_anew(config, tmp_path):
    alone(config, "one", "Make", "Double", "Add")
    corrected = make_config(tmp_path, warmup_requests=4)
    assert alone(corrected, "one", "Make") == {"Make": "COMPLETE"}
    with pytest.raises(Exception, match="`Report` waits for Double, Add"):
        alone(corrected, "one", REPORT)
    alone(corrected, "one", "Double", "Add")
    assert (sums(config, "one"), sums(config, "one", 2)) == (9, 12)
    assert set(alone(corrected, "one", "Make").values()) == {"CACHED"}


def test_nothing_new_ends_a_run_as_such(config):
    source = Path(config.run_dir) / "source"
    source.parent.mkdir(parents=True)
    source.write_text("nothing new")
    with pytest.raises(NothingNewError):
        alone(config, "one", "Make")
    with pytest.raises(NothingNewError):
        run_dag(config)


def test_times_of_nodes_that_ran_elsewhere_are_kept(config):
    from pipeline.run.timings import read_timings

    for node in ("Make", "Double", "Add"):
        alone(config, "one", node)
    found = read_timings(config.timings_path)
    assert [each["component"] for each in found] == ["Make", "Double", "Add"]
    assert all(each["peak_rss_mb"] is None or each["peak_rss_mb"] > 1 for each in found)


@pytest.mark.parametrize("run_id", ["", "a b", "../x", "x" * 201, "a;b"])
def test_what_cannot_be_a_run_s_id(run_id):
    with pytest.raises(InputError, match="a run's id is of letters"):
        check_run_id(run_id)


def test_ids_of_orchestrators_are_taken():
    for run_id in ("scheduled__2026-11-24T00:00:00+00:00", "manual__2026-11-24T03:00:00.123456+00:00_aB3", "1"):
        assert check_run_id(run_id) == run_id

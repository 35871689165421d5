"""What a node that is run alone does besides: the last run is noted, and ingesting it once more is nothing new."""

import pytest

from features.errors import NothingNewError
from pipeline.run.by_node import step
from pipeline.run.lineage import ComponentRun
from tests.pipeline.run.test_nodes_alone import make_config


def ingested(uri: str) -> list[ComponentRun]:
    return [ComponentRun("LogIngest", "CACHED", 10.0, 12.5, {"examples": uri})]


def test_only_what_the_last_run_was_of_is_nothing_new(tmp_path, monkeypatch):
    config = make_config(tmp_path)
    step._require_change(config, ingested("examples/1"))
    step._note(config, ingested("examples/1"))
    with pytest.raises(NothingNewError, match="shop: the logs and the profile are those of the last run") as found:
        step._require_change(config, ingested("examples/1"))
    assert found.value.exit_code == 99
    step._require_change(config, ingested("examples/2"))
    step._require_change(make_config(tmp_path, warmup_requests=4), ingested("examples/1"))
    monkeypatch.setattr(step, "version", lambda name: "another")
    step._require_change(config, ingested("examples/1"))


def test_a_run_s_time_is_that_of_its_components():
    started, seconds = step._times([*ingested("a"), ComponentRun("Trainer", "COMPLETE", 20.0, 50.0)])
    assert started.timestamp() == 10.0 and seconds == 32.5

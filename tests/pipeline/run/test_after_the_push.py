"""What fails after the models are pushed costs neither the report nor the manifest, and ends the run."""

from pathlib import Path

import pytest

from features.errors import InputError
from features.spec import load_spec
from pipeline.config import PipelineConfig
from pipeline.run import run as running
from pipeline.run.display import RunDisplay
from pipeline.run.outcomes import ModelOutcome
from tests.builders.report_example import evaluation, report_data

CONFIG = {
    "name": "shop",
    "feature_spec": load_spec(Path(__file__).parents[3] / "tfx_config" / "features_simulated.yaml"),
    "ingest": {"tables": {name: name for name in ("impressions", "clicks", "items", "users")}},
    "models": ["autoint"],
}


def test_an_example_that_cannot_be_ranked_costs_no_report(tmp_path, monkeypatch, capsys):
    """The components are stood in for: the order of what follows them is what is looked at."""
    config = PipelineConfig.model_validate({**CONFIG, "run_dir": tmp_path / "run", "serving_dir": tmp_path / "models"})
    done = []

    def ranking(*_):
        raise InputError("`user_id` stands in both `user` and `context` [0]: keep one.")

    def reported(config, components, outcomes, started, seconds, example):
        from evaluation.report.page import build_report

        done.append(("report", example))
        return build_report(report_data(), config.report_dir)

    monkeypatch.setattr(running, "run_dag", lambda *_: [])
    monkeypatch.setattr(running, "model_outcomes", lambda *_: {"autoint": ModelOutcome(evaluation(), None)})
    monkeypatch.setattr(running, "_rank_example", ranking)
    monkeypatch.setattr(running, "write_report", reported)
    monkeypatch.setattr(running, "write_manifest", lambda *_: done.append(("manifest", None)))
    with pytest.raises(InputError, match="stands in both"):
        running.run_pipeline(config, RunDisplay())
    assert done == [("manifest", None), ("report", None)]
    assert (tmp_path / "run" / "report" / "report.json").is_file()
    told = capsys.readouterr().out
    assert "could not be ranked: `user_id` stands in both `user` and `context` [0]" in told and "report:" in told

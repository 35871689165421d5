"""A feature is taken out of the spec: the live model is scored as long as the log has it, and the anchor stays."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from features.spec import load_spec
from pipeline.cli.app import app
from pipeline.config import PipelineConfig
from pipeline.release.anchor import read_anchors
from pipeline.run.run import run_pipeline

pytestmark = [pytest.mark.slow, pytest.mark.e2e]

SPEC = load_spec(Path(__file__).parents[2] / "tfx_config" / "features_simulated.yaml")


def without(*names: str):
    """The spec of the log without some of its features."""
    features = tuple(feature for feature in SPEC.features if feature.name not in ("title", *names))
    return SPEC.model_copy(update={"features": features, "history": None})


def config_of(root: Path, spec, **training) -> PipelineConfig:
    tables = {name: str(root / "log" / name) for name in ("impressions", "clicks", "items", "users")}
    # Five hundred rows after one epoch: what a model is worth is not what this is about.
    off = ("min_auc", "pcoc", "slice_pcoc", "min_slice_auc", "max_slice_auc_loss", "max_baseline_auc_loss")
    gates = {**dict.fromkeys(off), "min_rows": 300, "min_positives": 20, "max_auc_loss": 0.4}
    values = {
        "name": "changed",
        "lanes": 1,
        "feature_spec": spec,
        "simulate": {"out": root / "log", "log": {"impressions": 6000, "seed": 3}},
        "ingest": {"tables": tables, "num_shards": 2},
        "models": {"autoint": {"training": {"epochs": 1, "input": {"batch_size": 256}, **training}}},
        "evaluation": {"gates": {**gates, "max_log_loss_increase": 1.0}},
        "run_dir": root / "run",
        "serving_dir": root / "serving",
    }
    return PipelineConfig.model_validate(values)


def states(result) -> dict[str, str]:
    return {run.component: run.state for run in result.components}


def test_a_feature_is_taken_out_of_the_spec(tmp_path):
    serving = tmp_path / "serving" / "changed_autoint"
    first = run_pipeline(config_of(tmp_path, without()))
    one = Path(first.models["autoint"].pushed).name
    assert [record.version for _, record in read_anchors(serving)] == [one]
    assert not list((tmp_path / "run" / "artifacts").glob("LogIngest/examples/*/kept"))

    # The log has the columns: the live model, which is the anchor, is scored on all rows.
    second = run_pipeline(config_of(tmp_path, without("device", "price")))
    outcome = second.models["autoint"]
    counts = outcome.evaluation.counts
    assert (outcome.evaluation.live.rows, outcome.evaluation.live.version) == (counts.rows, one)
    assert outcome.evaluation.anchor is None and outcome.pushed is not None
    assert list((tmp_path / "run" / "artifacts").glob("LogIngest/examples/*/kept/Split-test/*.parquet"))
    # Its push changed neither what is kept nor what it was judged by.
    again = run_pipeline(config_of(tmp_path, without("device", "price")))
    assert again.cached, states(again)

    # Another anchor means another evaluation, and nothing else of what came before.
    two = Path(outcome.pushed).name
    done = CliRunner().invoke(app, ["anchor", "set", "--model", str(serving), "--version", two])
    assert done.exit_code == 0 and f"version {two} is the anchor" in done.stdout, done.output
    shown = CliRunner().invoke(app, ["anchor", "show", "--model", str(serving), "--json"])
    assert shown.exit_code == 0 and f'"version": "{two}"' in shown.stdout
    third = run_pipeline(config_of(tmp_path, without("device", "price"), seed=1))
    assert states(third)["LogIngest"] == "CACHED" and states(third)["RankingEvaluator.autoint"] == "COMPLETE"
    assert third.models["autoint"].evaluation.live.version == two

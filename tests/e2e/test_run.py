"""Raw logs to a pushed model, through the whole pipeline, on a small simulated log."""

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from features.ingest_counts import IngestCounts
from pipeline.config import PipelineConfig
from pipeline.lineage import component_runs, outputs_by_component
from pipeline.run import run_pipeline
from pipeline.runner import PipelineFailed

pytestmark = [pytest.mark.slow, pytest.mark.e2e]

ROOT = Path(__file__).parents[2]
IMPRESSIONS = 20_000


def make_config(root: Path, **changes) -> PipelineConfig:
    from features.spec import load_spec

    log = root / "log"
    values = {
        "name": "e2e",
        "feature_spec": load_spec(ROOT / "tfx_config" / "features_simulated.yaml"),
        "simulate": {"out": log, "log": {"impressions": IMPRESSIONS, "seed": 3}},
        "ingest": {
            "tables": {name: str(log / name) for name in ("impressions", "clicks", "items", "users")},
            "num_shards": 4,
        },
        "training": {"epochs": 3, "input": {"batch_size": 256}},
        # Two thousand rows cannot show more than that the model is no worse than chance.
        "evaluation": {
            "slices": {"features": ["age_band", "history_length"], "min_rows": 300},
            "gates": {"min_auc": 0.5, "pcoc": [0.5, 2.0], "min_positives": 50},
        },
        "run_dir": root / "run",
        "serving_dir": root / "serving",
    }
    return PipelineConfig.model_validate({**values, **changes})


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return tmp_path_factory.mktemp("e2e")


@pytest.fixture(scope="module")
def first(root):
    return run_pipeline(make_config(root))


@pytest.fixture(scope="module")
def outputs(first):
    return outputs_by_component(first.components)


def test_every_component_ran_and_the_model_is_blessed_and_pushed(first, root):
    assert {run.state for run in first.components} == {"COMPLETE"}
    assert len(first.components) == 10
    assert first.blessed, first.failed_gates
    assert first.pushed.parent == root / "serving" / "e2e_autoint"
    assert (first.pushed / "saved_model.pb").is_file()
    assert (first.pushed / "assets.extra" / "tf_serving_warmup_requests").stat().st_size > 0
    blessing = next(run for run in first.components if run.component == "RankingEvaluator.autoint")
    assert blessing.properties["blessing"]["blessed"] == 1
    assert (Path(blessing.outputs["blessing"]) / "BLESSED").is_file()


def test_every_row_is_accounted_for_and_bad_rows_keep_their_reason(outputs, root):
    counts = IngestCounts.load(outputs["LogIngest"]["examples"])
    counts.check_balance()
    impressions = counts.tables["impressions"]
    planted = json.loads((root / "log" / "summary.json").read_text())["bad_rows"]
    assert impressions.rows_in == IMPRESSIONS + sum(planted.values())
    assert impressions.dead_letters > 0 and impressions.duplicates == planted["duplicate_impression"]
    letters = pq.read_table(outputs["LogIngest"]["dead_letters"]).to_pydict()
    of_impressions = [r for t, r in zip(letters["table"], letters["reason"], strict=True) if t == "impressions"]
    assert {reason: of_impressions.count(reason) for reason in set(of_impressions)} == impressions.reasons


def test_the_pushed_model_ranks_the_raw_request_as_the_evaluation_scored_it(first, outputs):
    from serving.ranker import Ranker

    request = json.loads(first.request.read_text())
    ranked = Ranker(first.pushed.parent).rank(request)
    assert [item.score for item in ranked] == sorted((item.score for item in ranked), reverse=True)
    predictions = pq.read_table(Path(outputs["RankingEvaluator.autoint"]["evaluation"]) / "predictions.parquet")
    rows = predictions.to_pandas().query("request_id == @request['request_id']")
    expected = dict(zip(rows["item_id"], rows["score"], strict=True))
    assert len(ranked) == len(request["candidates"]) == len(expected)
    assert {item.item_id: item.score for item in ranked} == pytest.approx(expected, abs=1e-6)


def test_the_report_tells_the_run(first, outputs):
    report = json.loads(first.report_json.read_text())
    assert report["run"]["simulated"] and report["pushed_version"] == first.pushed.name
    assert [timing["component"] for timing in report["timings"]] == [run.component for run in first.components]
    assert all(timing["peak_rss_mb"] > 100 for timing in report["timings"] if timing["seconds"] > 1)
    assert {scores["name"] for scores in report["evaluation"]["baselines"]} == {"popularity", "item_ctr", "oracle"}
    assert len(report["training"]["epochs"]) >= 1
    # The truth is the report's alone: the pipeline's own evaluation does not know it.
    own = json.loads((Path(outputs["RankingEvaluator.autoint"]["evaluation"]) / "evaluation.json").read_text())
    assert {scores["name"] for scores in own["baselines"]} == {"popularity", "item_ctr"}
    assert "<html" in first.report.read_text()


def test_the_same_run_again_does_nothing(first, root):
    again = run_pipeline(make_config(root))
    assert again.cached, [(run.component, run.state) for run in again.components]
    assert again.pushed == first.pushed
    assert len(list(first.pushed.parent.iterdir())) == 1
    # What the first run measured stays in the report.
    assert json.loads(again.report_json.read_text())["timings"] == json.loads(first.report_json.read_text())["timings"]


def test_a_model_that_fails_a_gate_is_not_pushed(first, root):
    evaluation = {"slices": {"min_rows": 300}, "gates": {"min_auc": 0.999, "min_positives": 50}}
    refused = run_pipeline(make_config(root, evaluation=evaluation))
    assert not refused.blessed and refused.pushed is None
    assert "min_auc" in refused.failed_gates
    states = {run.component: run.state for run in refused.components}
    assert states["Trainer.autoint"] == "CACHED" and states["RankingEvaluator.autoint"] == "COMPLETE"
    assert list(first.pushed.parent.iterdir()) == [first.pushed]


def test_anomalies_stop_the_run_before_anything_learns(first, outputs, root):
    reviewed = (Path(outputs["SchemaGen"]["schema"]) / "schema.pbtxt").read_text()
    schema = root / "schema.pbtxt"
    schema.write_text(reviewed.replace('name: "price"', 'name: "price"\n  float_domain {\n    max: 0.5\n  }'))
    config = make_config(root, schema_path=str(schema))
    with pytest.raises(PipelineFailed, match="`AnomalyGate` failed") as failure:
        run_pipeline(config)
    assert failure.value.component == "AnomalyGate"
    assert "feature `price`" in str(failure.value) and "Out-of-range" in str(failure.value)
    last = component_runs(config.metadata_path, config.name)[-1]
    assert (last.component, last.state) == ("AnomalyGate", "FAILED")

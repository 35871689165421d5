"""RankingEvaluator on a real export: the oracle is one more baseline where the truth is known, and decides nothing."""

import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tfx.types.standard_artifacts import Examples, Model, ModelBlessing, ModelEvaluation

from evaluation.ranking import EvaluationConfig
from evaluation.results import EvaluationResult
from pipeline.artifacts import BehaviorLog
from pipeline.components.evaluators.ranking_evaluator import PREDICTIONS_FILE, RankingEvaluatorExecutor


def artifact(kind, uri):
    made = kind()
    made.uri = str(uri)
    uri.mkdir(parents=True, exist_ok=True)
    return [made]


@pytest.fixture
def judged(raw_examples_dir, base_dir, tmp_path):
    """Runs the executor; returns what it found and the scored rows."""
    shutil.copytree(base_dir / "3", tmp_path / "model" / "Format-Serving")
    for path in raw_examples_dir.glob("Split-*/*.parquet"):
        table = pq.read_table(path)
        # A request shows no item twice, as the log contract has it.
        items = pa.array([[f"i{n}" for n in range(len(row))] for row in table["item_id"].to_pylist()])
        target = tmp_path / "examples" / path.relative_to(raw_examples_dir)
        target.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(table.set_column(table.column_names.index("item_id"), "item_id", items), target)
    config = EvaluationConfig(gates={"min_rows": 100})

    def judge(truth):
        out = tmp_path / f"out{len(list(tmp_path.iterdir()))}"
        RankingEvaluatorExecutor().Do(
            {
                "examples": artifact(Examples, tmp_path / "examples"),
                "behaviors": artifact(BehaviorLog, tmp_path / "behaviors"),
                "model": artifact(Model, tmp_path / "model"),
            },
            {
                "evaluation": artifact(ModelEvaluation, out / "evaluation"),
                "blessing": artifact(ModelBlessing, out / "blessing"),
            },
            {
                "evaluation_config": config.model_dump_json(),
                "label": "click",
                "split": "eval",
                "live_model": "",
                "truth": str(truth),
            },
        )
        found = EvaluationResult.load(out / "evaluation")
        assert (out / "blessing" / ("BLESSED" if found.blessed else "NOT_BLESSED")).is_file()
        return found, pq.read_table(out / "evaluation" / PREDICTIONS_FILE)

    return judge


def test_the_oracle_is_one_more_baseline_and_changes_no_verdict(judged, tmp_path):
    plain, rows = judged("")
    assert [scores.name for scores in plain.baselines] == ["popularity", "item_ctr"] and plain.lead_share is None
    truth = rows.select(["request_id", "item_id"]).append_column(
        "click_probability", pa.array(0.1 + 0.8 * rows["label"].to_numpy() * np.random.default_rng(0).random(len(rows)))
    )
    (tmp_path / "truth").mkdir()
    for part, at in enumerate((0, 200)):
        pq.write_table(truth.slice(at, 200 if part == 0 else None), tmp_path / "truth" / f"truth-{part}.parquet")
    found, _ = judged(tmp_path / "truth")
    assert [scores.name for scores in found.baselines] == ["popularity", "item_ctr", "oracle"]
    assert found.baselines[2].metrics["auc"].value > 0.99
    ctr, oracle = (found.baselines[i].metrics["auc"].value for i in (1, 2))
    assert found.lead_share.value == pytest.approx((found.model.metrics["auc"].value - ctr) / (oracle - ctr))
    for name, value in found.model.metrics.items():
        assert value.model_dump() == pytest.approx(plain.model.metrics[name].model_dump(), nan_ok=True), name
    assert [(gate.name, gate.passed) for gate in found.gates] == [(gate.name, gate.passed) for gate in plain.gates]
    assert judged(tmp_path / "no such folder")[0].lead_share is None

"""RankingEvaluator on real exports: baselines, the models beside it, and what becomes of one that cannot be scored."""

import json
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
    for path in raw_examples_dir.glob("Split-*/*.parquet"):
        table = pq.read_table(path)
        # A request shows no item twice, as the log contract has it.
        items = pa.array([[f"i{n}" for n in range(len(row))] for row in table["item_id"].to_pylist()])
        target = tmp_path / "examples" / path.relative_to(raw_examples_dir)
        target.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(table.set_column(table.column_names.index("item_id"), "item_id", items), target)
    config = EvaluationConfig(gates={"min_rows": 100})

    def judge(truth="", live="", anchor="", model=base_dir / "3"):
        out = tmp_path / f"out{len(list(tmp_path.iterdir()))}"
        shutil.copytree(model, out / "model" / "Format-Serving")
        RankingEvaluatorExecutor().Do(
            {
                "examples": artifact(Examples, tmp_path / "examples"),
                "behaviors": artifact(BehaviorLog, tmp_path / "behaviors"),
                "model": artifact(Model, out / "model"),
            },
            {
                "evaluation": artifact(ModelEvaluation, out / "evaluation"),
                "blessing": artifact(ModelBlessing, out / "blessing"),
            },
            {
                "evaluation_config": config.model_dump_json(),
                "label": "click",
                "split": "eval",
                "live_model": str(live),
                "anchor_model": str(anchor),
                "truth": str(truth),
            },
        )
        found = EvaluationResult.load(out / "evaluation")
        assert (out / "blessing" / ("BLESSED" if found.blessed else "NOT_BLESSED")).is_file()
        return found, pq.read_table(out / "evaluation" / PREDICTIONS_FILE)

    return judge


@pytest.fixture(scope="session")
def narrow_dir(raw_examples_dir, tmp_path_factory):
    """`9` and `10`: rankers of a spec that lacks two features of the other ranker's, of two seeds."""
    from features.encoding.fit import fit_encoding
    from serving.export.ranker import export_ranker
    from tests.builders.small_ranker import SPEC, make_small_ranker, random_requests

    features = tuple(feature for feature in SPEC.features if feature.name not in ("activity", "tags"))
    folder = tmp_path_factory.mktemp("narrow")
    encoding = fit_encoding(raw_examples_dir, SPEC.model_copy(update={"features": features}), folder / "encoding")
    for version, seed in (("9", 1), ("10", 2)):
        export_ranker(make_small_ranker(encoding, seed), encoding, folder / version, random_requests(2, seed=9))
    return folder


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


def test_a_live_model_that_lacks_a_new_feature_and_an_anchor_are_compared(judged, narrow_dir):
    found, rows = judged(live=narrow_dir / "10", anchor=narrow_dir / "9")
    assert (found.live.rows, found.anchor.rows) == (len(rows), len(rows))
    assert (found.live.version, found.anchor.version) == ("10", "9")
    assert found.live.metrics["auc"].live != found.anchor.metrics["auc"].live
    assert {"live_auc", "anchor_auc"} <= {gate.name for gate in found.gates}
    # One model that is both is scored, and compared, once.
    both, _ = judged(live=narrow_dir / "10", anchor=narrow_dir / "10")
    assert both.live == found.live and both.anchor is None


def test_a_live_model_is_scored_as_long_as_the_log_has_what_it_reads(judged, base_dir, narrow_dir, tmp_path):
    """Two features are taken out of the spec: kept beside the examples, and then gone from the log."""
    whole, rows = judged(model=narrow_dir / "9", live=base_dir / "3")
    for path in (tmp_path / "examples").glob("Split-*/*.parquet"):
        table = pq.read_table(path)
        kept = tmp_path / "examples" / "kept" / path.parent.name / path.name
        kept.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(table.select(["activity", "tags"]), kept)
        pq.write_table(table.drop(["activity", "tags"]), path)
    found, again = judged(model=narrow_dir / "9", live=base_dir / "3", anchor=narrow_dir / "10")
    assert found.live == whole.live and again["live_score"].equals(rows["live_score"])

    for path in (tmp_path / "examples").glob("kept/*/*.parquet"):
        pq.write_table(pq.read_table(path).drop(["tags"]), path)
    lost, again = judged(model=narrow_dir / "9", live=base_dir / "3", anchor=narrow_dir / "10")
    assert lost.live.rows == 0 and lost.live.version == "3" and "live_score" not in again.column_names
    assert lost.live.unscored.startswith("The live model (version 3) could not be scored: ")
    assert "has no column `tags`" in lost.live.unscored
    # The absolute gates judge, and the anchor, which can be scored.
    assert [gate.name for gate in lost.gates if gate.name.startswith("live")] == []
    assert lost.anchor == found.anchor and "anchor_auc" in [gate.name for gate in lost.gates]
    anchor, _ = judged(model=narrow_dir / "9", live=narrow_dir / "10", anchor=base_dir / "3")
    assert "The anchor (version 3) could not be scored" in anchor.anchor.unscored and anchor.live.rows == len(rows)


def test_a_live_model_of_another_label_or_version_is_no_failure_and_a_defect_is(
    judged, narrow_dir, tmp_path, monkeypatch
):
    other = tmp_path / "live" / "4"
    shutil.copytree(narrow_dir / "10", other)
    spec_file = other / "assets.extra" / "feature_spec.json"
    spec = json.loads(spec_file.read_text())
    spec_file.write_text(json.dumps(spec | {"label": "order"}))
    assert "it predicts `order`, this one `click`" in judged(live=other)[0].live.unscored
    spec_file.write_text(json.dumps(spec | {"of_a_later_version": 1}))
    assert "of another version of Clickmill" in judged(live=other)[0].live.unscored
    spec_file.unlink()
    assert "not a model exported by Clickmill" in judged(live=other)[0].live.unscored

    from serving.saved.ranker import SavedRanker

    run = SavedRanker.run
    monkeypatch.setattr(
        SavedRanker, "run", lambda self, *args: run(self, *args) if "live" not in str(self.directory) else {}
    )
    spec_file.write_text(json.dumps(spec))
    with pytest.raises(KeyError, match="score"):
        judged(live=other)

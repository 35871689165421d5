"""RetrievalEvaluator on real exports: a smaller live corpus, a teacher's lists, a live model of another label."""

import json
import shutil

import numpy as np
import pyarrow as pa
import pytest
from tfx.types.standard_artifacts import Examples, Model, ModelBlessing, ModelEvaluation

from evaluation.config import DistilledEvaluationConfig
from evaluation.retrieval import RetrievalEvaluation
from pipeline.artifacts import BehaviorLog
from pipeline.components.evaluators.retrieval_evaluator import RetrievalEvaluatorExecutor

TAUGHT = DistilledEvaluationConfig(ks=(10, 40), teacher_list=5, taught_requests=12, gates={"min_takes": 20})


def artifact(kind, uri):
    made = kind()
    made.uri = str(uri)
    return [made]


@pytest.fixture
def judged(cascade_work, tmp_path):
    """Runs the executor on the cascade's two-tower, taught by its fine ranker; returns what it found."""

    def trained(name):
        target = tmp_path / name / "Format-Serving"
        if not target.exists():
            shutil.copytree(cascade_work / name / "1", target)
        return artifact(Model, target.parent)

    def judge(live="", anchor="", teacher=True):
        raw, out = cascade_work / "raw", tmp_path / f"out{len(list(tmp_path.iterdir()))}"
        inputs = {
            "examples": artifact(Examples, raw / "examples"),
            "behaviors": artifact(BehaviorLog, raw / "behaviors"),
            "model": trained("two_tower"),
        }
        if teacher:
            inputs |= {"teacher": trained("autoint"), "two_tower": trained("two_tower")}
        outputs = {name: artifact(kind, out / name) for name, kind in OUTPUTS.items()}
        properties = {"label": "click", "split": "eval", "live_model": str(live), "anchor_model": str(anchor)}
        config = {"evaluation_config": TAUGHT.model_dump_json()}
        RetrievalEvaluatorExecutor().Do(inputs, outputs, properties | config)
        return RetrievalEvaluation.load(out / "evaluation")

    return judge


OUTPUTS = {"evaluation": ModelEvaluation, "blessing": ModelBlessing}


def test_recall_of_the_teacher_s_lists_is_that_of_scoring_by_hand(judged, cascade_work):
    from features import arrow
    from features.examples.shards import draw_requests, list_shards
    from features.histories.windows import attach_histories, read_behaviors
    from serving.cascade import Cascade

    work = cascade_work
    found = judged()
    items = work / "raw" / "examples" / "catalogue" / "items.parquet"
    cascade = Cascade.load(work / "two_tower", work / "autoint", items)
    history, everything = cascade.ranker.spec.history, np.arange(len(cascade.catalogue))
    recalls = []
    for path, rows in draw_requests(list_shards(work / "raw" / "examples", "eval"), 12, 0):
        table = arrow.read_parquet(path).take(pa.array(rows))
        table = attach_histories(table, read_behaviors(work / "raw" / "behaviors", path, history), history)
        for i in range(len(table)):
            row = table.slice(i, 1)
            logits = cascade.ranker.score_items(row, cascade.catalogue.tensors(everything))["logit"]
            retrieved, _ = cascade.retrieve(row, 40)
            recalls.append(np.isin(np.argsort(-logits, kind="stable")[:5], retrieved).mean())
    assert len(recalls) == 12 and found.taught_pairs == 60
    assert found.taught_recall["model"].value == pytest.approx(np.mean(recalls), abs=1e-9)
    assert found.taught_recall["two_tower"] == found.taught_recall["model"]
    assert {"taught_over_two_tower", "taught_over_popularity"} <= {gate.name for gate in found.gates}
    assert judged(teacher=False).taught_recall == {}


def test_a_live_model_of_a_smaller_catalogue(judged, cascade_work, tmp_path):
    """The live model holds nine tenths of the items: it finds more of its own, and the same of those that both hold."""
    from serving.export.item_embeddings import ITEM_EMBEDDINGS_FILE, read_item_embeddings, write_item_embeddings

    live = tmp_path / "live" / "7"
    shutil.copytree(cascade_work / "two_tower" / "1", live)
    ids, vectors = read_item_embeddings(live / ITEM_EMBEDDINGS_FILE)
    kept = np.flatnonzero(np.arange(len(ids)) % 10 > 0)
    (live / ITEM_EMBEDDINGS_FILE).unlink()
    write_item_embeddings(ids.take(pa.array(kept)), vectors[kept], live / ITEM_EMBEDDINGS_FILE)
    by_takes = judged(live=live, teacher=False)
    assert by_takes.live.slices["all"]["recall@40"] > by_takes.model.slices["all"]["recall@40"]
    for result in (by_takes, judged(live=live)):
        compared = result.live_comparison
        assert (compared.items, compared.version, compared.unscored) == (len(kept), "7", "")
        assert compared.difference.value == 0 and compared.verdict == "no_worse"
    assert 0 < by_takes.live_comparison.takes < by_takes.takes["all"]
    assert 0 < result.live_comparison.takes <= 60

    spec_file = live / "assets.extra" / "feature_spec.json"
    spec_file.write_text(json.dumps(json.loads(spec_file.read_text()) | {"label": "order"}))
    anchored = judged(live=live, anchor=cascade_work / "two_tower" / "1", teacher=False)
    assert "it predicts `order`, this one `click`" in anchored.live_comparison.unscored and anchored.live is None
    assert anchored.anchor.difference.value == 0 and anchored.anchor.version == "1"
    assert [gate.name for gate in anchored.gates if "recall" in gate.name] == ["recall_over_chance", "anchor_recall"]

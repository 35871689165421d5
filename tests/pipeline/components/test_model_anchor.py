"""ModelAnchor: which model that was pushed becomes the anchor, and what the component leaves."""

import json

import pytest
from tfx.types.standard_artifacts import ModelEvaluation, PushedModel

from evaluation.results import Estimate, EvaluationResult, GateResult, LiveComparison
from evaluation.retrieval import RecallComparison, RetrievalEvaluation, RetrievalScores
from pipeline.artifacts import AnchorNote
from pipeline.components.evaluators.model_anchor import NOTE_FILE, ModelAnchor, why_anchor
from pipeline.release.anchor import read_anchors
from tests.builders.report_example import evaluation

SCORES = RetrievalScores(name="model", slices={})


def retrieval(live=None, anchor=None, blessed=True, unscored="") -> RetrievalEvaluation:
    """Of a model with these verdicts beside the live model and the anchor; None: there is no such model."""

    def beside(verdict):
        return verdict and RecallComparison(takes=9, difference=Estimate(value=0.0), verdict=verdict)

    return RetrievalEvaluation(
        takes={"all": 9},
        items=9,
        ks=(10,),
        model=SCORES,
        popularity=SCORES,
        live_comparison=RecallComparison(unscored=unscored) if unscored else beside(live),
        anchor=beside(anchor),
        gates=(),
        blessed=blessed,
    )


@pytest.mark.parametrize(
    ("found", "moves"),
    [
        (retrieval(), False),
        (retrieval(live="better"), True),
        (retrieval(live="no_worse"), False),
        (retrieval(live="cannot_tell"), False),
        # Better than a live model that lost something, and no better than the anchor: the loss would be made good.
        (retrieval(live="better", anchor="no_worse"), False),
        (retrieval(live="better", anchor="cannot_tell"), False),
        (retrieval(live="no_worse", anchor="better"), True),
        (retrieval(live="better", blessed=False), False),
        (retrieval(unscored="The live model reads `mood`."), True),
        (retrieval(unscored="The live model reads `mood`.", anchor="no_worse"), False),
    ],
)
def test_the_anchor_moves_to_what_is_shown_to_be_better(found, moves):
    assert bool(why_anchor(found, first=False)) == moves
    assert why_anchor(found, first=True).startswith("It is the first model")


def test_a_ranker_that_replaces_one_that_nobody_can_score_is_the_anchor():
    result = evaluation()
    assert why_anchor(result.model_copy(update={"live": None, "anchor": None}), first=False) == ""
    lost = LiveComparison(rows=0, metrics={}, unscored="The live model reads `mood`, which is gone.")
    assert "guards nothing any more: The live model reads" in why_anchor(
        result.model_copy(update={"live": lost, "anchor": None, "gates": ()}), first=False
    )


@pytest.fixture
def run(tmp_path):
    """Runs the component after a push of a model of some identity; returns its note and the versions of anchors."""

    def after(version: str, result, pushed: bool = True):
        archive = tmp_path / "pushed" / version
        archive.mkdir(parents=True)
        (archive / "saved_model.pb").write_bytes(b"graph")
        (archive / "fingerprint.pb").write_text(version)
        artifacts = [kind() for kind in (PushedModel, ModelEvaluation, AnchorNote)]
        for made, path in zip(artifacts, (archive, tmp_path / f"e{version}", tmp_path / f"a{version}"), strict=True):
            made.uri = str(path)
        artifacts[0].set_int_custom_property("pushed", int(pushed))
        artifacts[0].set_string_custom_property("pushed_destination", f"{tmp_path}/serving/{version}")
        result.save(artifacts[1].uri)
        ModelAnchor.EXECUTOR_SPEC.executor_class._FUNCTION(*artifacts[:2], f"{tmp_path}/serving", artifacts[2])
        note = json.loads((tmp_path / f"a{version}" / NOTE_FILE).read_text())
        return note, [record.version for _, record in read_anchors(f"{tmp_path}/serving")]

    return after


def test_what_the_component_did_is_recorded(run):
    assert run("1", retrieval(), pushed=False) == ({"pushed_version": "", "why": ""}, [])
    note, anchors = run("2", retrieval())
    assert note["pushed_version"] == "2" and "first model" in note["why"] and anchors == ["2"]
    assert run("3", retrieval(live="no_worse")) == ({"pushed_version": "3", "why": ""}, ["2"])
    note, anchors = run("4", evaluation_that_is_better())
    assert "better than the anchor before" in note["why"] and anchors == ["4", "2"]


def evaluation_that_is_better() -> EvaluationResult:
    """A ranker's evaluation whose gates say that it is better than the live model, which is the anchor."""
    gate = GateResult(name="live_auc", value=0.1, passed=True, reason="It is better.", verdict="better")
    return evaluation().model_copy(update={"gates": (gate,), "blessed": True, "anchor": None})

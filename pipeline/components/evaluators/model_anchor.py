"""ModelAnchor: makes a pushed model the anchor, where it was shown to be better than the one before."""

import json

from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.types.standard_artifacts import ModelEvaluation, PushedModel

from evaluation.results import EvaluationResult
from evaluation.retrieval import RetrievalEvaluation
from features import storage
from pipeline.artifacts import AnchorNote
from pipeline.components.evaluators.evaluator import load_evaluation
from pipeline.release.anchor import move_anchor, read_anchors

NOTE_FILE = "model_anchor.json"


@component
def ModelAnchor(
    pushed_model: InputArtifact[PushedModel],
    evaluation: InputArtifact[ModelEvaluation],
    serving_dir: Parameter[str],
    anchor: OutputArtifact[AnchorNote],
):
    """Moves the anchor of the models in `serving_dir` (`pipeline/release/anchor.py`), or leaves it.

    The artifact says which version was pushed ('' for none) and why it became the anchor ('' where it did not).
    """
    note = {"pushed_version": "", "why": ""}
    if pushed_model.get_int_custom_property("pushed") == 1:
        version = storage.name(pushed_model.get_string_custom_property("pushed_destination"))
        why = why_anchor(load_evaluation(evaluation.uri), first=not read_anchors(serving_dir))
        note = {"pushed_version": version, "why": why}
        if why:
            move_anchor(serving_dir, pushed_model.uri, version, why)
    storage.write_text(storage.join(anchor.uri, NOTE_FILE), json.dumps(note, indent=2) + "\n")


def why_anchor(found: EvaluationResult | RetrievalEvaluation, first: bool) -> str:
    """Why a model that was pushed is the anchor from now on, as a sentence; '' where it is not.

    Args:
      found: its evaluation.
      first: whether there is no anchor yet.
    """
    if first:
        return "It is the first model that was pushed since anchors are kept."
    if found.becomes_anchor:
        return "It was shown to be better than the anchor before."
    live = found.live_comparison if isinstance(found, RetrievalEvaluation) else found.live
    before = found.anchor or live
    if before is not None and before.unscored:
        return f"The anchor before guards nothing any more: {before.unscored}"
    return ""

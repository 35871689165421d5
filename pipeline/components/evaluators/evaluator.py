"""What every evaluator is: its interface, the model that serves now, the blessing that the standard Pusher reads."""

from collections.abc import Callable
from typing import TypeVar

from tfx import types
from tfx.components.evaluator import constants
from tfx.dsl.components.base import base_component
from tfx.types import artifact_utils, component_spec
from tfx.types.standard_artifacts import Examples, Model, ModelBlessing, ModelEvaluation
from tfx.utils import path_utils

from evaluation.results import EVALUATION_FILE, EvaluationResult, LiveComparison
from evaluation.retrieval import RecallComparison, RetrievalEvaluation
from features import storage
from features.config import Strict
from features.errors import NotFoundError, UnscorableError
from pipeline.artifacts import BehaviorLog
from pipeline.components.base import PropertyDriver
from pipeline.components.evaluators.live_model import find_compared_models
from pipeline.release.override import find_override
from serving.saved.saved_model import read_spec

_Scored = TypeVar("_Scored")
_Result = TypeVar("_Result", bound=EvaluationResult | RetrievalEvaluation)
_Comparison = TypeVar("_Comparison", LiveComparison, RecallComparison)


class EvaluatorSpec(component_spec.ComponentSpec):
    """Interface of every evaluator."""

    PARAMETERS = {
        "evaluation_config": component_spec.ExecutionParameter(type=str),
        "label": component_spec.ExecutionParameter(type=str),
        "split": component_spec.ExecutionParameter(type=str),
        "serving_dir": component_spec.ExecutionParameter(type=str),
    }
    INPUTS = {
        "examples": component_spec.ChannelParameter(type=Examples),
        "behaviors": component_spec.ChannelParameter(type=BehaviorLog),
        "model": component_spec.ChannelParameter(type=Model),
    }
    OUTPUTS = {
        "evaluation": component_spec.ChannelParameter(type=ModelEvaluation),
        "blessing": component_spec.ChannelParameter(type=ModelBlessing),
    }


class LiveModelDriver(PropertyDriver):
    """Adds `live_model` and `anchor_model`: the models to compare with, or ''. Other ones mean another evaluation.

    And `override`, where somebody decided that the model is allowed whatever the gates say (`clickmill models bless`).
    """

    def resolve(self, execution_info) -> dict[str, str | None]:
        candidate = serving_path(execution_info.input_dict)
        serving_dir = execution_info.exec_properties["serving_dir"]
        return {**find_compared_models(serving_dir, candidate), "override": find_override(serving_dir, candidate)}


class Evaluator(base_component.BaseComponent):
    """Evaluates a model on `split` of the raw examples and blesses it if it passes every gate of `evaluation_config`.

    Subclasses name the executor; execution properties are those of their `SPEC_CLASS`. Outputs: `evaluation` and
    `blessing`, both standard artifacts.
    """

    SPEC_CLASS = EvaluatorSpec
    DRIVER_CLASS = LiveModelDriver

    def __init__(self, examples, behaviors, model, evaluation_config: Strict, **properties: str):
        super().__init__(
            self.SPEC_CLASS(
                examples=examples,
                behaviors=behaviors,
                model=model,
                evaluation_config=evaluation_config.model_dump_json(),
                **properties,
                evaluation=types.Channel(type=ModelEvaluation),
                blessing=types.Channel(type=ModelBlessing),
            )
        )


def load_evaluation(uri: str) -> EvaluationResult | RetrievalEvaluation:
    """Reads what an evaluator wrote: of a ranker or of a retrieval model."""
    of_ranker = storage.is_file(storage.join(uri, EVALUATION_FILE))
    return (EvaluationResult if of_ranker else RetrievalEvaluation).load(uri)


def serving_path(input_dict, key: str = "model") -> str:
    """The files of a Model artifact."""
    model = artifact_utils.get_single_instance(input_dict[key])
    return path_utils.serving_model_path(model.uri, path_utils.is_old_model_artifact(model))


def scored_beside(
    who: str, saved_model: str, label: str, score: Callable[[str], _Scored]
) -> tuple[_Scored | None, str]:
    """Scores another model, for a comparison; where it cannot be scored, says why: that must not fail a run.

    Args:
      who: `live` or `anchor`.
      saved_model: where it lies; '' for none.
      label: what the judged model predicts.
      score: scores a SavedModel.

    Returns:
      What `score` found, None where there is no such model or it cannot be scored; and why not, as a sentence.
    """
    if not saved_model:
        return None, ""
    name = {"live": "The live model", "anchor": "The anchor"}[who]
    try:
        of = read_spec(saved_model).label
        if of != label:
            raise UnscorableError(f"it predicts `{of}`, this one `{label}`.")
        return score(saved_model), ""
    except (UnscorableError, NotFoundError) as error:
        return None, f"{name} (version {storage.name(saved_model)}) could not be scored: {error}"


def with_versions(result: _Result, live: str, anchor: str, live_field: str, lost: _Comparison | None) -> _Result:
    """Notes which versions a model was compared with.

    Args:
      result: of the evaluation.
      live: where the live model lies; '' for none.
      anchor: where the anchor lies.
      live_field: of the result, the comparison with the live model; that with the anchor is `anchor`.
      lost: stands for that with an anchor which could not be scored; None where it was.
    """
    beside = {live_field: (live, getattr(result, live_field)), "anchor": (anchor, lost or result.anchor)}
    noted = {
        field: found and found.model_copy(update={"version": storage.name(path)})
        for field, (path, found) in beside.items()
    }
    return result.model_copy(update=noted)


def mark_blessing(blessing, result, model, live: str, override: str = "") -> None:
    """Marks the blessing as TFX's Evaluator does, which is what the standard Pusher reads.

    Args:
      blessing: the ModelBlessing artifact.
      result: of the evaluation: `blessed` and `failed_gates`.
      model: the Model artifact that was judged.
      live: the version that it was compared with, or ''.
      override: who allowed it whatever the gates say, and why; '' for nobody.
    """
    blessed = result.blessed or bool(override)
    name = constants.BLESSED_FILE_NAME if blessed else constants.NOT_BLESSED_FILE_NAME
    storage.write_text(storage.join(blessing.uri, name), "")
    blessing.set_int_custom_property(
        constants.ARTIFACT_PROPERTY_BLESSED_KEY,
        constants.BLESSED_VALUE if blessed else constants.NOT_BLESSED_VALUE,
    )
    blessing.set_string_custom_property(constants.ARTIFACT_PROPERTY_CURRENT_MODEL_URI_KEY, model.uri)
    blessing.set_int_custom_property(constants.ARTIFACT_PROPERTY_CURRENT_MODEL_ID_KEY, model.id)
    if live:
        blessing.set_string_custom_property(constants.ARTIFACT_PROPERTY_BASELINE_MODEL_URI_KEY, live)
    if not result.blessed:
        reasons = "; ".join(f"{gate.name}: {gate.reason}" for gate in result.failed_gates)
        reasons += f"; allowed nevertheless by {override}" if override else ""
        blessing.set_string_custom_property(constants.ARTIFACT_PROPERTY_BLESSING_MESSAGE_KEY, reasons)

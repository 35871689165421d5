"""ReplayEvaluator: what the fine ranker would have earned on held-out logs, before a release names it."""

from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.types.standard_artifacts import Examples, Model, ModelBlessing, ModelEvaluation
from tfx.utils import path_utils

from pipeline.artifacts import BehaviorLog
from pipeline.components.evaluators.evaluator import mark_blessing
from pipeline.replay.config import ReplaySection


@component
def ReplayEvaluator(
    examples: InputArtifact[Examples],
    behaviors: InputArtifact[BehaviorLog],
    model: InputArtifact[Model],
    replay_config: Parameter[str],
    split: Parameter[str],
    serving_root: Parameter[str],
    evaluation: OutputArtifact[ModelEvaluation],
    blessing: OutputArtifact[ModelBlessing],
):
    """Writes `replay.json` and `replay.html`, and blesses the ranker unless the section refuses the verdict.

    ReleasePusher makes no release of a run whose ranker is not blessed. `replay_config` is a `ReplaySection` as JSON.
    """
    from pipeline.replay.replay_ranker import replay_ranker

    section = ReplaySection.model_validate_json(replay_config)
    exported = path_utils.serving_model_path(model.uri)
    found = replay_ranker(section, exported, examples.uri, behaviors.uri, split, serving_root)
    found.save(evaluation.uri)
    mark_blessing(blessing, found, model, "")

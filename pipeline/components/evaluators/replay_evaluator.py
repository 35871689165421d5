"""ReplayEvaluator: what a run's models would have earned on held-out logs, before a release names them."""

from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.types.standard_artifacts import Examples, Model, ModelBlessing, ModelEvaluation
from tfx.utils import path_utils

from evaluation.cascade.config import CascadeSection
from features import storage
from features.items.catalogue import CATALOGUE_FILE
from pipeline.artifacts import BehaviorLog
from pipeline.components.evaluators.evaluator import mark_blessing
from pipeline.replay.config import ReplaySection
from pipeline.replay.replay_models import TrainedModels, replay_models


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
    two_tower: InputArtifact[Model] = None,
    coarse: InputArtifact[Model] = None,
    cascade_config: Parameter[str] = "",
):
    """Writes `replay.json` and `replay.html`, and blesses the ranker unless the section refuses the verdict.

    ReleasePusher makes no release without the blessing. `replay_config` is a `ReplaySection`, `cascade_config` a
    `CascadeSection` as JSON; with the latter the ranker is replayed within its cascade.
    """
    given = (model, two_tower, coarse)
    ranker, *others = (None if each is None else path_utils.serving_model_path(each.uri) for each in given)
    section = ReplaySection.model_validate_json(replay_config)
    cascade = CascadeSection.model_validate_json(cascade_config) if cascade_config else None
    models = TrainedModels(ranker, *others, storage.join(examples.uri, CATALOGUE_FILE), cascade)
    found = replay_models(section, models, examples.uri, behaviors.uri, split, serving_root)
    found.save(evaluation.uri)
    mark_blessing(blessing, found, model, "")

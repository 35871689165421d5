"""CoarseExamples: retrieved but unshown items beside the impressions, for the training of the coarse ranker."""

from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.types.standard_artifacts import Examples, Model
from tfx.utils import path_utils

from features import storage
from pipeline.artifacts import BehaviorLog
from pipeline.components.base import inherit_properties


@component
def CoarseExamples(
    examples: InputArtifact[Examples],
    behaviors: InputArtifact[BehaviorLog],
    encoded_examples: InputArtifact[Examples],
    two_tower: InputArtifact[Model],
    candidate_sets: Parameter[str],
    coarse_examples: OutputArtifact[Examples],
    teacher: InputArtifact[Model] = None,
    teacher_lists: InputArtifact[Examples] = None,
):
    """Writes encoded examples whose `train` and `eval` requests also hold sampled items of the two-tower's top n₁.

    `candidate_sets` is a `CandidateSetConfig` as JSON. With a `teacher`, a fine ranker, its logits are kept for
    distillation. All other files are those of `encoded_examples`; `teacher_lists`, which a Trainer could not take
    beside its examples, come along in a folder of that name.
    """
    from features.examples.config import CandidateSetConfig
    from features.examples.teacher_list_files import LISTS_FOLDER
    from serving.offline.candidate_examples import make_coarse_examples

    logs = (examples.uri, behaviors.uri, encoded_examples.uri)
    retrieves, ranks = (model and path_utils.serving_model_path(model.uri) for model in (two_tower, teacher))
    config = CandidateSetConfig.model_validate_json(candidate_sets)
    made = make_coarse_examples(*logs, retrieves, coarse_examples.uri, config, teacher=ranks)
    if teacher_lists is not None:
        storage.copy_tree(teacher_lists.uri, storage.join(coarse_examples.uri, LISTS_FOLDER))
    inherit_properties(coarse_examples, encoded_examples, **made)

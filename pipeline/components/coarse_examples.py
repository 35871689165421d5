"""CoarseExamples: retrieved but unshown items beside the impressions, for the training of the coarse ranker."""

from pathlib import Path

from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.types.standard_artifacts import Examples, Model
from tfx.utils import path_utils

from pipeline.artifacts import BehaviorLog


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

    `candidate_sets` is a `features.examples.candidate_sets.CandidateSetConfig` as JSON. With a `teacher`, a fine
    ranker, its
    logits are kept for distillation. All other files are those of `encoded_examples`; `teacher_lists`, which a Trainer
    could not take beside its examples, come along in a folder of that name.
    """
    from features.examples.config import CandidateSetConfig
    from features.examples.shards import link_tree
    from features.examples.teacher_list_files import LISTS_FOLDER
    from serving.offline.candidate_examples import make_coarse_examples

    made = make_coarse_examples(
        examples.uri,
        behaviors.uri,
        encoded_examples.uri,
        path_utils.serving_model_path(two_tower.uri),
        coarse_examples.uri,
        CandidateSetConfig.model_validate_json(candidate_sets),
        teacher=path_utils.serving_model_path(teacher.uri) if teacher is not None else None,
    )
    if teacher_lists is not None:
        link_tree(teacher_lists.uri, Path(coarse_examples.uri) / LISTS_FOLDER)
    coarse_examples.split_names = encoded_examples.split_names
    coarse_examples.span = encoded_examples.span
    for name in ("file_format", "payload_format"):
        coarse_examples.set_string_custom_property(name, encoded_examples.get_string_custom_property(name))
    for name, number in made.items():
        coarse_examples.set_int_custom_property(name, number)

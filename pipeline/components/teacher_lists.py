"""TeacherLists: a fine ranker's scores of the whole catalogue, sampled, for the models that choose its candidates."""

from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.types.standard_artifacts import Examples, Model
from tfx.utils import path_utils

from pipeline.artifacts import BehaviorLog
from pipeline.components.base import inherit_properties


@component
def TeacherLists(
    examples: InputArtifact[Examples],
    behaviors: InputArtifact[BehaviorLog],
    encoded_examples: InputArtifact[Examples],
    two_tower: InputArtifact[Model],
    teacher: InputArtifact[Model],
    lists_config: Parameter[str],
    teacher_lists: OutputArtifact[Examples],
):
    """Writes encoded examples of sampled requests of `train` and `eval`, and the teacher's logits of items beside them.

    `lists_config` is a `TeacherListsConfig` as JSON.
    """
    from features.examples.teacher_list_files import TeacherListsConfig
    from serving.offline.teacher_scoring import make_teacher_lists

    made = make_teacher_lists(
        examples.uri,
        behaviors.uri,
        encoded_examples.uri,
        path_utils.serving_model_path(two_tower.uri),
        path_utils.serving_model_path(teacher.uri),
        teacher_lists.uri,
        TeacherListsConfig.model_validate_json(lists_config),
    )
    inherit_properties(teacher_lists, encoded_examples, **made)
    teacher_lists.split_names = '["train", "eval"]'

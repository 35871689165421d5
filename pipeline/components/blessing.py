"""What every evaluator does: find the model that serves now, and mark its blessing for the standard Pusher."""

from pathlib import Path

from tfx.components.evaluator import constants
from tfx.types import artifact_utils
from tfx.utils import path_utils

from pipeline.components.drivers import PropertyDriver
from pipeline.components.live_model import find_live_model


class LiveModelDriver(PropertyDriver):
    """Adds `live_model`: the pushed version to compare with, or ''. Another live model means another evaluation."""

    def resolve(self, execution_info) -> dict[str, str]:
        candidate = serving_path(execution_info.input_dict)
        live = find_live_model(execution_info.exec_properties["serving_dir"], candidate)
        return {"live_model": str(live or "")}


def serving_path(input_dict, key: str = "model") -> str:
    """The files of a Model artifact."""
    model = artifact_utils.get_single_instance(input_dict[key])
    return path_utils.serving_model_path(model.uri, path_utils.is_old_model_artifact(model))


def mark_blessing(blessing, result, model, live: str) -> None:
    """Marks the blessing as TFX's Evaluator does, which is what the standard Pusher reads.

    Args:
      blessing: the ModelBlessing artifact.
      result: of the evaluation: `blessed` and `failed_gates`.
      model: the Model artifact that was judged.
      live: the version that it was compared with, or ''.
    """
    blessed = result.blessed
    name = constants.BLESSED_FILE_NAME if blessed else constants.NOT_BLESSED_FILE_NAME
    Path(blessing.uri, name).write_text("")
    blessing.set_int_custom_property(
        constants.ARTIFACT_PROPERTY_BLESSED_KEY,
        constants.BLESSED_VALUE if blessed else constants.NOT_BLESSED_VALUE,
    )
    blessing.set_string_custom_property(constants.ARTIFACT_PROPERTY_CURRENT_MODEL_URI_KEY, model.uri)
    blessing.set_int_custom_property(constants.ARTIFACT_PROPERTY_CURRENT_MODEL_ID_KEY, model.id)
    if live:
        blessing.set_string_custom_property(constants.ARTIFACT_PROPERTY_BASELINE_MODEL_URI_KEY, live)
    if not blessed:
        reasons = "; ".join(f"{gate.name}: {gate.reason}" for gate in result.failed_gates)
        blessing.set_string_custom_property(constants.ARTIFACT_PROPERTY_BLESSING_MESSAGE_KEY, reasons)

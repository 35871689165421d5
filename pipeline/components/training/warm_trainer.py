"""WarmTrainer: TFX's Trainer, which begins with the training state of the live model."""

from tfx.components.trainer.component import Trainer
from tfx.utils import json_utils

from pipeline.components.base import PropertyDriver
from pipeline.components.training.warm_state import find_state


class WarmTrainerDriver(PropertyDriver):
    """Finds the training state to begin with: another one means another training."""

    def resolve(self, execution_info) -> dict[str, str]:
        settings = json_utils.loads(execution_info.exec_properties["custom_config"])
        (examples,) = execution_info.input_dict["examples"]
        found = find_state(settings["push_dir"], examples.uri, examples.span or 0)
        settings |= {"warm_from": found, "examples": examples.uri, "span": examples.span or 0}
        return {"custom_config": json_utils.dumps(settings)}


class WarmTrainer(Trainer):
    """Trains a model with `training.warm_start` (docs/guides/schedule.md); its arguments are the Trainer's.

    `custom_config` also holds `push_dir`, where versions of the model are pushed to.
    """

    DRIVER_CLASS = WarmTrainerDriver

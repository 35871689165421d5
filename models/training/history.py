"""What a training did, epoch by epoch, as JSON beside its checkpoints."""

from __future__ import annotations

import json
import math

from pydantic import BaseModel

from features import storage

FILE_NAME = "training_history.json"


class EpochRecord(BaseModel):
    """One epoch. Losses in nats, of what is trained; `metrics` are the validation metrics that were asked for; `losses`
    are the parts of the training loss that stand beside the log loss (`ssl_loss`, `contrastive_loss` …), by name."""

    epoch: int
    train_log_loss: float
    val_log_loss: float
    examples_per_second: float
    seconds: float
    metrics: dict[str, float] = {}
    losses: dict[str, float] = {}


class ValidationRecord(BaseModel):
    """A validation in the middle of an epoch, after `step` of its steps."""

    epoch: int
    step: int
    val_log_loss: float
    metrics: dict[str, float] = {}


class Position(BaseModel):
    """Where in a training a checkpoint was written.

    Attributes:
      epoch: from 1.
      step: steps of the epoch before it; None: at its end.
      seconds: of training in that epoch so far, without validation.
    """

    epoch: int
    step: int | None = None
    seconds: float = 0.0

    @property
    def name(self) -> str:
        """Of the checkpoint's files."""
        return f"epoch-{self.epoch:04d}" + ("" if self.step is None else f"-step-{self.step:08d}")


class TrainingHistory(BaseModel):
    """A training so far.

    Attributes:
      fingerprint: of model, data and configuration: a checkpoint is resumed only under the same one.
      parameters: trainable parameters.
      epochs: one record a finished epoch.
      validations: one record each validation in the middle of an epoch.
      newest: where the newest checkpoint was written; None: before the first.
      maximize: the metric whose highest value is the best epoch's; None: the lowest validation loss is.
      finished: whether training ended (by epochs or early stopping), as opposed to being cut off.
    """

    fingerprint: str
    parameters: int = 0
    epochs: list[EpochRecord] = []
    validations: list[ValidationRecord] = []
    newest: Position | None = None
    maximize: str | None = None
    finished: bool = False

    @property
    def judged(self) -> list[EpochRecord | ValidationRecord]:
        """What was validated, in the order in which it was: epochs and steps in their middle."""
        return sorted([*self.validations, *self.epochs], key=lambda each: (each.epoch, getattr(each, "step", math.inf)))

    def badness(self, record: EpochRecord | ValidationRecord) -> float:
        """What the best one has least of: the validation log loss, or `maximize` with its sign turned."""
        return -record.metrics[self.maximize] if self.maximize else record.val_log_loss

    @property
    def best(self) -> Position:
        """Where the weights were best: the first of the lowest `badness`; epoch 0 before the first validation."""
        found = min(self.judged, key=self.badness, default=None)
        return Position(epoch=found.epoch, step=getattr(found, "step", None)) if found else Position(epoch=0)

    @property
    def best_epoch(self) -> int:
        """The epoch that `best` lies in."""
        return self.best.epoch

    def epochs_since_best(self) -> int:
        return len(self.epochs) - self.best_epoch

    def save(self, directory: storage.AnyPath) -> None:
        """Writes the history whole: a reader never meets half a file."""
        values = {**self.model_dump(), "best_epoch": self.best_epoch}
        storage.write_text(storage.join(directory, FILE_NAME), json.dumps(values, indent=2))

    @classmethod
    def load(cls, directory: storage.AnyPath) -> TrainingHistory | None:
        """Reads the history of a directory; None where there is none."""
        path = storage.join(directory, FILE_NAME)
        return cls.model_validate_json(storage.read_text(path)) if storage.is_file(path) else None

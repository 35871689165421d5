"""What a training did, epoch by epoch, as JSON beside its checkpoints."""

from __future__ import annotations

import json

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


class TrainingHistory(BaseModel):
    """A training so far.

    Attributes:
      fingerprint: of model, data and configuration: a checkpoint is resumed only under the same one.
      parameters: trainable parameters.
      epochs: one record a finished epoch.
      maximize: the metric whose highest value is the best epoch's; None: the lowest validation loss is.
      finished: whether training ended (by epochs or early stopping), as opposed to being cut off.
    """

    fingerprint: str
    parameters: int = 0
    epochs: list[EpochRecord] = []
    maximize: str | None = None
    finished: bool = False

    @property
    def best_epoch(self) -> int:
        """The epoch of the lowest validation log loss, or of the highest `maximize`; 0 before the first."""

        def badness(record: EpochRecord) -> float:
            return -record.metrics[self.maximize] if self.maximize else record.val_log_loss

        best = min(self.epochs, key=badness, default=None)
        return best.epoch if best else 0

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

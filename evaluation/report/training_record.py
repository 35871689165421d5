"""How a training went, epoch by epoch, as a run keeps it and the report reads it: one class for both."""

from __future__ import annotations

import json
from typing import Any

from pydantic import Field

from features import storage
from features.config import Strict, parse_model

HISTORY_FILE = "training_history.json"


class Epoch(Strict):
    """One pass over the train split."""

    epoch: int
    train_log_loss: float | None = None
    val_log_loss: float | None = None
    val_auc: float | None = None
    metrics: dict[str, float] = Field({}, description="Further validation metrics, e.g. `recall@50`.")
    losses: dict[str, float] = Field({}, description="Parts of the training loss beside the log loss, by name.")
    examples_per_second: float | None = None
    seconds: float | None = None


class Training(Strict):
    """How training went; `best_epoch` is the one whose weights were kept."""

    epochs: tuple[Epoch, ...]
    best_epoch: int | None = None
    parameters: int | None = None


def history_record(history: Any) -> dict[str, Any]:
    """Returns what a run keeps of a training (`models.training.history`): the values of a `Training`, for JSON."""
    epochs = tuple(Epoch(**record.model_dump(), val_auc=record.metrics.get("auc")) for record in history.epochs)
    return Training(epochs=epochs, best_epoch=history.best_epoch, parameters=history.parameters).model_dump(mode="json")


def load_training(path: storage.AnyPath) -> Training:
    """Reads `training_history.json`, or that of the directory that holds it.

    Raises:
      FileNotFoundError: if it is not there.
      SpecError: if it is not one.
    """
    file = storage.join(path, HISTORY_FILE) if storage.is_folder(path) else path
    return parse_model(json.loads(storage.read_text(file)), Training, str(file))

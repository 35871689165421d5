"""Checkpoints of a training: at the end of each epoch, and where asked for in its middle."""

from __future__ import annotations

from collections.abc import Iterable

import tensorflow as tf
import tensorflow_recommenders as tfrs

from features import storage
from models.training.history import Position


class Checkpoints:
    """Checkpoints by their position in the training.

    Args:
      model: a compiled model; its optimiser's state and its metrics' are kept with its weights.
      work_dir: `checkpoints/` in it holds them.
      **others: what else is kept, by name.
    """

    def __init__(self, model: tfrs.Model, work_dir: storage.AnyPath, **others: tf.Module):
        self._checkpoint = tf.train.Checkpoint(model=model, optimizer=model.optimizer, **others)
        self._folder = storage.join(work_dir, "checkpoints")

    def save(self, position: Position) -> None:
        self._checkpoint.write(self._prefix(position))

    def restore(self, position: Position) -> None:
        self._checkpoint.read(self._prefix(position)).expect_partial()

    def delete_all_but(self, positions: Iterable[Position]) -> None:
        keep = {position.name for position in positions}
        for path in storage.entries(self._folder):
            if storage.name(path).split(".")[0] not in keep:
                storage.delete(path)

    def _prefix(self, position: Position) -> str:
        return storage.join(self._folder, position.name)

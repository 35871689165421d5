"""Checkpoints of a training: one an epoch."""

from __future__ import annotations

import tensorflow as tf
import tensorflow_recommenders as tfrs

from features import storage


class Checkpoints:
    """One checkpoint an epoch, by number.

    Args:
      model: a compiled model; its optimiser's state is kept with its weights.
      work_dir: `checkpoints/` in it holds them.
    """

    def __init__(self, model: tfrs.Model, work_dir: storage.AnyPath):
        self._checkpoint = tf.train.Checkpoint(model=model, optimizer=model.optimizer)
        self._folder = storage.join(work_dir, "checkpoints")

    def save(self, epoch: int) -> None:
        self._checkpoint.write(self._prefix(epoch))

    def restore(self, epoch: int) -> None:
        self._checkpoint.read(self._prefix(epoch)).expect_partial()

    def delete_all_but(self, epochs: set[int]) -> None:
        keep = {storage.name(self._prefix(epoch)) for epoch in epochs}
        for path in storage.entries(self._folder):
            if storage.name(path).split(".")[0] not in keep:
                storage.delete(path)

    def _prefix(self, epoch: int) -> str:
        return storage.join(self._folder, f"epoch-{epoch:04d}")

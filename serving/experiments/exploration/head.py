"""Draws of a Bayesian last layer: a fixed set, made when a ranker is exported and kept inside its SavedModel."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from features import storage
from features.errors import InputError

#: Where an export keeps the draws of its last layer, inside the SavedModel.
HEAD_FILE = "assets.extra/head_draws.npy"


@dataclass(frozen=True)
class HeadDraws:
    """What a draw of the last layer's posterior adds to the ranker's logits.

    Attributes:
      deviations: [M, h + 1] float32, each draw's weights less the trained ones; the bias stands last.
    """

    deviations: np.ndarray

    @property
    def num_draws(self) -> int:
        """M: every request takes one of these, all with the same chance."""
        return len(self.deviations)

    def logits(self, logits: np.ndarray, hidden: np.ndarray, scale: float = 1.0) -> np.ndarray:
        """Returns the logits of every draw, [M, n] float64.

        Args:
          logits: [n], the ranker's own.
          hidden: [n, h], the inputs of its last layer.
          scale: what deviations are multiplied by.

        Raises:
          InputError: if `hidden` is of another width.
        """
        width = self.deviations.shape[1] - 1
        if np.shape(hidden) != (len(logits), width):
            raise InputError(
                f"`hidden` must be [{len(logits)}, {width}], as these draws were made. Received: {np.shape(hidden)}. "
                "Take both from one version of the ranker."
            )
        moved = self.deviations[:, :-1] @ np.asarray(hidden, np.float32).T + self.deviations[:, -1:]
        return logits + scale * moved.astype(np.float64)

    def save(self, saved_model: storage.AnyPath) -> None:
        """Writes the draws into a SavedModel."""
        with storage.writing(storage.join(saved_model, HEAD_FILE)) as file:
            np.save(file, self.deviations, allow_pickle=False)

    @classmethod
    def load(cls, saved_model: storage.AnyPath) -> HeadDraws | None:
        """Reads the draws of a SavedModel; None if it was exported without."""
        path = storage.join(saved_model, HEAD_FILE)
        if not storage.is_file(path):
            return None
        with storage.open_read(path) as file:
            return cls(np.load(file, allow_pickle=False))

"""How a model is trained."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from features.config import Strict
from models.inputs.config import InputConfig


class OptimizerConfig(Strict):
    """Which optimiser, and how its learning rate runs.

    Attributes:
      name: `lazy_adam` (default), `adam` (dense moments: every row of every table moves at every step), `adagrad`.
      learning_rate: the highest learning rate.
      schedule: `constant`, or `cosine`: linear warm-up, then half a cosine to a hundredth of the highest.
      warmup_fraction: share of all steps spent warming up (cosine only).
    """

    name: Literal["lazy_adam", "adam", "adagrad"] = "lazy_adam"
    learning_rate: float = Field(1e-3, gt=0)
    schedule: Literal["constant", "cosine"] = "constant"
    warmup_fraction: float = Field(0.05, ge=0, lt=1)


class TrainingConfig(Strict):
    """How a model is trained.

    Attributes:
      epochs: at most this many.
      patience: stop after this many epochs in a row that were no better on validation.
      seed: of weights, dropout and shuffling.
      input: batches and buffers.
      optimizer: optimiser and schedule.
      steps_per_execution: steps that one call into TensorFlow runs; more steps, less Python between them.
    """

    epochs: int = Field(5, ge=1)
    patience: int = Field(2, ge=1)
    seed: int = 0
    input: InputConfig = InputConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    steps_per_execution: int = Field(16, ge=1)

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
      schedule: `constant`; `cosine`: linear warm-up, then half a cosine to a hundredth of the highest; `plateau`:
        constant until validation stops getting better, then cut.
      warmup_fraction: share of all steps spent warming up (cosine only).
      plateau_factor: what the learning rate is multiplied by at a cut (plateau only).
      plateau_patience: validations in a row that were no better than the best, after which it is cut (plateau only).
    """

    name: Literal["lazy_adam", "adam", "adagrad"] = "lazy_adam"
    learning_rate: float = Field(1e-3, gt=0)
    schedule: Literal["constant", "cosine", "plateau"] = "constant"
    warmup_fraction: float = Field(0.05, ge=0, lt=1)
    plateau_factor: float = Field(0.3, gt=0, lt=1)
    plateau_patience: int = Field(1, ge=1)


class RegularizationConfig(Strict):
    """What keeps a model from learning its training rows by heart, and ids first of all (docs/reference/training.md).

    What ids are worth differs by log, and no λ is best for all: the default is none. Where the best epoch is the first
    or the second, start with an `embedding_l2` of 3.

    Attributes:
      embedding_l2: λ of the looked-up rows. Added to the loss is λ times the mean over the batch's candidates of
        `Σ_f |e_f|²`, e_f the row of field f (the values of a multi-valued field share one field's weight). It is an L2
        of the rows that an example reads and costs what the look-up does; an L2 of the whole tables would shrink a row
        at every step that it is not read in, and cost as much as the tables are large.
      frequency_power: p; a row that was seen c times in train has λ (100 / c)^p, so that rare ids shrink more. 0: all
        rows alike. 1: over an epoch every row is pulled to zero by the same force, however rare it is, which is a
        Gaussian prior on the rows. 2: rare ids are held near zero, and frequent ones let go. A row whose count is not
        known (out of vocabulary) counts as the rarest that is.
      weight_decay: decoupled (AdamW, Loshchilov and Hutter, 2019): at a step, the matrices of dense layers lose
        `learning rate · weight_decay` of themselves. Embeddings, biases and normalisations do not.
      averaging: β of an exponential moving average of the weights, `a ← β a + (1 - β) w` after each step. Then
        validation, the best weights and the export are the average's. None: there is none.
    """

    embedding_l2: float = Field(0.0, ge=0)
    frequency_power: float = Field(2.0, ge=0, le=2)
    weight_decay: float = Field(0.0, ge=0)
    averaging: float | None = Field(None, gt=0, lt=1)


class WarmStartConfig(Strict):
    """How a training begins with what the live model learnt (docs/guides/schedule.md).

    Attributes:
      optimizer: whether the optimiser's state is carried too.
    """

    optimizer: bool = True


class TrainingConfig(Strict):
    """How a model is trained.

    Attributes:
      epochs: at most this many.
      patience: stop after this many epochs in a row that were no better on validation.
      seed: of weights, dropout and shuffling.
      input: batches and buffers.
      optimizer: optimiser and schedule.
      regularization: what is added to the loss or done to the weights against memorising.
      steps_per_execution: steps that one call into TensorFlow runs; more steps, less Python between them.
      checkpoint_steps: write a checkpoint after every so many steps of an epoch too, so that a kill costs no more than
        these. None: at the end of an epoch alone.
      validation_steps: validate after every so many steps of an epoch too, where epochs are long; the best weights may
        be of such a step. None: at the end of an epoch alone.
      warm_start: begin with the weights of the live model; None: with random ones.
    """

    epochs: int = Field(5, ge=1)
    patience: int = Field(2, ge=1)
    seed: int = 0
    input: InputConfig = InputConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    regularization: RegularizationConfig = RegularizationConfig()
    steps_per_execution: int = Field(16, ge=1)
    checkpoint_steps: int | None = Field(2000, ge=1)
    validation_steps: int | None = Field(None, ge=1)
    warm_start: WarmStartConfig | None = None

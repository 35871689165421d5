"""Optimisers whose cost does not grow with the embedding tables."""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf

from models.training.config import OptimizerConfig


class LazyAdam(tf.keras.optimizers.legacy.Adam):
    """Adam that touches only the rows which a batch looked up.

    Adam (Kingma and Ba, 2015) decays the moments of every row at every step, a cost of O(table) for a batch of
    O(batch) rows. Lazy Adam reads and writes the moments of the looked-up rows alone; rows that are looked up at every
    step move as under Adam. Dense variables (no `IndexedSlices`) are plain Adam.
    """

    def _resource_apply_sparse(self, grad, var, indices, apply_state=None):
        # The caller has summed the gradients of repeated indices already.
        coefficients = (apply_state or {}).get((var.device, var.dtype.base_dtype)) or self._fallback_apply_state(
            var.device, var.dtype.base_dtype
        )
        m, v = self.get_slot(var, "m"), self.get_slot(var, "v")
        m_rows = tf.gather(m, indices) * coefficients["beta_1_t"] + grad * coefficients["one_minus_beta_1_t"]
        v_rows = tf.gather(v, indices) * coefficients["beta_2_t"] + grad * grad * coefficients["one_minus_beta_2_t"]
        step = coefficients["lr"] * m_rows / (tf.sqrt(v_rows) + coefficients["epsilon"])
        return tf.group(
            m.scatter_update(tf.IndexedSlices(m_rows, indices)),
            v.scatter_update(tf.IndexedSlices(v_rows, indices)),
            var.scatter_sub(tf.IndexedSlices(step, indices)),
        )


class WarmupCosine(tf.keras.optimizers.schedules.LearningRateSchedule):
    """Linear warm-up from a tenth of `peak`, then `peak · (0.01 + 0.99 (1 + cos πt) / 2)` (Loshchilov, Hutter 2017).

    Args:
      peak: highest learning rate.
      total_steps: steps of the whole training.
      warmup_fraction: share of them that warm up.
    """

    def __init__(self, peak: float, total_steps: int, warmup_fraction: float):
        if total_steps < 1:
            raise ValueError(f"`total_steps` must be positive. Received: `total_steps`={total_steps}")
        self.peak, self.total_steps, self.warmup_fraction = peak, total_steps, warmup_fraction

    def __call__(self, step):
        progress = tf.minimum(tf.cast(step, tf.float32) / self.total_steps, 1.0)
        warming = 0.1 + 0.9 * progress / max(self.warmup_fraction, 1e-9)
        t = (progress - self.warmup_fraction) / (1.0 - self.warmup_fraction)
        falling = 0.01 + 0.99 * 0.5 * (1.0 + tf.cos(3.141592653589793 * t))
        return self.peak * tf.where(progress < self.warmup_fraction, warming, falling)

    def get_config(self):
        return {"peak": self.peak, "total_steps": self.total_steps, "warmup_fraction": self.warmup_fraction}


def make_optimizer(config: OptimizerConfig, total_steps: int) -> tf.keras.optimizers.legacy.Optimizer:
    """Builds the optimiser.

    Args:
      config: which.
      total_steps: steps of the whole training, for the schedule.
    """
    rate = config.learning_rate
    if config.schedule == "cosine":
        rate = WarmupCosine(config.learning_rate, total_steps, config.warmup_fraction)
    if config.name == "adagrad":
        return tf.keras.optimizers.legacy.Adagrad(rate)
    return {"adam": tf.keras.optimizers.legacy.Adam, "lazy_adam": LazyAdam}[config.name](rate, epsilon=1e-8)


def current_rate(optimizer: tf.keras.optimizers.legacy.Optimizer) -> tf.Tensor:
    """Returns the learning rate of the step that comes next."""
    rate = optimizer.learning_rate
    return rate(optimizer.iterations) if callable(rate) else tf.convert_to_tensor(rate)


def plateau_rate(config: OptimizerConfig, badness: Sequence[float]) -> float:
    """Returns the learning rate after some validations; a function of them alone, so that a resumed training has it.

    Args:
      config: how the rate is cut; with another schedule than `plateau` it never is.
      badness: what each validation found, in their order; lower is better.
    """
    best, waited, rate = float("inf"), 0, config.learning_rate
    for value in badness if config.schedule == "plateau" else ():
        best, waited = min(best, value), 0 if value < best else waited + 1
        if waited >= config.plateau_patience:
            rate, waited = rate * config.plateau_factor, 0
    return rate

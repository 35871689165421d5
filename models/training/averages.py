"""An exponential moving average of a model's weights, at a cost that does not grow with its tables."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence

import tensorflow as tf


class WeightAverages(tf.Module):
    """`a_t = β a_(t-1) + (1 - β) w_t` from `a_0 = 0`, read as `a_t / (1 - β^t)` (the correction of Adam's moments).

    A row of a table that no step moves need not be averaged at every step: after k steps at rest its average is
    `w + β^k (a - w)`. So of a table whose gradient is sparse only the looked-up rows are touched, each with the step of
    its last touch; the others are caught up when the average is read. This is the average of all steps to the letter.

    Args:
      variables: what is averaged.
      decay: β.
      sparse: whether rows without a gradient stay as they are (not under Adam with dense moments).
    """

    def __init__(self, variables: Sequence[tf.Variable], decay: float, sparse: bool = True):
        super().__init__(name="averages")
        self._variables, self._decay, self._sparse = list(variables), decay, sparse
        self.steps = tf.Variable(0, dtype=tf.int32, trainable=False, name="steps")
        self.averages = [tf.Variable(tf.zeros_like(v), trainable=False, name="average") for v in self._variables]
        self.touched = [tf.Variable(tf.zeros(v.shape[:1], tf.int32), trainable=False) for v in self._variables]

    def step(self, gradients: Sequence[tf.Tensor | tf.IndexedSlices | None], apply: Callable[[], object]) -> None:
        """Runs a step of an optimiser, and adds the weights that it leaves.

        Args:
          gradients: of the variables, in their order.
          apply: moves the variables, by these gradients.
        """
        looked_up = [self._sparse and isinstance(gradient, tf.IndexedSlices) for gradient in gradients]
        rows = [tf.unique(g.indices).y if sparse else None for g, sparse in zip(gradients, looked_up, strict=True)]
        for variable, average, touched, some in zip(
            self._variables, self.averages, self.touched, rows, strict=True
        ):  # what is going to move rested until now
            if some is not None:
                now = self._rested(tf.gather(variable, some), tf.gather(average, some), tf.gather(touched, some))
                average.scatter_update(tf.IndexedSlices(now, some))
        apply()
        self.steps.assign_add(1)
        for variable, average, touched, some in zip(self._variables, self.averages, self.touched, rows, strict=True):
            if some is None:
                average.assign_sub((1.0 - self._decay) * (average - variable))
                touched.assign(tf.fill(tf.shape(touched), self.steps))
            else:
                old, new = tf.gather(average, some), tf.gather(variable, some)
                average.scatter_update(tf.IndexedSlices(old - (1.0 - self._decay) * (old - new), some))
                touched.scatter_update(tf.IndexedSlices(tf.fill(tf.shape(some), self.steps), some))

    def assign(self) -> None:
        """Gives the variables their averages; before the first step they stay."""
        if not self.steps:
            return
        correction = 1.0 - self._decay ** float(self.steps)
        for variable, average, touched in zip(self._variables, self.averages, self.touched, strict=True):
            variable.assign(self._rested(variable, average, touched) / correction)

    @contextlib.contextmanager
    def in_place(self) -> Iterator[None]:
        """Within it the variables hold their averages."""
        kept = [tf.identity(variable) for variable in self._variables]
        self.assign()
        try:
            yield
        finally:
            for variable, value in zip(self._variables, kept, strict=True):
                variable.assign(value)

    def _rested(self, weights: tf.Tensor, averages: tf.Tensor, touched: tf.Tensor) -> tf.Tensor:
        """The averages of weights that have not moved since the step `touched`, `[n]` of their first axis."""
        left = tf.cast(self._decay, averages.dtype) ** tf.cast(self.steps - touched, averages.dtype)
        left = tf.reshape(left, tf.concat([tf.shape(left), tf.ones([tf.rank(averages) - tf.rank(left)], tf.int32)], 0))
        return weights + left * (averages - weights)

"""The long history for a candidate that cannot be looked up in it: an item without a signature."""

from __future__ import annotations

import tensorflow as tf


class UnsignedField(tf.keras.layers.Layer):
    """`W [m, m ⊙ q / |q|] + v` of a candidate q, m being the direction of the history's sum; 0 without a history.

    The buckets of one group hold each behaviour once, so their sum is that of the whole history: what a candidate can
    still be compared with by its features, from the same table. v tells "nobody knows the signature" from "there is no
    history"; both would be 0 otherwise, and users with a long history are not those without.

    Args:
      width: of the field.
    """

    def __init__(self, width: int, **kwargs):
        super().__init__(**kwargs)
        self._projection = tf.keras.layers.Dense(width, use_bias=False)
        self.width = width

    def build(self, input_shape):
        self.offset = self.add_weight("offset", (self.width,), initializer="zeros")
        super().build(input_shape)

    def call(self, sums: tf.Tensor, candidates: tf.Tensor, request_index: tf.Tensor) -> tf.Tensor:
        """Returns `[N, width]` from bucket sums `[B, G, K, d]`, candidates `[N, d]` and their requests `[N]`."""
        mean = tf.math.l2_normalize(tf.reduce_sum(sums[:, 0], axis=1), axis=-1)
        exists = tf.cast(tf.reduce_any(mean != 0, axis=-1, keepdims=True), mean.dtype)
        mean, exists = (tf.gather(of_request, request_index) for of_request in (mean, exists))
        match = mean * tf.math.l2_normalize(candidates, axis=-1)
        return self._projection(tf.concat([mean, match], axis=-1)) + exists * self.offset

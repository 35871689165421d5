"""Layer normalisation that a server can run from several threads."""

from __future__ import annotations

import tensorflow as tf


class LayerNormalization(tf.keras.layers.Layer):
    """`y = gamma (x - mean) / √(variance + epsilon) + beta` over the last axis (Ba et al., 2016, arXiv 1607.06450).

    Keras' own layer runs as `FusedBatchNormV3` in training mode, whose oneDNN kernel corrupts memory when two calls of
    one session run it at a time (`serving.export.graph_check` refuses such exports). This one takes plain operations;
    values, weights and their names are the same.

    Args:
      epsilon: keeps rows of equal values finite.
    """

    def __init__(self, epsilon: float = 1e-3, name: str | None = None):
        super().__init__(name=name)
        self.epsilon = epsilon

    def build(self, input_shape):
        self.gamma = self.add_weight("gamma", (input_shape[-1],), initializer="ones")
        self.beta = self.add_weight("beta", (input_shape[-1],), initializer="zeros")
        super().build(input_shape)

    def call(self, values: tf.Tensor) -> tf.Tensor:
        """Returns the values `[…, d]` normalised, of the same shape."""
        mean, variance = tf.nn.moments(values, axes=[-1], keepdims=True)
        return tf.nn.batch_normalization(values, mean, variance, self.beta, self.gamma, self.epsilon)

"""K networks of one shape and separate weights, computed side by side."""

from __future__ import annotations

import tensorflow as tf


class Experts(tf.keras.layers.Layer):
    """MLPs with ReLU, each of which scores an impression: `s_k = E_k(v)`.

    Args:
      num_experts: K.
      hidden_units: widths of the hidden layers of one expert.
      dropout: rate after each hidden layer.
    """

    def __init__(
        self, num_experts: int, hidden_units: tuple[int, ...] = (64, 32), dropout: float = 0.0, name: str = "experts"
    ):
        super().__init__(name=name)
        if num_experts < 1 or min(hidden_units, default=1) < 1:
            raise ValueError(
                "`num_experts` and `hidden_units` must be positive. "
                f"Received: `num_experts`={num_experts}, `hidden_units`={tuple(hidden_units)}"
            )
        self.num_experts, self.hidden_units, self.dropout = num_experts, tuple(hidden_units), dropout

    def build(self, input_shape):
        self.kernels, self.biases = [], []
        widths = (input_shape[-1], *self.hidden_units, 1)
        for layer, (fan_in, fan_out) in enumerate(zip(widths[:-1], widths[1:], strict=True)):
            # Glorot's limit is that of one expert, which Keras would not see in a kernel of all of them.
            limit = (6.0 / (fan_in + fan_out)) ** 0.5
            initializer = tf.keras.initializers.RandomUniform(-limit, limit)
            shape = (self.num_experts, fan_in, fan_out)
            self.kernels.append(self.add_weight(f"kernel_{layer}", shape, initializer=initializer))
            self.biases.append(self.add_weight(f"bias_{layer}", (self.num_experts, fan_out), initializer="zeros"))
        super().build(input_shape)

    def call(self, impressions: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """Returns every expert's score, `[N, K]`, of impressions `[N, D]`."""
        hidden = self.hidden(impressions, training)
        scores = tf.matmul(hidden, self.kernels[-1]) + self.biases[-1][:, tf.newaxis]
        return tf.transpose(tf.squeeze(scores, axis=-1))

    def hidden(self, impressions: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """Returns every expert's last hidden layer, `[K, N, H]`; without hidden layers the impressions."""
        if not self.hidden_units:
            return tf.repeat(impressions[tf.newaxis], self.num_experts, axis=0)
        hidden = tf.einsum("nd,kdh->knh", impressions, self.kernels[0]) + self.biases[0][:, tf.newaxis]
        for kernel, bias in zip(self.kernels[1:-1], self.biases[1:-1], strict=True):
            hidden = tf.matmul(self._activated(hidden, training), kernel) + bias[:, tf.newaxis]
        return self._activated(hidden, training)

    def _activated(self, hidden: tf.Tensor, training: bool | None) -> tf.Tensor:
        hidden = tf.nn.relu(hidden)
        return tf.nn.dropout(hidden, self.dropout) if training and self.dropout else hidden

"""Target attention over a request's history: dot product, DIN's activation unit, and the mean as a control.

Each takes candidates `[B, C, d]`, their request's history `[B, L, d]`, a mask `[B, L]`, 1 for behaviours and 0 for
padding, and of the behaviours' recency (`models.sdim.recency`) keys `[B, L, d]`, which candidates are compared with in
the place of the history, and logarithms of weights, which broadcast to `[B, L]`. It returns interests `[B, C, d]`; a
history without behaviours gives exactly 0.
"""

from __future__ import annotations

import tensorflow as tf


def mean_pooling(
    candidates: tf.Tensor,
    history: tf.Tensor,
    mask: tf.Tensor,
    keys: tf.Tensor | None = None,
    bias: float | tf.Tensor = 0.0,
) -> tf.Tensor:
    """The weighted mean of the behaviours, whatever the candidate: `keys` are not read."""
    weights = mask * tf.exp(bias)
    total = tf.einsum("bl,bld->bd", weights, history)
    mean = tf.math.divide_no_nan(total, tf.reduce_sum(weights, axis=1, keepdims=True))
    return tf.repeat(mean[:, tf.newaxis], tf.shape(candidates)[1], axis=1)


def dot_product_attention(
    candidates: tf.Tensor,
    history: tf.Tensor,
    mask: tf.Tensor,
    temperature: float | tf.Tensor = 1.0,
    keys: tf.Tensor | None = None,
    bias: float | tf.Tensor = 0.0,
) -> tf.Tensor:
    """`TA(q, S) = Σ_j softmax_j(q·k_j / t + b_j) s_j`: with `k = s`, `b = 0` Eq. 3 of SDIM (arXiv 2205.10249)."""
    scores = tf.matmul(candidates, history if keys is None else keys, transpose_b=True) / temperature
    weights = tf.nn.softmax(scores + ((1.0 - mask) * -1e9 + bias)[:, tf.newaxis])
    # Softmax over padding alone is uniform, not zero.
    return tf.matmul(weights, history * mask[..., tf.newaxis])


class DotProductAttention(tf.keras.layers.Layer):
    """`dot_product_attention` whose inverse temperature is learnt, from 10.

    Embeddings start small, so their products do: at a fixed temperature of 1 the attention would start, and for long
    stay, a mean.

    Args:
      unit_vectors: attend over unit vectors, by cosines, as SDIM's collisions do (their probability is one of angles);
        the interest's scale then does not start as small as the embeddings'.
    """

    def __init__(self, unit_vectors: bool = False, **kwargs):
        super().__init__(**kwargs)
        self.unit_vectors = unit_vectors

    def build(self, input_shape):
        self.sharpness = self.add_weight("sharpness", (), initializer=tf.keras.initializers.Constant(10.0))
        super().build(input_shape)

    def call(
        self,
        candidates: tf.Tensor,
        history: tf.Tensor,
        mask: tf.Tensor,
        keys: tf.Tensor | None = None,
        bias: float | tf.Tensor = 0.0,
    ) -> tf.Tensor:
        """Returns `[B, C, d]`."""
        keys = history if keys is None else keys
        if self.unit_vectors:
            candidates, history, keys = (tf.math.l2_normalize(x, axis=-1) for x in (candidates, history, keys))
        return dot_product_attention(candidates, history, mask, 1.0 / self.sharpness, keys, bias)


class DinAttention(tf.keras.layers.Layer):
    """DIN's local activation unit (Zhou et al., KDD 2018, arXiv 1706.06978): `Σ_j MLP([s_j, q, s_j - q, s_j ⊙ q]) s_j`.

    The weights are not normalised: their sum tells how strong the interest is. The first layer is linear in its inputs,
    so what it makes of `s_j` and of `q` is computed once each, and only the product's part for each pair; the function
    is the same, at a quarter of the arithmetic.

    Args:
      hidden_units: widths of the MLP before its last unit.
    """

    def __init__(self, hidden_units: tuple[int, ...] = (36,), **kwargs):
        super().__init__(**kwargs)
        if not hidden_units or min(hidden_units) < 1:
            raise ValueError(f"`hidden_units` must be positive widths. Received: `hidden_units`={hidden_units}")
        self.hidden_units = tuple(hidden_units)
        self._rest = [tf.keras.layers.Dense(width, activation="sigmoid") for width in hidden_units[1:]]
        self._last = tf.keras.layers.Dense(1)

    def build(self, input_shape):
        width, units = input_shape[-1], self.hidden_units[0]
        for part in ("of_behavior", "of_candidate", "of_product"):
            setattr(self, part, self.add_weight(part, (width, units), initializer="glorot_uniform"))
        self.bias = self.add_weight("bias", (units,), initializer="zeros")
        super().build(input_shape)

    def call(
        self,
        candidates: tf.Tensor,
        history: tf.Tensor,
        mask: tf.Tensor,
        keys: tf.Tensor | None = None,
        bias: float | tf.Tensor = 0.0,
    ) -> tf.Tensor:
        """Returns `[B, C, d]`."""
        weights = self.activations(candidates, history if keys is None else keys) * (mask * tf.exp(bias))[:, tf.newaxis]
        return tf.matmul(weights, history)

    def activations(self, candidates: tf.Tensor, history: tf.Tensor) -> tf.Tensor:
        """Returns each behaviour's weight for each candidate, `[B, C, L]`, padding included."""
        by_candidate = candidates[..., tf.newaxis] * self.of_product
        hidden = tf.einsum("bld,bcdk->bclk", history, by_candidate)
        hidden += tf.matmul(history, self.of_behavior)[:, tf.newaxis]
        hidden += (tf.matmul(candidates, self.of_candidate) + self.bias)[:, :, tf.newaxis]
        hidden = tf.sigmoid(hidden)
        for layer in self._rest:
            hidden = layer(hidden)
        return tf.squeeze(self._last(hidden), axis=-1)

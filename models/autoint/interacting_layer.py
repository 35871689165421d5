"""AutoInt's interacting layer: multi-head self-attention over feature fields."""

from __future__ import annotations

import tensorflow as tf


class InteractingLayer(tf.keras.layers.Layer):
    """One interacting layer of AutoInt (arXiv 1810.11921, Eq. 5 to 8).

    For each head, `α = softmax_k(<W_Q e_m, W_K e_k>)`, `ẽ_m = Σ_k α_mk W_V e_k`; the heads are concatenated and
    `e_m' = ReLU(ẽ_m + W_Res e_m)`. The paper has no bias, no scaling and no normalisation; the authors' code
    differs in four named ways, each an argument here.

    Args:
      num_heads: H.
      head_dim: d', the width of **one** head; the output is `H·d'` wide.
      use_bias: biases on the query, key, value and residual projections (code).
      projection_relu: ReLU on the four projections (code).
      scale: divide scores by √d' (code).
      layer_norm: layer normalisation of the output (code).
      residual: the `W_Res` branch; off only for ablation.
      dropout: rate on attention weights.

    Shapes: `[N, M, d]` → `[N, M, H·d']`.
    """

    def __init__(
        self,
        num_heads: int,
        head_dim: int,
        *,
        use_bias: bool = False,
        projection_relu: bool = False,
        scale: bool = False,
        layer_norm: bool = False,
        residual: bool = True,
        dropout: float = 0.0,
        **kwargs,
    ):
        super().__init__(**kwargs)
        for argument, value in (("num_heads", num_heads), ("head_dim", head_dim)):
            if value < 1:
                raise ValueError(f"`{argument}` must be positive. Received: `{argument}`={value}")
        if not 0.0 <= dropout < 1.0:
            raise ValueError(f"`dropout` must be in [0, 1). Received: `dropout`={dropout}")
        self.num_heads, self.head_dim = num_heads, head_dim
        self.use_bias, self.projection_relu, self.scale = use_bias, projection_relu, scale
        self.layer_norm, self.residual, self.dropout = layer_norm, residual, dropout

    def build(self, input_shape):
        width = self.num_heads * self.head_dim
        self._projections = ("query", "key", "value") + (("residual",) if self.residual else ())
        for projection in self._projections:
            setattr(
                self,
                f"{projection}_kernel",
                self.add_weight(f"{projection}_kernel", (input_shape[-1], width), initializer="glorot_normal"),
            )
            if self.use_bias:
                setattr(
                    self, f"{projection}_bias", self.add_weight(f"{projection}_bias", (width,), initializer="zeros")
                )
        if self.layer_norm:
            self.gamma = self.add_weight("gamma", (width,), initializer="ones")
            self.beta = self.add_weight("beta", (width,), initializer="zeros")
        super().build(input_shape)

    def call(
        self, fields: tf.Tensor, training: bool | None = None, attention_mask: tf.Tensor | None = None
    ) -> tf.Tensor:
        """Returns `[N, M, H·d']`. `attention_mask` `[M, M]` (query by key) multiplies the weights: 0 cuts a pair."""
        return self._interact(fields, training, attention_mask)[0]

    def attention(self, fields: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns the layer's output and its attention weights `[N, H, M, M]`; rows sum to 1 over keys."""
        output, weights = self._interact(fields, training=False)
        return output, tf.stack(weights, axis=1)

    def _interact(self, fields, training, attention_mask=None):
        num_fields = fields.shape[1]
        flat = tf.reshape(fields, [-1, fields.shape[2]])
        # One matmul a head and projection: no transposes between the projection and the attention, which cost more
        # than the arithmetic at these sizes.
        outputs, maps = [], []
        for head in range(self.num_heads):
            query, key, value = (
                tf.reshape(self._project(flat, projection, head), [-1, num_fields, self.head_dim])
                for projection in ("query", "key", "value")
            )
            scores = tf.matmul(query, key, transpose_b=True)
            if self.scale:
                scores *= self.head_dim**-0.5
            weights = tf.nn.softmax(scores)
            maps.append(weights)
            if training and self.dropout:
                weights = tf.nn.dropout(weights, self.dropout)
            if attention_mask is not None:
                weights *= attention_mask
            outputs.append(tf.matmul(weights, value))
        output = tf.concat(outputs, axis=-1)
        if self.residual:
            output += tf.reshape(self._project(flat, "residual"), [-1, num_fields, self.num_heads * self.head_dim])
        output = tf.nn.relu(output)
        if self.layer_norm:
            mean, variance = tf.nn.moments(output, axes=[-1], keepdims=True)
            output = tf.nn.batch_normalization(output, mean, variance, self.beta, self.gamma, 1e-8)
        return output, maps

    def _project(self, flat, projection: str, head: int | None = None):
        columns = slice(None) if head is None else slice(head * self.head_dim, (head + 1) * self.head_dim)
        projected = tf.matmul(flat, getattr(self, f"{projection}_kernel")[:, columns])
        if self.use_bias:
            projected += getattr(self, f"{projection}_bias")[columns]
        return tf.nn.relu(projected) if self.projection_relu else projected

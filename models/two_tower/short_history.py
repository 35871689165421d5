"""The last behaviours of a user as one vector, for a query tower: no candidate is there to ask for attention."""

from __future__ import annotations

from typing import Literal

import tensorflow as tf

from features.encoding.feature_encoding import FeatureEncoding
from models.embedding import FeatureEmbedding
from models.inputs.history_windows import trim_window


class ShortHistory(tf.keras.layers.Layer):
    """Pools the embeddings of the short history: by their mean, or by attention over content and recency.

    Attention: `w_j = softmax_j(v · tanh(W s_j) + r_(age of j))`, where behaviour j's age counts from the newest. A user
    without behaviours has the zero vector.

    Args:
      embedding: embeds behaviours.
      encoding: the feature encoding; its spec must have a `history`. Its features that are not excluded are read.
      pooling: which.
    """

    def __init__(
        self,
        embedding: FeatureEmbedding,
        encoding: FeatureEncoding,
        pooling: Literal["mean", "attention"],
        name: str = "short_history",
    ):
        super().__init__(name=name)
        spec = encoding.spec
        if spec.history is None:
            raise ValueError(f"`history`={pooling!r} needs a `history` in the spec. Spec `{spec.name}` has none.")
        self.features = tuple(name for name in spec.history.features if name in embedding.field_names)
        if not self.features:
            raise ValueError(f"`history`={pooling!r} needs a history feature that is not excluded.")
        self._embedding, self._pooling, self._length = embedding, pooling, spec.history.short_length

    def build(self, input_shape):
        if self._pooling == "attention":
            width = len(self.features) * self._embedding.embedding_dim
            self.projection = self.add_weight("projection", (width, width), initializer="glorot_uniform")
            self.direction = self.add_weight(
                "direction", (width,), initializer=tf.keras.initializers.RandomNormal(stddev=1.0)
            )
            self.recency = self.add_weight("recency", (self._length,), initializer="zeros")
        super().build(input_shape)

    def call(self, history: dict) -> tf.Tensor:
        """Returns `[B, len(features) · d]` of a batch's `history`, from its short window."""
        ids, present = trim_window(history, "short")
        values = self._embedding.concatenated(self.features, ids)
        values = tf.ensure_shape(values, [None, None, len(self.features) * self._embedding.embedding_dim])
        age = tf.range(tf.shape(present)[1] - 1, -1, -1)
        mask = tf.cast(present, values.dtype)
        if self._pooling == "mean":
            weights = tf.math.divide_no_nan(mask, tf.reduce_sum(mask, axis=1, keepdims=True))
        else:
            content = tf.linalg.matvec(tf.tanh(tf.einsum("bsd,de->bse", values, self.projection)), self.direction)
            scores = content + tf.gather(self.recency, tf.minimum(age, self._length - 1))
            # Over padding alone the softmax is uniform, so it is masked once more.
            weights = tf.nn.softmax(scores + (1.0 - mask) * -1e9) * mask
        return tf.einsum("bs,bsd->bd", weights, values)

"""A feature embedding whose item fields can be masked: for contrastive views of an item (SSL, arXiv 2007.12865)."""

from __future__ import annotations

import tensorflow as tf

from features.encoding.feature_encoding import FeatureEncoding
from models.embedding import FeatureEmbedding


def drop_values(values: tf.RaggedTensor, rate: float) -> tuple[tf.RaggedTensor, tf.Tensor]:
    """Drops each value with probability `rate`.

    Returns:
      The kept values [n, None], and whether a row lost all that it had, [n] bool.
    """
    kept = tf.random.uniform(tf.shape(values.flat_values)) >= rate
    counts = tf.math.unsorted_segment_sum(tf.cast(kept, tf.int64), values.value_rowids(), values.nrows())
    dropped = tf.RaggedTensor.from_row_lengths(tf.boolean_mask(values.flat_values, kept), counts, validate=False)
    return dropped, (values.row_lengths() > 0) & (counts == 0)


class MaskedFeatureEmbedding(FeatureEmbedding):
    """A `FeatureEmbedding` whose item fields can be masked.

    A masked field is its **default embedding**, a trained vector of its own: neither the zero of a missing value nor
    the default of another feature. Every field can be masked, numbers too: what stays in both views is a shortcut.

    Args:
      encoding, exclude: of `FeatureEmbedding`; features of scope `candidate` that are not of `items` are left out.
      maskable: whether there are default embeddings; what is never masked needs none.
    """

    def __init__(
        self,
        encoding: FeatureEncoding,
        exclude: tuple[str, ...] = (),
        maskable: bool = True,
        name: str = "feature_embedding",
    ):
        of_impressions = [f.name for f in encoding.spec.of_scope("candidate") if f.table != "items"]
        super().__init__(encoding, (*exclude, *of_impressions), name=name)
        self.maskable = maskable
        self.item_features = tuple(feature.name for feature in self._blocks["candidate"].fields)
        self._multi_valued = tuple(feature.name for feature in self._blocks["candidate"].multi)

    def build(self, input_shape):
        if self.maskable:
            shape = (len(self.item_features), self.embedding_dim)
            initializer = tf.keras.initializers.RandomNormal(stddev=0.01)  # as the values' own
            self.defaults = self.add_weight("default_embeddings", shape, initializer=initializer)
        super().build(input_shape)

    def item_fields(self, features: dict, masked: tf.Tensor | None = None, dropout_rate: float = 0.0) -> tf.Tensor:
        """Embeds items.

        Args:
          features: encoded item features by name, as in a batch.
          masked: fields to replace by their defaults, bool [k] or [n, k], in the order of `item_features`.
          dropout_rate: of the values of multi-valued features. A mean is over the kept values; a list that lost all of
            its values is masked. Single values are never dropped.

        Returns:
          [n, k, d].
        """
        lost = {}
        if dropout_rate > 0:
            features = dict(features)
            for name in self._multi_valued:
                features[name], lost[name] = drop_values(features[name], dropout_rate)
        fields = self._embed("candidate", features)
        if masked is None and not lost:
            return fields
        none = tf.zeros(tf.shape(fields)[:1], tf.bool)
        masks = tf.stack([lost.get(name, none) for name in self.item_features], axis=1)
        if masked is not None:
            masks |= masked
        return tf.where(masks[..., tf.newaxis], self.defaults, fields)

"""Two views of an item for contrastive learning: whole features masked, then single values dropped.

SSL (arXiv 2007.12865, section 3.2). **Masking** replaces a whole feature by its default embedding. Correlated feature
masking (CFM) masks a seed feature and its nearest relatives in one view and all others in the other, so that the views
cannot be matched by features that nearly repeat one another. **Dropout** then drops values of multi-valued features.
"""

from __future__ import annotations

import logging

import numpy as np
import tensorflow as tf

from features.encoding.feature_encoding import FeatureEncoding
from models.embedding import FeatureEmbedding

_LOG = logging.getLogger(__name__)


def num_correlated(num_features: int) -> int:
    """How many relatives of the seed are masked with it: `floor(k / 2)`, at most k - 2.

    The cap leaves view h a feature: with k = 2 the paper's number would mask both.

    Raises:
      ValueError: if there are fewer than two features: one of two disjoint views would be empty.
    """
    if num_features < 2:
        raise ValueError(f"masking needs two item features at least. Received: {num_features}.")
    wanted, most = num_features // 2, num_features - 2
    if wanted > most:
        _LOG.warning("Of %d item features %d would be masked, all: capped at %d.", num_features, 1 + wanted, 1 + most)
    return min(wanted, most)


def correlated_masks(mutual_information: np.ndarray) -> np.ndarray:
    """`F_m = {f} ∪ F_c` of each seed f: F_c are the n features of largest mutual information with f.

    Args:
      mutual_information: [k, k], symmetric; its diagonal counts for nothing. Of equal values the earlier feature wins.

    Returns:
      [k, k] bool; row f is what view h masks when f is the seed, its complement what view g masks.
    """
    k = len(mutual_information)
    relatives = np.array(mutual_information, np.float64)
    np.fill_diagonal(relatives, -np.inf)
    nearest = np.argsort(-relatives, axis=1, kind="stable")[:, : num_correlated(k)]
    masks = np.eye(k, dtype=bool)
    np.put_along_axis(masks, nearest, True, axis=1)
    return masks


def draw_correlated_mask(masks: tf.Tensor) -> tf.Tensor:
    """CFM: draws the seed of a batch uniformly. `masks` [k, k] of `correlated_masks`; returns [k] bool."""
    seed = tf.random.uniform([], maxval=tf.shape(masks)[0], dtype=tf.int32)
    return tf.gather(masks, seed)


def draw_random_mask(num_features: int) -> tf.Tensor:
    """RFM: as many features as CFM masks, drawn at random; returns [k] bool. The other view masks the complement."""
    size = 1 + num_correlated(num_features)
    return tf.random.shuffle(tf.range(num_features)) < size


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
        self._maskable = maskable
        self.item_features = tuple(feature.name for feature in self._blocks["candidate"].fields)
        self._multi_valued = tuple(feature.name for feature in self._blocks["candidate"].multi)

    def build(self, input_shape):
        if self._maskable:
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

"""Two views of an item for contrastive learning: whole features masked, then single values dropped.

SSL (arXiv 2007.12865, section 3.2). **Masking** replaces a whole feature by its default embedding. Correlated feature
masking (CFM) masks a seed feature and its nearest relatives in one view and all others in the other, so that the views
cannot be matched by features that nearly repeat one another. **Dropout** then drops values of multi-valued features.
"""

from __future__ import annotations

import logging

import numpy as np
import tensorflow as tf

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

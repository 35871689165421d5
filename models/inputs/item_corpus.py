"""The catalogue as tensors: items by row, and uniform samples of them."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import tensorflow as tf

from features.arrow import list_splits, one_chunk, to_numpy
from features.encoding.columns import ITEM_ID
from features.encoding.feature_encoding import FeatureEncoding
from features.errors import InputError
from features.items.catalogue import read_catalogue
from features.storage import AnyPath


class ItemCorpus:
    """All items with their encoded features, in the catalogue's order.

    Args:
      item_ids: [n] raw ids.
      features: encoded feature columns of the items by name, [n] each.
      encoding: what they were encoded by.

    Raises:
      InputError: if there is no item.
    """

    def __init__(self, item_ids: pa.Array, features: dict[str, pa.Array], encoding: FeatureEncoding):
        if not len(item_ids):
            raise InputError("the catalogue is empty: retrieval needs items.")
        self.item_ids = item_ids
        self._features = {}
        # On the CPU they are looked up where they lie; a graph captures them and does not copy them.
        for name, column in features.items():
            feature = encoding.spec[name]
            if feature.multi_valued:
                values = to_numpy(column.flatten()).astype(np.int32, copy=False)
                self._features[name] = tf.RaggedTensor.from_row_splits(tf.constant(values), list_splits(column))
            else:
                dtype = np.int32 if feature.has_ids else np.float32
                self._features[name] = tf.constant(to_numpy(column).astype(dtype, copy=False))

    @classmethod
    def load(cls, encoded_dir: AnyPath, encoding: FeatureEncoding) -> ItemCorpus:
        """Reads the catalogue of encoded examples. Raises NotFoundError if there is none."""
        table = read_catalogue(encoded_dir)
        columns = {feature.name: one_chunk(table[feature.name]) for feature in encoding.spec.of_table("items")}
        return cls(one_chunk(table[ITEM_ID]), columns, encoding)

    def __len__(self) -> int:
        return len(self.item_ids)

    def gather(self, indices: tf.Tensor) -> dict[str, tf.Tensor | tf.RaggedTensor]:
        """Encoded features of items by index, from 0: `item_row` - 1."""
        return {name: tf.gather(values, indices) for name, values in self._features.items()}

    def sample(self, count: int) -> tf.Tensor:
        """Draws items uniformly, without replacement: [min(count, n)] indices int32.

        From a large corpus draws are repeated and the first distinct ones kept: the same distribution, at a cost that
        does not grow with the corpus (in the unlikely case that too few are distinct, there are fewer).
        """
        size, drawn = len(self), min(count, len(self))
        if size < 16 * count:
            return tf.random.shuffle(tf.range(size))[:drawn]
        draws = tf.random.uniform([drawn + 64 + drawn // 8], maxval=size, dtype=tf.int32)
        return tf.unique(draws).y[:drawn]

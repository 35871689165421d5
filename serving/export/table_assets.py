"""Look-up tables whose keys lie beside the graph, in files of a SavedModel's `assets`.

As constants of the graph a million keys take a copy a signature, tens of seconds and gigabytes, and 4 · 10^7 do not fit
into the format at all, whose graph is one message of 2 GiB. TensorFlow's own vocabulary files are lines of text: a term
that holds a line break would be two, and one with a carriage return would lose it.
"""

from __future__ import annotations

import os

import numpy as np
import pyarrow as pa
import tensorflow as tf

from serving.saved.signature_specs import MISSING_MARKS

_KEYS_A_FILE = 1 << 20
"""A file is one tensor, which the format limits to 2 GiB: keys of up to 2 KiB each fit."""


class KeyFiles(tf.lookup.KeyValueTensorInitializer):
    """Initialises a table with keys from files and the numbers from `first` upwards; the missing mark gets 0.

    A mark among the keys makes no table empty, which TensorFlow refuses. A file is a serialized tensor.

    Args:
      paths: of the files, in the order of their keys.
      missing: the missing mark, a scalar; its dtype is the keys'.
      first: the number of the first key.
    """

    def __init__(self, paths: list[str], missing: tf.Tensor, first: int):
        super().__init__(tf.reshape(missing, [1]), tf.zeros([1], tf.int64))
        self._missing, self._first = missing, first
        self.assets = [tf.saved_model.Asset(path) for path in paths]

    def initialize(self, table) -> tf.Operation | None:
        """Fills the table: when it is made, and in a SavedModel when that is loaded."""
        dtype = self._missing.dtype
        keys = [tf.io.parse_tensor(tf.io.read_file(asset.asset_path), dtype) for asset in self.assets]
        keys = tf.concat([tf.reshape(self._missing, [1]), *(tf.reshape(part, [-1]) for part in keys)], axis=0)
        numbers = tf.range(self._first, self._first - 1 + tf.size(keys, tf.int64), dtype=tf.int64)
        numbers = tf.concat([tf.zeros([1], tf.int64), numbers], axis=0)
        return tf.raw_ops.LookupTableImportV2(table_handle=table.resource_handle, keys=keys, values=numbers)


class NumberedKeys(tf.Module):
    """A static table from keys to their numbers.

    Args:
      keys: [n] string or int64, no nulls, the missing mark not among them.
      folder: a local folder that stands until the SavedModel is written; gets the files.
      name: of the files.
      first: the number of the first key; the missing mark has 0.
      default_value: the number of all others.
    """

    def __init__(self, keys: pa.Array, folder: str, name: str, first: int = 1, default_value: int = -1):
        super().__init__()
        dtype = tf.int64 if pa.types.is_integer(keys.type) else tf.string
        missing = tf.constant(MISSING_MARKS[dtype.name], dtype)
        files = KeyFiles(_write_keys(keys, dtype, folder, name), missing, first)
        self._assets = files.assets  # Tracked here, so that the SavedModel gets them.
        self._table = tf.lookup.StaticHashTable(files, default_value=default_value)

    def lookup(self, values: tf.Tensor) -> tf.Tensor:
        """Returns the numbers of values, int64 of their shape."""
        return self._table.lookup(values)


def _write_keys(keys: pa.Array, dtype: tf.DType, folder: str, name: str) -> list[str]:
    paths = []
    for start in range(0, len(keys), _KEYS_A_FILE):
        part = keys.slice(start, _KEYS_A_FILE)
        values = part.to_numpy(zero_copy_only=False) if dtype == tf.int64 else _bytes(part)
        paths.append(os.path.join(folder, f"{name}-{len(paths):05d}.tensor"))
        tf.io.write_file(paths[-1], tf.io.serialize_tensor(tf.constant(values, dtype, shape=[len(part)])))
    return paths


def _bytes(texts: pa.Array) -> np.ndarray:
    """Texts as an array of `bytes` objects, from which TensorFlow need not encode them."""
    return texts.cast(pa.binary() if pa.types.is_string(texts.type) else pa.large_binary()).to_numpy(False)

"""Raw tensors to encoded features inside a graph: `FeatureEncoding.encode`, in TensorFlow, to the bit.

Vocabularies become hash tables whose terms travel in the SavedModel's assets. The hash and the numeric transforms are
those of `features/encoding/hashing.py` and `features/encoding/numeric.py`.
"""

from __future__ import annotations

from collections.abc import Iterable

import pyarrow as pa
import tensorflow as tf

from features.encoding import hashing, numeric
from features.encoding.feature_encoding import FeatureEncoding
from features.histories.windows import TIMESTAMP, history_column
from features.spec import MISSING_INT64, Feature
from models.inputs.history_windows import ITEM_ROW, TIME_GAP, in_rows
from models.sdim.recency import gap_buckets
from serving.export.padding import NewestLast
from serving.export.table_assets import NumberedKeys
from serving.saved.signature_specs import missing_mark, num_values


class RawFeatureEncoder(tf.Module):
    """Encodes raw tensors of an encoding's features.

    Args:
      encoding: a fitted encoding.
      assets: a local folder that stands until the SavedModel is written; gets the files of the vocabularies.
    """

    def __init__(self, encoding: FeatureEncoding, assets: str, name: str | None = None):
        super().__init__(name=name)
        self._spec = encoding.spec
        self._tables = {}
        self._numbers = {}
        for feature in encoding.spec.features:
            if feature.vocabulary is not None:
                self._tables[feature.name] = _table(encoding, feature, assets)
            elif feature.transform == "bucketize":
                self._numbers[feature.name] = encoding.boundaries(feature.name).tolist()
            elif feature.kind == "numeric":
                self._numbers[feature.name] = encoding.center_and_scale(feature.name)

    def __call__(self, features: dict[str, tf.Tensor]) -> dict[str, tf.Tensor | tf.RaggedTensor]:
        """Encodes every feature of `features`; see `encode`."""
        return {name: self.encode(name, values) for name, values in features.items()}

    def encode_inputs(self, inputs: dict[str, tf.Tensor], names: Iterable[str], flat=None) -> dict:
        """Encodes features that stand among a signature's inputs, with `<feature>_num_values` of multi-valued ones.

        Args:
          inputs: the signature's.
          names: the features.
          flat: a function that makes `[n, …]` of an input; None: they are.
        """
        flat = flat or (lambda values: values)
        counts = {name: inputs.get(num_values(name)) for name in names}
        return {
            name: self.encode(name, flat(inputs[name]), None if count is None else flat(count))
            for name, count in counts.items()
        }

    def encode(self, name: str, values: tf.Tensor, count: tf.Tensor | None = None) -> tf.Tensor | tf.RaggedTensor:
        """Encodes one feature.

        Args:
          name: the feature.
          values: string, int64 or float64 (the feature's dtype), `[n]`, or `[n, V]` of a multi-valued feature. Missing:
            `''`, `MISSING_INT64`, NaN.
          count: of a multi-valued feature, [n] int32 how many values of each row there are; None: all V.

        Returns:
          `[n]` int32 ids or float32 numbers, 0 where missing; of a multi-valued feature a ragged `[n, None]` of ids
          without the missing ones.

        Raises:
          ValueError: if the dtype or the rank is wrong.
        """
        feature = self._spec[name]
        values = tf.convert_to_tensor(values)
        if values.dtype != tf.as_dtype(feature.dtype):
            raise ValueError(f"feature `{name}` must be {feature.dtype}. Received: {values.dtype.name}.")
        rank = 2 if feature.multi_valued else 1
        if values.shape.rank != rank:
            raise ValueError(f"feature `{name}` is {feature.kind}: its rank must be {rank}. Received: {values.shape}.")
        if feature.kind == "numeric":
            return self._encode_numbers(feature, values)
        ids = tf.reshape(self._encode_terms(feature, tf.reshape(values, [-1])), tf.shape(values))
        if not feature.multi_valued:
            return ids
        there = ids > 0
        if count is not None:
            there &= tf.range(tf.shape(ids)[1]) < count[:, tf.newaxis]
        return tf.ragged.boolean_mask(ids, there)

    def encode_places(
        self, name: str, values: tf.Tensor, count: tf.Tensor | None = None
    ) -> tf.Tensor | tf.RaggedTensor:
        """Encodes a feature of behaviours: `[B, S]`, or `[B, S, V]` with their counts `[B, S]`, as of `encode`."""
        if not self._spec[name].multi_valued:
            return tf.reshape(self.encode(name, tf.reshape(values, [-1])), tf.shape(values))
        rows, width, most = tf.unstack(tf.shape(values, tf.int64))
        flat = tf.reshape(values, [rows * width, most])
        return in_rows(self.encode(name, flat, None if count is None else tf.reshape(count, [-1])), rows, width)

    def encode_windows(
        self, inputs: dict[str, tf.Tensor], windows: dict[str, tuple[str, ...]], item_rows: ItemRows | None = None
    ) -> dict:
        """Encodes behaviour windows: a batch's `history` from the inputs `<window>_<feature>`, `<window>_length`.

        Args:
          inputs: the signature's; in a window behaviours stand first, oldest first, and padding of any kind behind.
          windows: what each window holds.
          item_rows: looks up the catalogue's row of each behaviour where a window holds `item_id`; None: nobody asks.
        """
        history = {}
        for window, names in windows.items():
            column = lambda name, window=window: history_column(window, name)  # noqa: E731
            newest_last = NewestLast(inputs[f"{window}_length"], tf.shape(inputs[column(names[0])])[1])
            raw = {name: newest_last(inputs[column(name)]) for name in names}
            times, found = raw.pop(TIMESTAMP, None), {}
            for name, values in raw.items():
                count = inputs.get(num_values(column(name)))
                found[name] = self.encode_places(name, values, None if count is None else newest_last(count))
            if item_rows is not None and "item_id" in raw:
                found[ITEM_ROW] = item_rows(raw["item_id"])
            if times is not None:
                found[TIME_GAP] = gap_buckets(inputs[TIMESTAMP], times)
            history |= {window: found, f"{window}_length": newest_last.length}
        return history

    def _encode_terms(self, feature: Feature, values: tf.Tensor) -> tf.Tensor:
        if feature.hash_buckets is not None:
            missing = tf.equal(values, tf.constant(missing_mark(feature), values.dtype))
            ids = tf.where(missing, tf.constant(0, tf.int64), 1 + _bucket(values, feature.hash_buckets))
        else:
            ids = self._tables[feature.name].lookup(values)
            # Only unknown terms are hashed: known ones are the rule.
            unknown = tf.where(ids < 0)
            buckets = _bucket(tf.gather_nd(values, unknown), feature.vocabulary.oov_buckets)
            ids = tf.tensor_scatter_nd_update(ids, unknown, 1 + buckets)
        return tf.cast(ids, tf.int32)

    def _encode_numbers(self, feature: Feature, values: tf.Tensor) -> tf.Tensor:
        if values.dtype == tf.int64:
            missing = tf.equal(values, tf.constant(MISSING_INT64, tf.int64))
            values = tf.cast(values, tf.float64)
        else:
            missing = tf.math.is_nan(values)
        x = numeric.clean(TensorFlowOps.where(missing, 0.0, values), TensorFlowOps)
        if feature.transform == "bucketize":
            boundaries = tf.constant(self._numbers[feature.name], tf.float64)
            ids = 1 + tf.searchsorted(boundaries, x, side="right", out_type=tf.int32)
            return tf.where(missing, 0, ids)
        center, scale = self._numbers[feature.name]
        x = numeric.transform(x, feature.transform, center, scale, TensorFlowOps)
        return tf.cast(TensorFlowOps.where(missing, 0.0, x), tf.float32)


def traced(function, inputs: dict[str, tf.TensorSpec]):
    """Returns a function of keyword arguments as a signature.

    It is traced without AutoGraph, as models are trained: converting TensorFlow's and Keras's own code, which needs
    none, took six times as long as tracing it.
    """
    return tf.function(function, autograph=False).get_concrete_function(**inputs)


class ItemRows(tf.Module):
    """Raw item ids to rows of the catalogue, from 1; 0 for items that are not in it.

    Args:
      item_ids: [n] string or int64, in the catalogue's order.
      assets: a local folder that stands until the SavedModel is written; gets the file of the ids.
    """

    def __init__(self, item_ids: pa.Array, assets: str, name: str | None = None):
        super().__init__(name=name)
        self._table = NumberedKeys(item_ids, assets, "catalogue", default_value=0)

    def __call__(self, item_ids: tf.Tensor) -> tf.Tensor:
        """Returns rows int32 of the shape of `item_ids`."""
        return tf.cast(self._table.lookup(item_ids), tf.int32)


class TensorFlowOps:
    """What `features.encoding.numeric.transform` needs of an array library, in TensorFlow."""

    floor = staticmethod(tf.floor)
    minimum = staticmethod(tf.minimum)
    maximum = staticmethod(tf.maximum)
    absolute = staticmethod(tf.abs)

    @staticmethod
    def where(condition, a, b):
        return tf.where(condition, tf.convert_to_tensor(a, tf.float64), tf.convert_to_tensor(b, tf.float64))

    @staticmethod
    def split(x):
        bits = tf.bitcast(x, tf.int64)
        mantissa = tf.bitwise.bitwise_or(
            tf.bitwise.bitwise_and(bits, 0x000FFFFFFFFFFFFF), tf.constant(0x3FF0000000000000, tf.int64)
        )
        exponent = tf.bitwise.right_shift(bits, tf.constant(52, tf.int64)) - 1023
        return tf.bitcast(mantissa, tf.float64), tf.cast(exponent, tf.float64)


def hash64(values: tf.Tensor) -> tf.Tensor:
    """`features.encoding.hashing.hash64` of `[n]` strings (as bytes) or int64, in uint64; nothing is null."""
    if values.dtype == tf.int64:
        return _mix(tf.bitcast(values, tf.uint64) + _uint64(hashing.INCREMENT))
    # All strings end to end, and differences of running sums, so that memory goes with their bytes: a matrix (or
    # tf.repeat, which makes one) would be as wide as the longest string.
    lengths = tf.strings.length(values)
    data = tf.cast(tf.io.decode_raw(tf.strings.reduce_join(values), tf.uint8), tf.uint64)
    longest = tf.reduce_max(tf.concat([lengths, [0]], axis=0))
    powers = tf.math.cumprod(tf.fill([longest], _uint64(hashing.MULTIPLIER)), exclusive=True)
    products = data * tf.gather(powers, tf.ragged.range(lengths).flat_values)
    prefix = tf.concat([tf.zeros([1], tf.uint64), tf.cumsum(products)], axis=0)
    ends = tf.cumsum(lengths)
    sums = tf.gather(prefix, ends) - tf.gather(prefix, ends - lengths)
    return _mix(sums + (tf.cast(lengths, tf.uint64) + _uint64(1)) * _uint64(hashing.INCREMENT))


def _mix(hashes: tf.Tensor) -> tf.Tensor:
    hashes = _xor_shift(hashes, 30) * _uint64(hashing.MIX_1)
    hashes = _xor_shift(hashes, 27) * _uint64(hashing.MIX_2)
    return _xor_shift(hashes, 31)


def _xor_shift(hashes: tf.Tensor, bits: int) -> tf.Tensor:
    return tf.bitwise.bitwise_xor(hashes, tf.bitwise.right_shift(hashes, _uint64(bits)))


def _bucket(values: tf.Tensor, buckets: int) -> tf.Tensor:
    """`hash64 % buckets`, int64."""
    return tf.cast(tf.math.floormod(hash64(values), _uint64(buckets)), tf.int64)


def _uint64(value: int) -> tf.Tensor:
    return tf.constant(value, tf.uint64)


def _table(encoding: FeatureEncoding, feature: Feature, assets: str) -> NumberedKeys:
    """Terms to ids, the missing mark to 0, others to -1."""
    first = 1 + feature.vocabulary.oov_buckets
    return NumberedKeys(encoding.terms(feature.name), assets, f"vocabulary-{feature.name}", first)

"""Embeds the features of a flat request batch into one tensor of fields."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from features.encoding.feature_encoding import FeatureEncoding
from features.errors import InputError
from features.spec import Feature, Scope

LARGEST_NUMBER = 1e6
"""Encoded numbers are clipped to ± this: one corrupt value must not overflow into scores that are not a number."""


class FeatureEmbedding(tf.keras.layers.Layer):
    """Turns every feature into one vector of width d (AutoInt, arXiv 1810.11921, section 4.2).

    A categorical field is its row, `e_i = V_i x_i`; a multi-valued one the mean of its rows, `e_i = V_i x_i / q`
    (q = number of values); a numeric one its value times one vector, `e_m = v_m x_m`. Missing values (id 0, the
    empty list, the number 0) give exactly 0.

    All ids of all fields share one table `[total ids, d]`, field after field: one look-up and one sparse gradient
    a batch instead of one a field. Fields of scope `request` are looked up once per request, then repeated.

    Example:
      embedding = FeatureEmbedding(encoding)
      fields = embedding(batch)  # [N, len(embedding.field_names), d]

    Args:
      encoding: the fitted feature encoding; its spec must give every feature the same embedding width.
      exclude: names of features to leave out.

    Raises:
      ValueError: if features differ in embedding width or none is left.
      InputError: if Keras is set to another precision than float32.
    """

    def __init__(self, encoding: FeatureEncoding, exclude: tuple[str, ...] = (), name: str = "feature_embedding"):
        super().__init__(name=name)
        require_float32(self)
        self._encoding = encoding
        spec = encoding.spec
        kept = [feature for feature in spec.features if feature.name not in exclude]
        widths = {feature.name: spec.embedding_dim_of(feature.name) for feature in kept}
        if len(set(widths.values())) != 1:
            raise ValueError(f"all features need one `embedding_dim` to interact. Received: {widths}")
        self.embedding_dim = next(iter(widths.values()))
        self._blocks = {scope: _Block([f for f in kept if f.scope == scope]) for scope in ("request", "candidate")}
        self._offsets, total = {}, 0
        for feature in kept:
            if feature.has_ids:
                self._offsets[feature.name] = total
                total += encoding.vocabulary_size(feature.name)
        self._total_ids = total
        self._numeric_row = {f.name: i for i, f in enumerate(f for f in kept if not f.has_ids)}
        self.field_names = tuple(f.name for scope in self._blocks for f in self._blocks[scope].fields)
        self.request_features = tuple(f.name for f in self._blocks["request"].fields)

    @property
    def first_rows(self) -> dict[str, int]:
        """The first row in `table` of each feature that has ids."""
        return dict(self._offsets)

    @property
    def numeric_features(self) -> tuple[str, ...]:
        """The features of the rows of `numeric_vectors`."""
        return tuple(self._numeric_row)

    def build(self, input_shape):
        if self._total_ids:
            self.table = self.add_weight("table", (self._total_ids, self.embedding_dim), initializer=_normal())
        if self._numeric_row:
            shape = (len(self._numeric_row), self.embedding_dim)
            self.numeric_vectors = self.add_weight("numeric_vectors", shape, initializer=_normal())
        super().build(input_shape)

    def call(self, batch: dict) -> tf.Tensor:
        """Returns `[N, M, d]`, fields in the order of `field_names`."""
        features = batch["features"]
        parts = []
        if self._blocks["request"].fields:
            parts.append(tf.gather(self.request_fields(features), batch["request_index"]))
        if self._blocks["candidate"].fields:
            parts.append(self._embed("candidate", features))
        return parts[0] if len(parts) == 1 else tf.concat(parts, axis=1)

    def request_fields(self, features: dict) -> tf.Tensor:
        """Embeds requests, [B, M, d] in the order of `request_features`."""
        return self._embed("request", features)

    def squared_norm(self, batch: dict, row_weights: tf.Tensor | None = None) -> tf.Tensor:
        """Returns the mean over the batch's candidates of `Σ_f |e_f|²`, the squared rows that an example reads.

        Its gradient is of the looked-up rows alone. Values of a multi-valued feature weigh `1 / q` each, q being their
        number, as in the mean that they enter by; numbers, which look nothing up, are left out, and so is what
        histories read: a behaviour is no example.

        Args:
          batch: a flat request batch.
          row_weights: `[total ids]`, a factor of each row; None: 1.
        """
        rows, weights = self._lookups(batch)
        squares = tf.reduce_sum(tf.square(tf.gather(self.table, rows)), axis=1)
        if row_weights is not None:
            weights *= tf.gather(row_weights, rows)
        candidates = tf.cast(tf.maximum(tf.size(batch["request_index"]), 1), squares.dtype)
        return tf.reduce_sum(weights * squares) / candidates

    def _lookups(self, batch: dict) -> tuple[tf.Tensor, tf.Tensor]:
        """The rows that a batch's fields are made of, `[R]`, and how much of its candidates' fields each is, `[R]`."""
        features, index = batch["features"], batch["request_index"]
        rows, weights = [tf.zeros([0], tf.int32)], [tf.zeros([0])]
        for scope, block in self._blocks.items():
            for feature in block.single + block.multi:
                ids = features[feature.name]
                several = isinstance(ids, tf.RaggedTensor)
                count = ids.nrows(tf.int32) if several else tf.size(ids)
                share = tf.ones([count])
                if scope == "request":
                    share = tf.cast(tf.math.bincount(index, minlength=count, maxlength=count), tf.float32)
                values = tf.cast(ids.values if several else ids, tf.int32)
                present = tf.cast(values > 0, tf.float32)
                if several:
                    number = tf.math.unsorted_segment_sum(present, ids.value_rowids(), count)
                    share = tf.gather(tf.math.divide_no_nan(share, number), ids.value_rowids())
                rows.append(values + self._offsets[feature.name])
                weights.append(share * present)
        return tf.concat(rows, axis=0), tf.concat(weights, axis=0)

    def row_counts(self) -> np.ndarray:
        """Returns how often each row of the table was seen in train, `[total ids]` float64, at least 1.

        What no vocabulary counted is taken to be rare: ids out of a vocabulary as the rarest term in it, hashed and
        bucketised values as if all of them were seen equally often.
        """
        encoding, counts = self._encoding, np.ones(self._total_ids)
        known = {name: encoding.counts(name) for name in self._offsets if encoding.spec[name].vocabulary is not None}
        examples = max((int(found.sum()) for name, found in known.items()), default=0)
        for name, start in self._offsets.items():
            size = encoding.vocabulary_size(name)
            if name not in known:
                counts[start + 1 : start + size] = examples / (size - 1)
            elif len(known[name]):
                counts[start + 1 : start + size] = known[name].min()
                counts[start + size - len(known[name]) : start + size] = known[name]
        return np.maximum(counts, 1.0)

    def concatenated(self, names: tuple[str, ...], ids: dict) -> tf.Tensor:
        """Embeds features of any shape: `[…, len(names) · d]` from ids by feature.

        Args:
          names: of features with ids.
          ids: `[…]`; of multi-valued features ragged, `[n, None]` or `[B, L, None]` of one `uniform_row_length` L.
        """
        several = [name for name in names if isinstance(ids[name], tf.RaggedTensor)]
        if several:
            single = [name for name in names if name not in several]
            found = dict(zip(single, tf.unstack(self._rows(single, ids), axis=-2), strict=True)) if single else {}
            found |= {name: self._mean(name, ids[name]) for name in several}
            return tf.concat([found[name] for name in names], axis=-1)
        rows = self._rows(names, ids)
        return tf.reshape(rows, tf.concat([tf.shape(rows)[:-2], [len(names) * self.embedding_dim]], axis=0))

    def _rows(self, names: Sequence[str], ids: dict) -> tf.Tensor:
        """One look-up of several single-valued features: `[…, len(names), d]`."""
        stacked = tf.stack([ids[name] for name in names], axis=-1)
        offsets = tf.constant([self._offsets[name] for name in names], stacked.dtype)
        present = tf.cast(stacked > 0, self.compute_dtype)
        return tf.gather(self.table, stacked + offsets) * present[..., tf.newaxis]

    def _embed(self, scope: Scope, features: dict) -> tf.Tensor:
        block = self._blocks[scope]
        parts = []
        if block.single:
            parts.append(self._rows([f.name for f in block.single], features))
        for feature in block.multi:
            parts.append(self._mean(feature.name, features[feature.name])[:, tf.newaxis])
        if block.numeric:
            values = tf.stack([features[f.name] for f in block.numeric], axis=1)
            values = tf.clip_by_value(values, -LARGEST_NUMBER, LARGEST_NUMBER)
            rows = [self._numeric_row[f.name] for f in block.numeric]
            parts.append(values[..., tf.newaxis] * tf.gather(self.numeric_vectors, rows))
        return parts[0] if len(parts) == 1 else tf.concat(parts, axis=1)

    def _mean(self, name: str, ids: tf.RaggedTensor) -> tf.Tensor:
        """`[…, d]` of `[…, None]`, the mean of the embeddings of each list; 0 of an empty one."""
        if ids.ragged_rank > 1:
            return tf.reshape(self._mean(name, ids.values), [ids.nrows(), ids.uniform_row_length, self.embedding_dim])
        present = tf.cast(ids.values > 0, self.compute_dtype)[:, tf.newaxis]
        rows = tf.gather(self.table, ids.values + tf.cast(self._offsets[name], ids.dtype)) * present
        segments, count = ids.value_rowids(), ids.nrows()
        total = tf.math.unsorted_segment_sum(rows, segments, count)
        return tf.math.divide_no_nan(total, tf.math.unsorted_segment_sum(present, segments, count))


def require_float32(layer: tf.keras.layers.Layer) -> None:
    """Refuses a layer that does not compute in float32.

    Masks are -1e9, which float16 holds as minus infinity and zero times which is not a number: under mixed precision
    losses would be NaN, and not say why.

    Raises:
      InputError: if its precision is another.
    """
    if layer.compute_dtype != "float32":
        raise InputError(
            f"Clickmill's models compute in float32. Received: layer `{layer.name}` with precision "
            f"'{layer.dtype_policy.name}'. Undo it: `tf.keras.mixed_precision.set_global_policy('float32')`."
        )


def flatten_fields(fields: tf.Tensor) -> tf.Tensor:
    """`[N, M, d]` to `[N, M · d]`, of a static width."""
    return tf.reshape(fields, [-1, fields.shape[1] * fields.shape[2]])


def _normal():
    return tf.keras.initializers.RandomNormal(stddev=0.01)  # the reference code's; the paper is silent


class _Block:
    """The fields of one scope, in the order in which they are embedded."""

    def __init__(self, features: list[Feature]):
        self.single = [f for f in features if f.has_ids and not f.multi_valued]
        self.multi = [f for f in features if f.multi_valued]
        self.numeric = [f for f in features if not f.has_ids]
        self.fields = self.single + self.multi + self.numeric

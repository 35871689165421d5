"""The graphs of an exported ranker: its model is traced once for each form of its batch, and signatures call that."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pyarrow as pa
import tensorflow as tf

from features.encoding.columns import BATCH_ITEM_ROW, BATCH_TIME_GAP
from features.encoding.feature_encoding import FeatureEncoding
from features.histories.windows import TIMESTAMP
from features.spec import Feature
from serving.export.input_specs import (
    Specs,
    feature_specs,
    signature_spec,
    slate_specs,
    table_specs,
    window_specs,
)
from serving.export.padding import NO_LOGIT, Slates, pad
from serving.export.read_inputs import read_inputs
from serving.export.transforms import ItemRows, RawFeatureEncoder, traced
from serving.saved.signature_specs import (
    DRAW_LOGITS,
    ENCODE_BEHAVIORS,
    EXPLAIN,
    GAP_WEIGHTS,
    ITEM_SIGNATURE,
    LONG_HISTORY_USED,
    LONG_SUMS,
    NUM_CANDIDATES,
    RANK_REQUESTS,
    RANK_SIGNED,
    REQUEST_INDEX,
    SERVING_DEFAULT,
    TABLES_VERSION,
    HistoryInputs,
)


class RankerGraphs:
    """Traces what `export_ranker` saves.

    Args:
      model: the ranker.
      encoding: its encoding.
      assets: a local folder that stands until the SavedModel is written; gets the files of the look-up tables.
      history: what it takes of histories; None: nothing.
      item_ids: raw ids of the catalogue whose signatures it looks up, in their order; None: it looks none up.
      call: logits of an encoded batch; by default the model's.
      draws: [M, h + 1] deviations of the last layer's weights, of a model with `last_hidden`; None: no `draw_logits`.

    Attributes:
      module: owns the look-up tables.
      encoder: of raw inputs.
    """

    def __init__(
        self,
        model,
        encoding: FeatureEncoding,
        assets: str,
        history: HistoryInputs | None,
        item_ids: pa.Array | None = None,
        call: Callable | None = None,
        draws: np.ndarray | None = None,
    ):
        self._model, self._spec, self._history = model, encoding.spec, history
        self._call = call or (lambda batch: model(batch, training=False))
        self.module = tf.Module(name=f"{encoding.spec.name}_ranker")
        self.encoder = self.module.encoder = RawFeatureEncoder(encoding, assets)
        self._by_table = history is not None and history.simhash is not None
        self._draws = None
        if draws is not None:  # a variable: as a constant each signature would hold it once more
            self._draws = self.module.last_layer_draws = tf.Variable(draws.T, trainable=False, dtype=tf.float32)
        self._item_rows = None
        if item_ids is not None:
            self._item_rows = self.module.item_rows = ItemRows(item_ids, assets)

    def build(self) -> tuple[tf.Module, dict]:
        """Returns the module that owns tables (and later variables), and its signatures by name."""
        score = self._model_function(self._call, with_table=True)
        names = self._features_read(score)
        served = self._served_specs(names)
        signatures = {SERVING_DEFAULT: traced(self._ranking(score, names), served)}
        if self._item_rows is not None:
            signatures[RANK_SIGNED] = traced(self._ranking(score, names), served | signature_spec(self._history))
        if hasattr(self._model, "attention_maps"):
            maps = lambda batch: tf.stack(self._model.attention_maps(batch), axis=1)  # noqa: E731
            signatures[EXPLAIN] = traced(self._explaining(self._model_function(maps, with_table=True), names), served)
        if self._draws is not None:
            both = self._model_function(self._drawn, with_table=True)
            signatures[DRAW_LOGITS] = traced(self._drawing(both, names), served)
        joint = score
        if self._by_table:
            joint = self._model_function(self._call, with_table=False)
        setattr(self.module, RANK_REQUESTS, traced(self._joint_ranking(joint, names), self._joint_specs(names)))
        if self._by_table:
            signatures |= self._table_signatures()
        return self.module, signatures

    def _model_function(self, call: Callable, with_table: bool):
        """`call` of an encoded batch, traced once."""
        return tf.function(call, autograph=False).get_concrete_function(self._batch_spec(with_table))

    def _batch_spec(self, with_table: bool) -> dict:
        """Specs of an encoded batch of flat candidates, with bucket tables or with the long history itself."""
        spec = {
            "features": {feature.name: self._encoded_spec(feature, 1) for feature in self._spec.features},
            REQUEST_INDEX: tf.TensorSpec([None], tf.int32),
        }
        if self._history is None:
            return spec
        history = spec["history"] = {}
        for window, names in self._history.windows(with_table).items():
            known = [name for name in names if name != TIMESTAMP]
            found = history[window] = {name: self._encoded_spec(self._spec[name], 2) for name in known}
            if self._history.times:
                found[BATCH_TIME_GAP] = tf.TensorSpec([None, None], tf.int32)
            if self._item_rows is not None and "item_id" in names:
                found[BATCH_ITEM_ROW] = tf.TensorSpec([None, None], tf.int32)
            history[f"{window}_length"] = tf.TensorSpec([None], tf.int32)
        if with_table and self._by_table:
            history[LONG_SUMS] = tf.TensorSpec([None, *self._history.table_shape], tf.float32)
        if self._item_rows is not None:
            spec[BATCH_ITEM_ROW] = tf.TensorSpec([None], tf.int32)
            if with_table:
                spec[ITEM_SIGNATURE] = tf.TensorSpec([None, self._history.simhash.num_groups], tf.int32)
        return spec

    def _encoded_spec(self, feature: Feature, rank: int):
        if feature.multi_valued:
            return tf.RaggedTensorSpec([None] * (rank + 1), tf.int32, ragged_rank=rank, row_splits_dtype=tf.int64)
        return tf.TensorSpec([None] * rank, tf.int32 if feature.has_ids else tf.float32)

    def _features_read(self, score) -> list[str]:
        """The features that logits depend on, in the order of the spec."""
        read = read_inputs(score)
        by_row = {"item_id"} if (BATCH_ITEM_ROW,) in read else set()
        return [f.name for f in self._spec.features if ("features", f.name) in read or f.name in by_row]

    def _of_scope(self, scope: str, names: list[str]) -> list[str]:
        return [feature.name for feature in self._spec.of_scope(scope) if feature.name in names]

    def _served_specs(self, names: list[str]) -> Specs:
        specs = feature_specs(self._spec, self._of_scope("request", names))
        specs |= slate_specs(self._spec, self._of_scope("candidate", names))
        if self._history is not None:
            specs |= window_specs(self._spec, self._history.windows(with_table=True))
        return specs | table_specs(self._history)

    def _joint_specs(self, names: list[str]) -> Specs:
        specs = feature_specs(self._spec, names)
        if self._history is not None:
            specs |= window_specs(self._spec, self._history.windows(with_table=False))
        return specs | {REQUEST_INDEX: tf.TensorSpec([None], tf.int32, name=REQUEST_INDEX)}

    def _ranking(self, score, names: list[str]):
        """`serving_default`, or with an input more `rank_signed`."""

        def rank(**inputs):
            slates, batch, used = self._served_batch(inputs, names)
            logits = slates.to_grid(_flat_logits(score(batch)), NO_LOGIT)
            return {"score": tf.sigmoid(logits), "logit": logits, LONG_HISTORY_USED: used}

        return rank

    def _drawn(self, batch: dict) -> tf.Tensor:
        """`[N, 1 + M]`: the logits, and what each draw of the last layer adds to them."""
        deviations = tf.matmul(self._model.last_hidden(batch), self._draws[:-1]) + self._draws[-1:]
        return tf.concat([_flat_logits(self._call(batch))[:, tf.newaxis], deviations], axis=1)

    def _drawing(self, both, names: list[str]):
        def draw_logits(**inputs):
            slates, batch, _ = self._served_batch(inputs, names)
            found = both(batch)
            return {
                "logit": slates.to_grid(found[:, 0], NO_LOGIT),
                "deviation": slates.to_grid(found[:, 1:], 0.0),
            }

        return draw_logits

    def _explaining(self, maps, names: list[str]):
        def explain(**inputs):
            slates, batch, _ = self._served_batch(inputs, names)
            return {"attention": slates.to_grid(maps(batch), 0.0)}

        return explain

    def _joint_ranking(self, score, names: list[str]):
        def rank_requests(**inputs):
            index = inputs[REQUEST_INDEX]
            risen = tf.debugging.assert_non_negative(
                index[1:] - index[:-1], message=f"`{REQUEST_INDEX}` must not fall: candidates stand request by request."
            )
            with tf.control_dependencies([risen]):
                count = tf.size(index)
            # As in slates: a candidate is added where there is none.
            added = tf.cast(count == 0, tf.int32)
            flat = lambda values: pad(values, added)  # noqa: E731
            batch, _ = self._batch(inputs, names, flat(index), flat, with_table=False)
            logits = _flat_logits(score(batch))[:count]
            return {"score": tf.sigmoid(logits), "logit": logits}

        return rank_requests

    def _served_batch(self, inputs: dict, names: list[str]) -> tuple[Slates, dict, tf.Tensor]:
        """The slates, the encoded batch, and whether each request's long history is used."""
        counts, candidates = inputs[NUM_CANDIDATES], self._of_scope("candidate", names)
        # Without a feature of their own all candidates are alike, and the slates as wide as the longest.
        width = tf.shape(inputs[candidates[0]])[1] if candidates else tf.maximum(tf.reduce_max(counts), 0)
        slates = Slates(counts, width)
        batch, used = self._batch(inputs, names, slates.request_index, slates.to_flat, with_table=True)
        return slates, batch, used

    def _batch(self, inputs: dict, names: list[str], request_index, flat, with_table: bool) -> tuple[dict, tf.Tensor]:
        """An encoded batch; `flat` makes `[M, …]` of an input of candidates."""
        requests, encode = self._num_requests(inputs, names, request_index), self.encoder.encode_inputs
        features = encode(inputs, self._of_scope("request", names))
        features |= encode(inputs, self._of_scope("candidate", names), flat)
        sizes = {"request": requests, "candidate": tf.size(request_index)}
        for feature in self._spec.features:
            if feature.name not in features:
                features[feature.name] = self._nothing(feature, sizes[feature.scope])
        batch = {"features": features, REQUEST_INDEX: request_index}
        used = tf.zeros([requests], tf.bool)
        if self._history is None:
            return batch, used
        windows = self._history.windows(with_table)
        history = batch["history"] = self.encoder.encode_windows(inputs, windows, self._item_rows)
        if "long" in windows:
            used = history["long_length"] > 0
        if with_table and self._by_table:
            history[LONG_SUMS], used = self._own_tables(inputs)
        if self._item_rows is not None:
            batch[BATCH_ITEM_ROW] = self._item_rows(flat(inputs["item_id"]))
            if with_table:
                batch[ITEM_SIGNATURE] = self._given_signatures(inputs, flat, sizes["candidate"])
        return batch, used

    def _num_requests(self, inputs: dict, names: list[str], request_index: tf.Tensor) -> tf.Tensor:
        of_requests = [NUM_CANDIDATES, "short_length", "long_length", *self._of_scope("request", names)]
        known = [name for name in of_requests if name in inputs]
        return tf.shape(inputs[known[0]])[0] if known else tf.reduce_max(request_index) + 1

    def _own_tables(self, inputs: dict) -> tuple[tf.Tensor, tf.Tensor]:
        """Bucket sums `[R, G, 2^tau, d]`, zeros instead of those of another version, and which hold something."""
        own = tf.equal(inputs[TABLES_VERSION], self._history.version)
        sums = tf.where(own[:, tf.newaxis, tf.newaxis, tf.newaxis], inputs[LONG_SUMS], 0.0)
        return sums, tf.reduce_any(sums != 0.0, axis=[1, 2, 3])

    def _given_signatures(self, inputs: dict, flat, count: tf.Tensor) -> tf.Tensor:
        if ITEM_SIGNATURE in inputs:
            return flat(inputs[ITEM_SIGNATURE])
        return tf.fill([count, self._history.simhash.num_groups], -1)

    def _nothing(self, feature: Feature, rows: tf.Tensor):
        """Missing values of a feature that the model is given and does not read."""
        if feature.multi_valued:
            splits = tf.zeros([rows + 1], tf.int64)
            return tf.RaggedTensor.from_row_splits(tf.zeros([0], tf.int32), splits, validate=False)
        return tf.zeros([rows], tf.int32 if feature.has_ids else tf.float32)

    def _table_signatures(self) -> dict:
        """What BSE builds tables with."""
        interest = self._model.history_interest

        def encode_behaviors(**inputs):
            ids = self.encoder.encode_inputs(inputs, names)
            rows = None if self._item_rows is None else self._item_rows(inputs["item_id"])
            values, signed = interest.encode_behaviors(ids, rows)
            return {"embedding": values, "signature": signed, "known": signed[:, 0] >= 0}

        def gap_weights(**inputs):
            return {"weight": tf.exp(interest.table_recency(inputs["gap"], rank=None).bias)}

        names = self._history.long_features
        found = {ENCODE_BEHAVIORS: traced(encode_behaviors, feature_specs(self._spec, names))}
        if interest.table_recency is not None:
            found[GAP_WEIGHTS] = traced(gap_weights, {"gap": tf.TensorSpec([None], tf.int32, name="gap")})
        return found


def _flat_logits(logits: tf.Tensor) -> tf.Tensor:
    return tf.cast(tf.reshape(logits, [-1]), tf.float32)

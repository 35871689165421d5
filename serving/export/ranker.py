"""A trained ranker as a SavedModel whose signatures take raw values.

Vocabularies and numeric transforms travel inside the graph, so a client sends what its logs hold. docs/serving.md
describes signatures and tensors.
"""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa

from features.encoding.feature_encoding import FeatureEncoding
from features.items.signatures import ItemSignatures
from serving.export.publish import published_model
from serving.export.warmup import write_warmup_requests
from serving.requests.history_inputs import ENCODE_BEHAVIORS, LONG_SUMS, HistoryInputs
from serving.signature_specs import (
    ATTENTION_FIELDS_FILE,
    EXPLAIN,
    RANK_REQUESTS,
    REQUEST_INDEX,
    SERVING_DEFAULT,
    check_spec,
    tensor_spec,
    window_specs,
)


def export_ranker(
    model,
    encoding: FeatureEncoding,
    directory: str | Path,
    warmup_rows: pa.Table | None = None,
    *,
    item_signatures: ItemSignatures | None = None,
    overwrite: bool = False,
) -> Path:
    """Exports a ranker with the signatures `serving_default` (one request) and `rank_requests` (B requests).

    A ranker that reads histories takes them as further inputs (`serving/requests/history_inputs.py`). With SDIM,
    `serving_default` takes the user's bucket table from BSE, `rank_requests` the long history itself (the joint graph
    of the training), and `encode_behaviors` gives what BSE adds up. A ranker with `attention_maps` (AutoInt) also
    exports `explain`: the inputs of `serving_default` to `attention` `[N, layers, H, M, M]`, query field by key field.

    The SavedModel is written beside `directory` under a hidden name and renamed when it is complete: a reader sees all
    of it or nothing.

    Args:
      model: a trained `RankingModel`; `model(batch, training=False)` returns logits `[N]`; its batch is that of
        docs/data_formats.md, `history` and `item_row` only where its `history_interest` is not None.
      encoding: the encoding that the model was trained with.
      directory: where the SavedModel appears, for example `serving_models/<name>/<version>`.
      warmup_rows: raw request rows that a server replays before it takes traffic; None writes no warm-up file.
      item_signatures: those that the model was built with, if any.
      overwrite: replace what stands at `directory`.

    Returns:
      The directory.

    Raises:
      FileExistsError: if `directory` holds something and `overwrite` is False.
      ValueError: if a feature has the name of another signature input, or `warmup_rows` do not fit the spec.
    """
    import tensorflow as tf

    check_spec(encoding.spec)
    with published_model(Path(directory), encoding.spec, overwrite) as aside:
        history_inputs = HistoryInputs.of(model, encoding.spec)
        if history_inputs is not None:
            history_inputs.save(aside)
        if hasattr(model, "attention_maps"):
            (aside / ATTENTION_FIELDS_FILE).write_text(json.dumps(model.field_names), encoding="utf-8")
        if warmup_rows is not None:
            write_warmup_requests(aside, encoding.spec, warmup_rows, history_inputs)
        module, signatures = _ranker_module(model, encoding, history_inputs, item_signatures)
        # Tracing may have built the model, so its variables are collected only now. The model itself stays out: Keras
        # would trace and save each of its layers once more.
        module.model_variables = list(model.variables)
        tf.saved_model.save(module, str(aside), signatures=signatures)
    return Path(directory)


def _ranker_module(model, encoding: FeatureEncoding, history_inputs: HistoryInputs | None, item_signatures):
    """Returns the module that owns tables (and later variables), and its signatures by name."""
    import tensorflow as tf

    from serving.export.transforms import ItemRows, RawFeatureEncoder

    spec = encoding.spec
    of_request, of_candidate = spec.of_scope("request"), spec.of_scope("candidate")
    module = tf.Module(name=f"{spec.name}_ranker")
    encoder = module.encoder = RawFeatureEncoder(encoding)
    if history_inputs is not None and model.history_interest.uses_item_rows:
        module.item_rows = ItemRows(item_signatures.item_ids)

    def encoded(names, inputs, prefix="") -> dict:
        """Ids by feature, and catalogue rows where items are signed by them."""
        ids = {name: encoder.encode_any_shape(name, inputs[f"{prefix}{name}"]) for name in names}
        if "item_id" in names and model.history_interest.uses_item_rows:
            ids["item_row"] = module.item_rows(inputs[f"{prefix}item_id"])
        return ids

    def batch_of(inputs, request_index, with_table=False):
        features = {feature.name: encoder.encode(feature.name, inputs[feature.name]) for feature in spec.features}
        batch = {"features": features, REQUEST_INDEX: request_index}
        if history_inputs is not None:
            history = batch["history"] = {}
            for window, names in history_inputs.windows(with_table).items():
                history[window] = encoded(names, inputs, prefix=f"{window}_")
                history[f"{window}_length"] = inputs[f"{window}_length"]
            if with_table and history_inputs.simhash:
                history[LONG_SUMS] = inputs[LONG_SUMS]
            if model.history_interest.uses_item_rows:
                batch["item_row"] = module.item_rows(inputs["item_id"])
        return batch

    def one_request(inputs):
        # Without a feature of their own all candidates are alike: the request is ranked as one candidate.
        first = inputs[of_candidate[0].name] if of_candidate else None
        count = 1 if first is None else tf.shape(first)[0]
        return batch_of(inputs, tf.zeros([count], tf.int32), with_table=True)

    def rank(batch):
        logits = model(batch, training=False)
        logits = tf.cast(tf.reshape(logits, [-1]), tf.float32)
        return {"score": tf.sigmoid(logits), "logit": logits}

    def rank_one(**inputs):
        return rank(one_request(inputs))

    def rank_many(**inputs):
        return rank(batch_of(inputs, inputs[REQUEST_INDEX]))

    def explain(**inputs):
        return {"attention": tf.stack(model.attention_maps(one_request(inputs)), axis=1)}

    def encode_behaviors(**inputs):
        ids = encoded(history_inputs.long_features, inputs)
        values, signatures = model.history_interest.encode_behaviors(ids, ids.get("item_row"))
        return {"embedding": values, "signature": signatures, "known": signatures[:, 0] >= 0}

    one = {f.name: tensor_spec(f, 1) for f in of_request} | {f.name: tensor_spec(f, None) for f in of_candidate}
    many = {f.name: tensor_spec(f, None) for f in spec.features}
    many[REQUEST_INDEX] = tf.TensorSpec([None], tf.int32, name=REQUEST_INDEX)
    signatures = {}
    if history_inputs is not None:
        one |= window_specs(spec, history_inputs.windows(with_table=True), 1)
        many |= window_specs(spec, history_inputs.windows(with_table=False), None)
    if history_inputs is not None and history_inputs.simhash:
        one[LONG_SUMS] = tf.TensorSpec([1, *history_inputs.table_shape], tf.float32, name=LONG_SUMS)
        behaviors = {name: tensor_spec(spec[name], None) for name in history_inputs.long_features}
        signatures[ENCODE_BEHAVIORS] = tf.function(encode_behaviors).get_concrete_function(**behaviors)
    signatures[SERVING_DEFAULT] = tf.function(rank_one).get_concrete_function(**one)
    signatures[RANK_REQUESTS] = tf.function(rank_many).get_concrete_function(**many)
    if hasattr(model, "attention_maps"):
        signatures[EXPLAIN] = tf.function(explain).get_concrete_function(**one)
    return module, signatures

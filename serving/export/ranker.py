"""A trained ranker as a SavedModel whose signatures take raw values.

Vocabularies and numeric transforms travel inside the SavedModel, so a client sends what its logs hold. The signatures
are described in docs/reference/signatures.md.
"""

from __future__ import annotations

import pyarrow as pa

from features import storage
from features.encoding.feature_encoding import FeatureEncoding
from features.histories.windows import history_column
from features.items.signatures import ItemSignatures
from serving.export.publish import publish_model
from serving.export.warmup import ranker_requests
from serving.signature_specs import (
    ENCODE_BEHAVIORS,
    EXPLAIN,
    GAP_WEIGHTS,
    ITEM_SIGNATURE,
    LONG_SUMS,
    RANK_REQUESTS,
    RANK_SIGNED,
    REQUEST_INDEX,
    SERVING_DEFAULT,
    HistoryInputs,
    check_spec,
    tensor_spec,
    window_specs,
)


def export_ranker(
    model,
    encoding: FeatureEncoding,
    directory: storage.AnyPath,
    warmup_rows: pa.Table | None = None,
    *,
    item_signatures: ItemSignatures | None = None,
    overwrite: bool = False,
) -> str:
    """Exports a ranker with the signatures `serving_default` (one request) and `rank_requests` (B requests).

    A ranker that looks item signatures up also has `rank_signed`: `serving_default` with an input `item_signature`
    `[N, G]` int32, the signatures of candidates that came after the training (-1: the catalogue's own).

    A ranker that reads histories takes them as further inputs (`serving.signature_specs.HistoryInputs`). With SDIM,
    `serving_default` takes the user's bucket table from BSE, `rank_requests` the long history itself (the joint graph
    of the training), `encode_behaviors` gives what BSE adds up, and `gap_weights` what a behaviour counts by its age. A
    ranker with `attention_maps` (AutoInt) also exports `explain`: the inputs of `serving_default` to `attention`
    `[N, layers, H, M, M]`, query field by key field.

    The SavedModel appears whole or not at all.

    Args:
      model: a trained `RankingModel`; `model(batch, training=False)` returns logits `[N]`; its batch is that of
        docs/reference/data_formats.md, `history` and `item_row` only where its `history_interest` is not None.
      encoding: the encoding that the model was trained with.
      directory: where the SavedModel appears, for example `serving_models/<name>/<version>`.
      warmup_rows: raw request rows that a server replays before it takes traffic; None writes no warm-up file.
      item_signatures: those that the model was built with, if any.
      overwrite: replace what stands at `directory`.

    Returns:
      The directory.

    Raises:
      OccupiedError: if `directory` holds something and `overwrite` is False.
      InputError: if a feature has the name of another signature input, or `warmup_rows` do not fit the spec.
    """
    spec = encoding.spec
    history = HistoryInputs.of(model, spec)
    check_spec(spec, takes_times=history is not None and history.times)
    return publish_model(
        directory,
        model,
        spec,
        lambda assets: _ranker_module(model, encoding, assets, history, item_signatures),
        history=history,
        item_signatures=item_signatures if history is not None and model.history_interest.uses_item_rows else None,
        warmup=None if warmup_rows is None else ranker_requests(spec, warmup_rows, history),
        attention_fields=model.field_names if hasattr(model, "attention_maps") else None,
        overwrite=overwrite,
    )


def _ranker_module(
    model, encoding: FeatureEncoding, assets: str, history_inputs: HistoryInputs | None, item_signatures
):
    """Returns the module that owns tables (and later variables), and its signatures by name."""
    import tensorflow as tf

    from serving.export.transforms import ItemRows, RawFeatureEncoder, traced

    spec = encoding.spec
    of_request, of_candidate = spec.of_scope("request"), spec.of_scope("candidate")
    module = tf.Module(name=f"{spec.name}_ranker")
    encoder = module.encoder = RawFeatureEncoder(encoding, assets)
    if history_inputs is not None and model.history_interest.uses_item_rows:
        module.item_rows = ItemRows(item_signatures.item_ids, assets)

    def batch_of(inputs, request_index, with_table=False):
        features = {feature.name: encoder.encode(feature.name, inputs[feature.name]) for feature in spec.features}
        batch = {"features": features, REQUEST_INDEX: request_index}
        if history_inputs is not None:
            windows = history_inputs.windows(with_table)
            history = batch["history"] = encoder.encode_windows(inputs, windows)
            for window, names in windows.items() if model.history_interest.uses_item_rows else ():
                if "item_id" in names:
                    history[window]["item_row"] = module.item_rows(inputs[history_column(window, "item_id")])
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

    def rank_signed(**inputs):
        return rank({**one_request(inputs), ITEM_SIGNATURE: inputs[ITEM_SIGNATURE]})

    def rank_many(**inputs):
        return rank(batch_of(inputs, inputs[REQUEST_INDEX]))

    def explain(**inputs):
        return {"attention": tf.stack(model.attention_maps(one_request(inputs)), axis=1)}

    def encode_behaviors(**inputs):
        ids = {name: encoder.encode_any_shape(name, values) for name, values in inputs.items()}
        rows = module.item_rows(inputs["item_id"]) if model.history_interest.uses_item_rows else None
        values, signatures = model.history_interest.encode_behaviors(ids, rows)
        return {"embedding": values, "signature": signatures, "known": signatures[:, 0] >= 0}

    def gap_weights(gap):
        return {"weight": tf.exp(model.history_interest.table_recency(gap, rank=None).bias)}

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
        signatures[ENCODE_BEHAVIORS] = traced(encode_behaviors, behaviors, autograph=True)
        if model.history_interest.table_recency is not None:
            gaps = {"gap": tf.TensorSpec([None], tf.int32, name="gap")}
            signatures[GAP_WEIGHTS] = traced(gap_weights, gaps, autograph=True)
    signatures[SERVING_DEFAULT] = traced(rank_one, one, autograph=True)
    if history_inputs is not None and model.history_interest.uses_item_rows:
        shape = [None, history_inputs.simhash.num_groups]
        given = {ITEM_SIGNATURE: tf.TensorSpec(shape, tf.int32, name=ITEM_SIGNATURE)}
        signatures[RANK_SIGNED] = traced(rank_signed, one | given, autograph=True)
    signatures[RANK_REQUESTS] = traced(rank_many, many, autograph=True)
    if hasattr(model, "attention_maps"):
        signatures[EXPLAIN] = traced(explain, one, autograph=True)
    return module, signatures

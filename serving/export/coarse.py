"""A trained coarse ranker as a SavedModel of raw values: interests once a request, stored item vectors, look-ups.

docs/models/hcn.md describes the signatures.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from features import arrow, storage
from features.encoding.feature_encoding import FeatureEncoding
from features.errors import InputError
from serving.export.item_embeddings import ITEM_EMBEDDINGS_FILE
from serving.export.publish import publish_model
from serving.export.warmup import prediction_log
from serving.requests.tensors import (
    candidate_counts,
    flatten_candidates,
    item_tensor,
    request_tensors,
    tensors_from_table,
)
from serving.signature_specs import (
    COARSE_RANK,
    ITEM_EMBEDDING,
    RANK_REQUESTS,
    REQUEST_INDEX,
    SERVING_DEFAULT,
    USER_INTERESTS,
    HistoryInputs,
    check_spec,
    tensor_spec,
    window_specs,
)

#: The score of an item that the export does not know: below all probabilities.
UNKNOWN_SCORE = -1.0


def export_coarse(
    model,
    encoding: FeatureEncoding,
    directory: storage.AnyPath,
    corpus,
    warmup_rows: pa.Table | None = None,
    *,
    scoring: str | None = None,
    overwrite: bool = False,
) -> str:
    """Exports a coarse ranker with the signatures `user_interests`, `item_embedding`, `coarse_rank`, and a ranker's.

    - `user_interests`: raw request features `[B]` and both windows (`short_<feature>` `[B, S]`, `short_length` `[B]`,
      `long_<feature>` `[B, L]`, `long_length` `[B]`) → `interests` `[B, K, d]` and `valid` `[B, K]`.
    - `item_embedding`: raw features of `items`, `[n]` → `embedding` `[n, d]`, also of items that are not stored.
    - `coarse_rank`: the inputs of `user_interests` with B = 1, and `item_id` `[n]` → `score` `[n]` (probability) from
      the stored vectors and `known` `[n]`; items that are not stored score -1, below all others.
    - `serving_default` and `rank_requests`: inputs and outputs of a fine ranker's, so that evaluators take either.

    The stored vectors also lie in `assets.extra/item_embeddings.parquet`, in the catalogue's order. The SavedModel
    appears whole or not at all.

    Args:
      model: a trained `models.hcn.model.Hcn`.
      encoding: the encoding that it was trained with.
      directory: where the SavedModel appears.
      corpus: the `models.inputs.item_corpus.ItemCorpus` whose items are stored.
      warmup_rows: raw request rows with their windows, which a server replays before it takes traffic; None writes no
        warm-up file.
      scoring: `soft` or `max`, of `coarse_rank` and `rank_requests`; the model's own by default.
      overwrite: replace what stands at `directory`.

    Returns:
      The directory.

    Raises:
      OccupiedError: if `directory` holds something and `overwrite` is False.
      InputError: if a feature has the name of another input.
    """
    spec = encoding.spec
    check_spec(spec)
    if "item_id" in model.request_features:
        raise InputError(f"feature `item_id` is also an input of the signature `{COARSE_RANK}`: it must be of `items`.")
    embeddings = model.embed_corpus(corpus)
    history = HistoryInputs.of_windows(model.history_features, spec)
    return publish_model(
        directory,
        model,
        spec,
        lambda assets: _coarse_module(model, encoding, assets, corpus.item_ids, embeddings, history, scoring),
        history=history,
        warmup=None if warmup_rows is None else _warmup_logs(spec, warmup_rows, history, model.request_features),
        item_embeddings=(corpus.item_ids, {ITEM_EMBEDDINGS_FILE: embeddings}),
        overwrite=overwrite,
    )


def _warmup_logs(spec, rows: pa.Table, history: HistoryInputs, names) -> list:
    """One `coarse_rank` request a row, of its own candidates, and one `rank_requests` request of all rows."""
    logs = []
    for number in range(rows.num_rows):
        row = rows.slice(number, 1)
        items = flatten_candidates(arrow.one_chunk(row["item_id"]), candidate_counts(row), "item_id")
        inputs = request_tensors(spec, row, names, history.windows(with_table=False)) | {"item_id": item_tensor(items)}
        logs.append(prediction_log(spec.name, COARSE_RANK, inputs))
    logs.append(prediction_log(spec.name, RANK_REQUESTS, tensors_from_table(spec, rows, history)))
    return logs


def _coarse_module(
    model, encoding: FeatureEncoding, assets: str, item_ids: pa.Array, embeddings, history: HistoryInputs, scoring
):
    """Returns the module that owns tables and item vectors, and its signatures by name."""
    import tensorflow as tf

    from serving.export.transforms import ItemRows, RawFeatureEncoder, traced

    spec = encoding.spec
    module = tf.Module(name=f"{spec.name}_coarse")
    encoder = module.encoder = RawFeatureEncoder(encoding, assets)
    module.item_rows = ItemRows(item_ids, assets)
    # A variable: constants of this size would be copied into every graph. Row 0 stands for items that are not stored.
    stored = np.concatenate([np.zeros_like(embeddings[:1]), embeddings])
    module.item_embeddings = tf.Variable(stored, trainable=False, name="item_embeddings")
    windows = history.windows(with_table=False)

    def users(inputs) -> dict:
        """The part of a batch that says who asks."""
        features = {name: encoder.encode(name, inputs[name]) for name in model.request_features}
        return {"features": features, "history": encoder.encode_windows(inputs, windows)}

    def user_interests(**inputs):
        interests, valid = model.user_interests(users(inputs))
        return {"interests": interests, "valid": valid}

    def item_embedding(**inputs):
        return {"embedding": model.embed_items({name: encoder.encode(name, inputs[name]) for name in inputs})}

    def coarse_rank(item_id, **inputs):
        rows = module.item_rows(item_id)
        vectors = tf.gather(module.item_embeddings, rows)
        logits = model.logits_of(*model.user_interests(users(inputs)), vectors, scoring)[0]
        known = rows > 0
        return {"score": tf.where(known, tf.sigmoid(logits), UNKNOWN_SCORE), "known": known}

    def rank(inputs, request_index):
        batch = users(inputs)
        batch["features"] |= {name: encoder.encode(name, inputs[name]) for name in model.item_features}
        logits = model({**batch, REQUEST_INDEX: request_index}, training=False, scoring=scoring)
        return {"score": tf.sigmoid(logits), "logit": logits}

    def rank_one(**inputs):
        return rank(inputs, tf.zeros(tf.shape(inputs[model.item_features[0]])[:1], tf.int32))

    def rank_requests(**inputs):
        return rank(inputs, inputs[REQUEST_INDEX])

    def of_users(rows):
        return {name: tensor_spec(spec[name], rows) for name in model.request_features} | window_specs(
            spec, windows, rows
        )

    items = {name: tensor_spec(spec[name], None) for name in model.item_features}
    id_type = tf.string if pa.types.is_string(item_ids.type) else tf.int64
    one = {f.name: tensor_spec(f, 1) for f in spec.of_scope("request")} | window_specs(spec, windows, 1)
    one |= {f.name: tensor_spec(f, None) for f in spec.of_scope("candidate")}
    many = {f.name: tensor_spec(f, None) for f in spec.features} | window_specs(spec, windows, None)
    many[REQUEST_INDEX] = tf.TensorSpec([None], tf.int32, name=REQUEST_INDEX)
    return module, {
        USER_INTERESTS: traced(user_interests, of_users(None)),
        ITEM_EMBEDDING: traced(item_embedding, items),
        COARSE_RANK: traced(coarse_rank, {"item_id": tf.TensorSpec([None], id_type, name="item_id"), **of_users(1)}),
        SERVING_DEFAULT: traced(rank_one, one),
        RANK_REQUESTS: traced(rank_requests, many),
    }

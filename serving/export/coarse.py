"""A trained coarse ranker as a SavedModel of raw values: interests once a request, stored item vectors, look-ups.

docs/models/hcn.md describes the signatures.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from features import storage
from features.arrow import one_chunk
from features.encoding.feature_encoding import FeatureEncoding
from features.spec import FeatureSpec
from serving.export.item_embeddings import ITEM_EMBEDDINGS_FILE
from serving.export.publish import publish_model
from serving.export.warmup import (
    check_rows,
    item_requests,
    one_candidate,
    prediction_logs,
    slate_requests,
)
from serving.requests.tensors import candidate_counts, flatten_candidates, item_tensor, to_slates
from serving.saved.signature_specs import (
    COARSE_RANK,
    ITEM_EMBEDDING,
    LONG_HISTORY_USED,
    MAX_REQUESTS,
    NUM_CANDIDATES,
    SERVING_DEFAULT,
    USER_INTERESTS,
    HistoryInputs,
    check_spec,
)
from serving.validation.trained_answers import TRAINED_LOGIT, trained_answers

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

    All inputs and outputs of a signature share the first dimension.

    - `user_interests`: raw request features `[R]` and both windows (`short_<feature>` `[R, S]`, `short_length` `[R]`,
      `long_<feature>` `[R, L]`, `long_length` `[R]`) → `interests` `[R, K, d]` and `valid` `[R, K]`.
    - `item_embedding`: raw features of `items`, `[n]` → `embedding` `[n, d]`, also of items that are not stored.
    - `coarse_rank`: the inputs of `user_interests`, `item_id` `[R, N]` and `num_candidates` `[R]` → `score` `[R, N]`
      (probability) from the stored vectors and `known` `[R, N]`; items that are not stored, and padding, score -1,
      below all others; `long_history_used` `[R]`.
    - `serving_default`: inputs and outputs of a fine ranker's, so that evaluators take either; so is the joint graph
      `rank_requests` beside it.

    Its long history is the behaviours themselves, `[R, L]`: interests are extracted from them, all at once, and no sum
    of them that could be stored is enough.

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
      ExportError: if TensorFlow Serving could not run the graph (`serving.export.graph_check`).
    """
    spec = encoding.spec
    check_spec(spec)
    if warmup_rows is not None:
        check_rows(warmup_rows)
    embeddings = model.embed_corpus(corpus)
    history = HistoryInputs.of_windows(model.history_features, spec)
    return publish_model(
        directory,
        model,
        spec,
        lambda assets: _coarse_module(model, encoding, assets, corpus.item_ids, embeddings, history, scoring),
        history=history,
        warmup=None if warmup_rows is None else lambda inputs: _warmup_logs(spec, warmup_rows, history, model, inputs),
        answers=None
        if warmup_rows is None
        else lambda: trained_answers(
            encoding, warmup_rows, lambda batch: {TRAINED_LOGIT: model(batch, training=False, scoring=scoring)}
        ),
        item_embeddings=(corpus.item_ids, {ITEM_EMBEDDINGS_FILE: embeddings}),
        overwrite=overwrite,
    )


def _warmup_logs(spec: FeatureSpec, rows: pa.Table, history: HistoryInputs, model, inputs) -> list:
    """The smallest and the largest usual request of each signature."""
    several = rows.slice(0, MAX_REQUESTS)
    slates = slate_requests(spec, rows, inputs[SERVING_DEFAULT], history)
    listed = [tensors | _listed_items(part) for tensors, part in zip(slates, (rows.slice(0, 1), several), strict=True)]
    requests = {
        SERVING_DEFAULT: slates,
        USER_INTERESTS: slates,
        COARSE_RANK: [one_candidate(listed[0], ["item_id"]), listed[1]],
        ITEM_EMBEDDING: item_requests(spec, rows, model.item_features),
    }
    return prediction_logs(spec.name, requests, inputs)


def _listed_items(rows: pa.Table) -> dict[str, np.ndarray]:
    """The rows' candidates as items of `coarse_rank`."""
    counts = candidate_counts(rows)
    return to_slates(
        {"item_id": item_tensor(flatten_candidates(one_chunk(rows["item_id"]), counts, "item_id"))}, counts
    )


def _coarse_module(
    model, encoding: FeatureEncoding, assets: str, item_ids: pa.Array, embeddings, history: HistoryInputs, scoring
):
    """Returns the module that owns tables and item vectors, and its signatures by name."""
    import tensorflow as tf

    from serving.export.input_specs import feature_specs, window_specs
    from serving.export.ranker_graphs import RankerGraphs
    from serving.export.transforms import ItemRows, traced

    spec, windows = encoding.spec, history.windows(with_table=False)
    call = lambda batch: model(batch, training=False, scoring=scoring)  # noqa: E731
    graphs = RankerGraphs(model, encoding, assets, history, call=call)
    module, signatures = graphs.build()
    encoder, module.item_rows = graphs.encoder, ItemRows(item_ids, assets)
    # A variable: constants of this size would be copied into every graph. Row 0 stands for items that are not stored.
    stored = np.concatenate([np.zeros_like(embeddings[:1]), embeddings])
    module.item_embeddings = tf.Variable(stored, trainable=False, name="item_embeddings")

    def user_interests(**inputs):
        features = encoder.encode_inputs(inputs, model.request_features)
        history = encoder.encode_windows(inputs, windows)
        interests, valid = model.user_interests({"features": features, "history": history})
        return {"interests": interests, "valid": valid}

    def item_embedding(**inputs):
        return {"embedding": model.embed_items(encoder.encode_inputs(inputs, model.item_features))}

    def coarse_rank(**inputs):
        listed = tf.range(tf.shape(inputs["item_id"])[1]) < inputs[NUM_CANDIDATES][:, tf.newaxis]
        rows = tf.where(listed, module.item_rows(inputs["item_id"]), 0)
        found = signatures[USER_INTERESTS](**{name: inputs[name] for name in users})
        logits = model.logits_of(found["interests"], found["valid"], tf.gather(module.item_embeddings, rows), scoring)
        known = rows > 0
        return {
            "score": tf.where(known, tf.sigmoid(logits), UNKNOWN_SCORE),
            "known": known,
            LONG_HISTORY_USED: inputs["long_length"] > 0,
        }

    users = feature_specs(spec, model.request_features) | window_specs(spec, windows)
    id_type = tf.string if pa.types.is_string(item_ids.type) else tf.int64
    items = {
        "item_id": tf.TensorSpec([None, None], id_type, name="item_id"),
        NUM_CANDIDATES: tf.TensorSpec([None], tf.int32, name=NUM_CANDIDATES),
    }
    signatures[USER_INTERESTS] = traced(user_interests, users)
    signatures[ITEM_EMBEDDING] = traced(item_embedding, feature_specs(spec, model.item_features))
    signatures[COARSE_RANK] = traced(coarse_rank, items | users)
    return module, signatures

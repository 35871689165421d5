"""A trained two-tower as a SavedModel that takes raw values, and its item embeddings as a table.

The index is exact: brute force over all items, in chunks, inside the graph. The signatures are described in
docs/models/two_tower.md.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pyarrow as pa

from features import storage
from features.encoding.feature_encoding import FeatureEncoding
from features.errors import InputError
from features.spec import FeatureSpec
from serving.export.item_embeddings import ANONYMOUS_EMBEDDINGS_FILE, ITEM_EMBEDDINGS_FILE
from serving.export.publish import publish_model
from serving.export.warmup import check_rows, item_requests, prediction_logs
from serving.requests.tensors import request_tensors
from serving.saved.signature_specs import (
    ANONYMOUS_EMBEDDING,
    ITEM_EMBEDDING,
    MAX_REQUESTS,
    MISSING_MARKS,
    NUM_ITEMS,
    RETRIEVE,
    SERVING_DEFAULT,
    USER_EMBEDDING,
    check_spec,
)
from serving.validation.trained_answers import TRAINED_EMBEDDING, trained_answers

_CHUNK_ITEMS = 65_536
_WARMUP_K = 1000

#: The score of no item: below all cosines.
_NO_SCORE = -2.0


def export_two_tower(
    model,
    encoding: FeatureEncoding,
    directory: storage.AnyPath,
    warmup_rows: pa.Table | None = None,
    *,
    overwrite: bool = False,
) -> str:
    """Exports a two-tower with the signatures `user_embedding`, `item_embedding` and `retrieve`.

    All inputs and outputs of a signature share the first dimension.

    - `user_embedding`, which is `serving_default` too: raw request features `[R]` (multi-valued `[R, V]`) and, if the
      model reads it, the short history (`short_<feature>` `[R, S]`, oldest first, `short_length` `[R]`) → `embedding`
      `[R, d]`.
    - `item_embedding`: raw features of `items`, `[n]` → `embedding` `[n, d]`; also of items that are not in the index.
    - `anonymous_embedding`: the same without `item_id`, of a model that reads it beside others: what is signed for
      histories, so that an item is signed alike before it has been seen.
    - `retrieve`: the inputs of `user_embedding` and `k` `[R]` int32 → `item_id` and `score` `[R, K]`, best first, K
      being the largest `k` or the number of items, and `num_items` `[R]`: what stands behind a request's own
      `min(k, items)` is no item (the missing mark, -2). A score is a cosine; of equal scores the earlier item of the
      catalogue comes first.

    The SavedModel appears whole or not at all; `item_embeddings.parquet` lies in its `assets.extra`.

    Args:
      model: a trained `models.two_tower.model.TwoTower`; its corpus is the index.
      encoding: the encoding that it was trained with.
      directory: where the SavedModel appears.
      warmup_rows: raw request rows with their windows, which a server replays before it takes traffic; None writes no
        warm-up file.
      overwrite: replace what stands at `directory`.

    Returns:
      The directory.

    Raises:
      OccupiedError: if `directory` holds something and `overwrite` is False.
      InputError: if a feature has the name of another input.
    """
    spec = encoding.spec
    check_spec(spec)
    if warmup_rows is not None:
        check_rows(warmup_rows)
    if "k" in model.request_features:
        raise InputError(f"feature `k` has the name of an input of the signature `{RETRIEVE}`: rename the feature.")
    embeddings = model.embed_corpus()
    vectors = {ITEM_EMBEDDINGS_FILE: embeddings}
    if model.reads_ids:
        vectors[ANONYMOUS_EMBEDDINGS_FILE] = model.embed_corpus(with_ids=False)
    return publish_model(
        directory,
        model,
        spec,
        lambda assets: _two_tower_module(model, encoding, assets, embeddings),
        warmup=None if warmup_rows is None else lambda inputs: _warmup_logs(spec, warmup_rows, model, inputs),
        answers=None
        if warmup_rows is None
        else lambda: trained_answers(
            encoding, warmup_rows, lambda batch: {TRAINED_EMBEDDING: model.embed_queries(batch)}
        ),
        item_embeddings=(model.corpus.item_ids, vectors),
        overwrite=overwrite,
    )


def _warmup_logs(spec: FeatureSpec, rows: pa.Table, model, inputs: Mapping[str, frozenset[str]]) -> list:
    """The smallest and the largest usual request of each signature."""
    several = rows.slice(0, MAX_REQUESTS)
    users = [
        request_tensors(spec, part, model.request_features, _windows(model)) for part in (rows.slice(0, 1), several)
    ]
    sizes = zip(users, (1, _WARMUP_K), (1, len(several)), strict=True)
    requests = {
        SERVING_DEFAULT: users,
        USER_EMBEDDING: users,
        RETRIEVE: [tensors | {"k": np.full(count, k, np.int32)} for tensors, k, count in sizes],
    }
    items = item_requests(spec, rows, model.item_features)
    requests |= {name: items for name in (ITEM_EMBEDDING, ANONYMOUS_EMBEDDING) if name in inputs}
    return prediction_logs(spec.name, requests, inputs)


def _windows(model) -> dict[str, tuple[str, ...]]:
    """The history features that it reads of each window."""
    return {"short": model.short_history.features} if model.short_history is not None else {}


def _two_tower_module(model, encoding: FeatureEncoding, assets: str, embeddings: np.ndarray):
    """Returns the module that owns tables and index, and its signatures by name."""
    import tensorflow as tf

    from serving.export.input_specs import feature_specs, window_specs
    from serving.export.transforms import RawFeatureEncoder, traced

    spec = encoding.spec
    module = tf.Module(name=f"{spec.name}_two_tower")
    encoder = module.encoder = RawFeatureEncoder(encoding, assets)
    # Variables: constants of this size would be copied into every graph.
    module.item_embeddings = tf.Variable(embeddings, trainable=False, name="item_embeddings")
    dtype = tf.string if pa.types.is_string(model.corpus.item_ids.type) else tf.int64
    ids = model.corpus.item_ids.to_numpy(zero_copy_only=False)
    module.item_ids = tf.Variable(tf.constant(ids, dtype, shape=[len(ids)]), trainable=False, name="item_ids")
    windows = _windows(model)

    def embed_users(inputs) -> tf.Tensor:
        batch = {"features": encoder.encode_inputs(inputs, model.request_features)}
        if windows:
            batch["history"] = encoder.encode_windows(inputs, windows)
        return model.embed_queries(batch)

    def user_embedding(**inputs):
        return {"embedding": embed_users(inputs)}

    def item_embedding(**inputs):
        return {"embedding": model.embed_items(encoder.encode_inputs(inputs, model.item_features))}

    def anonymous_embedding(**inputs):
        return {"embedding": model.embed_anonymous(encoder.encode_inputs(inputs, nameless))}

    def retrieve(**inputs):
        count = tf.clip_by_value(inputs["k"], 0, tf.shape(module.item_embeddings)[0])
        scores, rows = chunked_top_k(embed_users(inputs), module.item_embeddings, tf.reduce_max(count))
        found = tf.range(tf.shape(rows)[1]) < count[:, tf.newaxis]
        return {
            "item_id": tf.where(found, tf.gather(module.item_ids, rows), tf.constant(MISSING_MARKS[dtype.name], dtype)),
            "score": tf.where(found, scores, _NO_SCORE),
            NUM_ITEMS: count,
        }

    nameless = [name for name in model.item_features if name != "item_id"]
    users = feature_specs(spec, model.request_features) | window_specs(spec, windows)
    signatures = {
        SERVING_DEFAULT: traced(user_embedding, users),
        ITEM_EMBEDDING: traced(item_embedding, feature_specs(spec, model.item_features)),
        RETRIEVE: traced(retrieve, {"k": tf.TensorSpec([None], tf.int32, name="k"), **users}),
    }
    signatures[USER_EMBEDDING] = signatures[SERVING_DEFAULT]
    if model.reads_ids:
        signatures[ANONYMOUS_EMBEDDING] = traced(anonymous_embedding, feature_specs(spec, nameless))
    return module, signatures


def chunked_top_k(queries, items, k):
    """Exact top k by inner product, chunk by chunk: memory goes with the chunk, not with the corpus.

    Args:
      queries: [B, d] float32.
      items: [n, d] float32, tensor or variable.
      k: scalar int32, not negative; more than n gives n.

    Returns:
      Scores [B, min(k, n)], best first, and indices int32; of equal scores the lower index comes first.
    """
    import tensorflow as tf

    size = tf.shape(items)[0]
    k = tf.minimum(k, size)

    def add_chunk(start, best, rows):
        stop = tf.minimum(start + _CHUNK_ITEMS, size)
        scores = tf.matmul(queries, items[start:stop], transpose_b=True)
        # top_k keeps the lower place among equals: what was found before stands first.
        best = tf.concat([best, scores], axis=1)
        rows = tf.concat([rows, tf.broadcast_to(tf.range(start, stop), tf.shape(scores))], axis=1)
        best, places = tf.math.top_k(best, tf.minimum(k, tf.shape(best)[1]))
        return stop, best, tf.gather(rows, places, batch_dims=1)

    batch = tf.shape(queries)[0]
    nothing = (tf.constant(0), tf.zeros([batch, 0]), tf.zeros([batch, 0], tf.int32))
    shapes = (tf.TensorShape([]), tf.TensorShape([None, None]), tf.TensorShape([None, None]))
    _, best, rows = tf.while_loop(lambda start, *_: start < size, add_chunk, nothing, shape_invariants=shapes)
    return best, rows

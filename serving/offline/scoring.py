"""Scores of a SavedModel over a split of raw examples: what the evaluator reads."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from evaluation.config import SIGNED_ITEM
from features import arrow, storage
from features.config import nearest
from features.errors import InputError
from features.examples.shards import list_shards, request_batches
from features.histories.windows import attach_histories, read_behaviors
from features.items.catalogue import item_rows
from serving.requests.tensors import candidate_counts, flatten_candidates, tensors_from_table
from serving.saved.ranker import SavedRanker
from serving.saved.signature_specs import RANK_REQUESTS, REQUEST_INDEX

_REQUEST_COLUMNS = ("request_id", "user_id", "timestamp", "history_end")
_CANDIDATE_COLUMNS = ("item_id", "position")
_COLUMN_ORDER = ("request_id", "user_id", "item_id", "timestamp", "position", "label", "score", "history_end")


def score_examples(
    saved_model_dir: storage.AnyPath,
    raw_examples_dir: storage.AnyPath,
    split: str,
    slice_features: Sequence[str] = (),
    *,
    behaviors_dir: storage.AnyPath | None = None,
    batch_requests: int = 1024,
) -> pa.Table:
    """Scores every candidate of a split through the joint graph `rank_requests`.

    Args:
      saved_model_dir: a SavedModel, or a base directory of versions.
      raw_examples_dir: raw examples (docs/reference/data_formats.md), with `Split-<split>/requests-*.parquet`.
      split: name of the split, for example `eval`.
      slice_features: features whose raw values are wanted beside the scores.
      behaviors_dir: the raw behaviour log, needed by rankers that take histories.
      batch_requests: requests that are scored at a time.

    Returns:
      One row a candidate, in the order of the files: `request_id`, `user_id`, `item_id`, `timestamp`, `position`,
      `label` float32, `score` float32 (probability), `history_end`, and the slice features; of a ranker that looks
      item signatures up also `signed_item`, `signed` or `unsigned`.

    Raises:
      FileNotFoundError: if there is no model, no such split or no behaviours of a shard.
      UnscorableError: if a column that the ranker reads is missing, or has another form.
      ValueError: if a slice feature is unknown, or the ranker takes histories and there is no `behaviors_dir`.
    """
    if batch_requests < 1:
        raise ValueError(f"`batch_requests` must be positive. Received: `batch_requests`={batch_requests}.")
    ranker = SavedRanker(saved_model_dir)
    known = [feature.name for feature in ranker.spec.features]
    for name in slice_features:
        if name not in known:
            raise InputError(f"slice feature `{name}` is not a feature of the model.{nearest(name, known)}")
    if ranker.history is not None and behaviors_dir is None:
        raise InputError(f"`behaviors_dir` is needed: the ranker in {ranker.directory} takes behaviour histories.")
    tables = []
    columns = [*_REQUEST_COLUMNS, *_CANDIDATE_COLUMNS, ranker.spec.label]
    for path in list_shards(raw_examples_dir, split):
        history = ranker.history and ranker.spec.history
        behaviors = read_behaviors(behaviors_dir, path, history) if history else None
        wanted = [*columns, "user_index"] if history else columns
        for batch in request_batches(path, wanted, ranker.spec.features, batch_requests):
            if history:
                batch = attach_histories(batch, behaviors, history)
            tables.append(_scored(ranker, batch, slice_features))
    return pa.concat_tables(tables)


def _scored(ranker: SavedRanker, batch: pa.Table, slice_features: Sequence[str]) -> pa.Table:
    counts = candidate_counts(batch)
    tensors = tensors_from_table(ranker.spec, batch, ranker.history, ranker.inputs(RANK_REQUESTS))
    scores = ranker.run(RANK_REQUESTS, tensors)["score"] if counts.sum() else np.zeros(0, np.float32)
    of_request = pa.array(tensors[REQUEST_INDEX])

    def per_candidate(name: str, in_request: bool) -> pa.Array:
        column = arrow.one_chunk(batch.column(name))
        return column.take(of_request) if in_request else flatten_candidates(column, counts, name)

    columns = {name: per_candidate(name, True) for name in _REQUEST_COLUMNS}
    columns |= {name: per_candidate(name, False) for name in _CANDIDATE_COLUMNS}
    columns["label"] = per_candidate(ranker.spec.label, False).cast(pa.float32())
    columns["score"] = pa.array(scores, pa.float32())
    ordered = {name: columns[name] for name in _COLUMN_ORDER}
    if ranker.signed_items is not None:
        rows = item_rows(ranker.signed_items, columns["item_id"].cast(ranker.signed_items.type))
        ordered[SIGNED_ITEM] = pa.array(np.where(rows > 0, "signed", "unsigned"))
    for name in slice_features:
        if name not in ordered:
            ordered[name] = per_candidate(name, ranker.spec[name].scope == "request")
    return pa.table(ordered)

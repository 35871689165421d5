"""Encoded Parquet shards to flat request batches.

Requests are read by shard, shuffled by shard and within a buffer of several shards, and cut into batches of about
`batch_size` candidates at request boundaries. Everything is NumPy on Arrow buffers: a buffer is permuted once by
vectorised gathers and then sliced, so a batch costs a handful of views.

The order depends only on `seed` and `epoch`: a resumed training sees the batches that it would have seen.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import tensorflow as tf

from features import storage
from features.arrow import list_splits, one_chunk, open_parquet, read_parquet, to_numpy
from features.encoding import columns
from features.encoding.columns import BATCH_LABEL, HISTORY_END, POSITION, TIMESTAMP, USER_INDEX, label_column
from features.encoding.feature_encoding import FeatureEncoding
from features.errors import InputError
from features.examples.shards import BEHAVIORS_DIR, behaviors_file, list_shards
from features.examples.teacher_list_files import read_lists
from features.histories.windows import WINDOWS
from features.items.catalogue import has_catalogue
from features.spec import Feature, FeatureSpec
from features.storage import AnyPath
from models.inputs.config import InputConfig
from models.inputs.history_windows import ITEM_ROW, BehaviorShards, history_signature, ragged_windows
from models.inputs.request_arrays import Column, Lists, RequestArrays, concatenate, select, take

#: Of coarse examples: what a batch calls the columns that ordinary examples lack.
EXTRAS = {"weight": columns.WEIGHT, "source": columns.SOURCE, "teacher_logit": columns.TEACHER_LOGIT}


def make_dataset(
    examples_dir: AnyPath,
    split: str,
    encoding: FeatureEncoding,
    config: InputConfig,
    *,
    shuffle: bool = False,
    seed: int = 0,
    epoch: int = 0,
    histories: bool = False,
    long_history: bool = True,
    positives_only: bool = False,
) -> tf.data.Dataset:
    """Returns one epoch of batches (docs/reference/data_formats.md, "A batch").

    Args:
      examples_dir: encoded examples (FeatureEncoder).
      split: `train`, `eval` or `test`.
      encoding: the feature encoding; its spec names the features and the label.
      config: batch size and buffers.
      shuffle: whether to shuffle; else shards and rows come in order.
      seed: of the shuffle.
      epoch: mixed into the seed, so that each epoch has an order of its own.
      histories: whether to slice short and long histories from the behaviour log, and to give catalogue rows.
      long_history: with `histories`: whether the long window is sliced too.
      positives_only: whether to keep only candidates with a positive label (with `histories` also: that the catalogue
        holds) and their requests; `batch_size` then counts positives.

    Raises:
      NotFoundError: if the split holds no shard.
      InputError: if histories are asked for and the spec declares none, or the examples are older than the catalogue.
    """
    spec = encoding.spec
    if histories and spec.history is None:
        raise InputError(f"`histories` need a `history` in the spec. Spec `{spec.name}` has none.")
    shards = list_shards(examples_dir, split)
    item_rows = histories and _has_item_rows(examples_dir, shards[0])
    windows = (WINDOWS if long_history else WINDOWS[:1]) if histories else ()

    def batches() -> Iterator[dict]:
        rng = np.random.default_rng([seed, epoch]) if shuffle else None
        for buffer in _buffers(shards, spec, config.buffer_shards, rng, histories, item_rows, positives_only):
            yield from _cut(buffer, spec, config.batch_size, windows)

    return _dataset(batches, spec, _signature(spec, windows, extra_columns(shards[0])), config.prefetch)


def make_list_dataset(
    lists_dir: AnyPath,
    split: str,
    encoding: FeatureEncoding,
    config: InputConfig,
    *,
    shuffle: bool = False,
    seed: int = 0,
    epoch: int = 0,
) -> tf.data.Dataset:
    """Returns one epoch of teacher lists, a group a batch.

    A batch is that of the group's requests (`make_dataset(…, histories=True)`) with `list_item` [n] int32, rows of the
    catalogue from 1, and `list_logit` [B, n], the teacher's.

    Args:
      lists_dir: what `serving.offline.teacher_scoring.make_teacher_lists` wrote.
      split: `train` or `eval`.
      encoding: the feature encoding.
      config: `prefetch` alone is used: the lists say what is a batch.
      shuffle, seed, epoch: of the order of the groups.

    Raises:
      NotFoundError: if the split holds no list.
    """
    spec, lists, shards = encoding.spec, read_lists(lists_dir, split), list_shards(lists_dir, split)
    signature = _signature(spec, WINDOWS, {})
    signature |= {"list_item": tf.TensorSpec([None], tf.int32), "list_logit": tf.TensorSpec([None, None], tf.float32)}

    def batches() -> Iterator[dict]:
        order = np.random.default_rng([seed, epoch]).permutation(len(lists)) if shuffle else range(len(lists))
        (buffer,) = _buffers(shards, spec, len(shards), None, True, True, False)
        for each in (lists[i] for i in order):
            batch = _batch(take(buffer.requests, each.requests), buffer.behaviors, spec, WINDOWS)
            yield batch | {"list_item": each.item_rows, "list_logit": each.logits}

    return _dataset(batches, spec, signature, config.prefetch)


def _dataset(batches: Callable[[], Iterator[dict]], spec: FeatureSpec, signature: dict, prefetch: int):
    """A dataset of batches in NumPy arrays."""
    dataset = tf.data.Dataset.from_generator(
        lambda: (tuple(tf.nest.flatten(batch)) for batch in batches()),
        output_signature=tuple(tf.nest.flatten(signature)),
    )
    dataset = dataset.map(lambda *flat: _to_batch(tf.nest.pack_sequence_as(signature, flat), spec))
    options = tf.data.Options()
    # Nothing here is left to be tuned, and tf.data's tuner holds up the end of an iterator by up to five seconds.
    options.autotune.enabled = False
    return dataset.prefetch(prefetch).with_options(options)


def extra_columns(shard: AnyPath) -> dict[str, str]:
    """Which of `EXTRAS` a shard holds."""
    present = _column_names(shard)
    return {name: column for name, column in EXTRAS.items() if column in present}


def _column_names(shard: AnyPath) -> list[str]:
    with open_parquet(shard) as file:
        return file.schema_arrow.names


def count_positives(examples_dir: AnyPath, split: str, label: str, num_items: int) -> np.ndarray:
    """Returns how often each item of the catalogue was a positive of a split, [num_items] int64."""
    counts = np.zeros(num_items + 1, np.int64)
    for rows, labels in _candidates(examples_dir, split, columns.ITEM_ROW, label_column(label)):
        counts += np.bincount(rows[labels > 0], minlength=num_items + 1)
    return counts[1:]


def count_candidates(examples_dir: AnyPath, split: str, positive_label: str | None = None) -> int:
    """Returns the number of candidates of a split; with `positive_label` of those where this label is positive."""
    column = label_column(positive_label) if positive_label else POSITION
    total = 0
    for (values,) in _candidates(examples_dir, split, column):
        total += int(np.count_nonzero(values > 0)) if positive_label else len(values)
    return total


def _candidates(examples_dir: AnyPath, split: str, *names: str) -> Iterator[list[np.ndarray]]:
    """Reads candidate columns of a split, batch by batch."""
    for path in list_shards(examples_dir, split):
        with open_parquet(path) as file:
            for batch in file.iter_batches(columns=list(names)):
                yield [to_numpy(batch[name].flatten()) for name in names]


@dataclass(frozen=True)
class _Buffer:
    """Requests of some shards, and the behaviours that they refer to."""

    requests: RequestArrays
    behaviors: BehaviorShards | None


def _has_item_rows(examples_dir: AnyPath, shard: AnyPath) -> bool:
    """Whether the examples hold catalogue rows: not without a catalogue. Examples older than theirs are refused."""
    if columns.ITEM_ROW in _column_names(shard):
        return True
    if has_catalogue(examples_dir):
        raise InputError(
            f"{shard}: no column `{columns.ITEM_ROW}`, but there is a catalogue. Encode the examples again."
        )
    return False


def _buffers(shards, spec, buffer_shards, rng, histories, item_rows, positives_only) -> Iterator[_Buffer]:
    order = rng.permutation(len(shards)) if rng is not None else np.arange(len(shards))
    for start in range(0, len(order), buffer_shards):
        chosen = [shards[i] for i in order[start : start + buffer_shards]]
        pooled = [_read_requests(path, spec, histories, item_rows) for path in chosen]
        if positives_only:
            pooled = [select(arrays, _is_positive(arrays, spec)) for arrays in pooled]
        behaviors = None
        if histories:
            parts = [BehaviorShards.read(_behaviors_of(path), spec.history.features, item_rows) for path in chosen]
            first_user = np.cumsum([0] + [part.num_users for part in parts])
            for arrays, first in zip(pooled, first_user, strict=False):
                users = arrays.request[USER_INDEX]
                arrays.request[USER_INDEX] = np.where(users >= 0, users + first, -1)
            behaviors = BehaviorShards.concatenate(parts)
        requests = concatenate(pooled)
        if rng is not None:
            requests = take(requests, rng.permutation(len(requests)))
        yield _Buffer(requests, behaviors)


def _behaviors_of(requests: str) -> str:
    return storage.join(storage.parent(storage.parent(requests)), BEHAVIORS_DIR, behaviors_file(requests))


def _read_requests(path: str, spec: FeatureSpec, histories: bool, item_rows: bool) -> RequestArrays:
    label = label_column(spec.label)
    users = [USER_INDEX, HISTORY_END, TIMESTAMP] if histories else []
    others = [*extra_columns(path).values(), *([columns.ITEM_ROW] if item_rows else [])]
    names = [*(f.name for f in spec.features), POSITION, label, *users, *others]
    table = read_parquet(path, names)
    arrays = {name: one_chunk(table[name]) for name in names}
    position = _lists(arrays[POSITION])
    request = {f.name: _column(arrays[f.name], f) for f in spec.of_scope("request")}
    request |= {name: to_numpy(arrays[name]) for name in users}
    candidate = {f.name: _column(arrays[f.name].flatten(), f) for f in spec.of_scope("candidate")}
    candidate[POSITION] = position.values.astype(np.int32, copy=False)
    candidate[label] = to_numpy(arrays[label].flatten()).astype(np.float32, copy=False)
    candidate |= {name: to_numpy(arrays[name].flatten()) for name in others}
    return RequestArrays(position.row_splits, request, candidate)


def _is_positive(arrays: RequestArrays, spec: FeatureSpec) -> np.ndarray:
    positive = arrays.candidate[label_column(spec.label)] > 0
    item_rows = arrays.candidate.get(columns.ITEM_ROW)
    return positive if item_rows is None else positive & (item_rows > 0)


def _column(array: pa.Array, feature: Feature) -> Column:
    if feature.multi_valued:
        return _lists(array)
    return to_numpy(array).astype(np.int32 if feature.has_ids else np.float32, copy=False)


def _lists(array: pa.Array) -> Lists:
    return Lists(to_numpy(array.flatten()), list_splits(array))


def _cut(buffer: _Buffer, spec: FeatureSpec, batch_size: int, windows: tuple[str, ...]) -> Iterator[dict]:
    splits, total = buffer.requests.row_splits, len(buffer.requests)
    start = 0
    while start < total:
        stop = min(int(np.searchsorted(splits, splits[start] + batch_size)), total)
        yield _batch(buffer.requests.slice(start, stop), buffer.behaviors, spec, windows)
        start = stop


def _batch(arrays: RequestArrays, behaviors: BehaviorShards | None, spec: FeatureSpec, windows) -> dict:
    features = {}
    for feature in spec.features:
        values = (arrays.request if feature.scope == "request" else arrays.candidate)[feature.name]
        features[feature.name] = (values.values, values.row_splits) if feature.multi_valued else values
    batch = {
        "features": features,
        "request_index": np.repeat(np.arange(len(arrays), dtype=np.int32), np.diff(arrays.row_splits)),
        BATCH_LABEL: arrays.candidate[label_column(spec.label)],
        "position": arrays.candidate[POSITION],
    }
    batch |= {name: arrays.candidate[column] for name, column in EXTRAS.items() if column in arrays.candidate}
    if behaviors is not None:
        rows = arrays.candidate.get(columns.ITEM_ROW)
        batch[ITEM_ROW] = np.zeros(len(batch[BATCH_LABEL]), np.int32) if rows is None else rows
        users, ends = arrays.request[USER_INDEX], arrays.request[HISTORY_END]
        batch["history"] = behaviors.windows(users, ends, spec.history, windows, arrays.request[TIMESTAMP])
        batch["user_index"] = users.astype(np.int32)
    return batch


def _signature(spec: FeatureSpec, windows: tuple[str, ...], extras: dict[str, str]) -> dict:
    vector = lambda dtype: tf.TensorSpec([None], dtype)  # noqa: E731
    features = {}
    for feature in spec.features:
        if feature.multi_valued:
            features[feature.name] = (vector(tf.int32), vector(tf.int64))
        else:
            features[feature.name] = vector(tf.int32 if feature.has_ids else tf.float32)
    signature = {
        "features": features,
        "request_index": vector(tf.int32),
        BATCH_LABEL: vector(tf.float32),
        "position": vector(tf.int32),
    }
    signature |= {name: vector(tf.int32 if name == "source" else tf.float32) for name in extras}
    if windows:
        signature[ITEM_ROW] = vector(tf.int32)
        signature["history"] = history_signature(spec, windows)
        signature["user_index"] = vector(tf.int32)
    return signature


def _to_batch(batch: dict, spec: FeatureSpec) -> dict:
    features = dict(batch["features"])
    for feature in spec.features:
        if feature.multi_valued:
            values, row_splits = features[feature.name]
            features[feature.name] = tf.RaggedTensor.from_row_splits(values, row_splits, validate=False)
    if "history" in batch:
        batch = {**batch, "history": ragged_windows(batch["history"], spec)}
    return {**batch, "features": features}

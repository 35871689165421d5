"""From the impressions and clicks of a shard to clean, labelled impressions in the order of the output."""

from __future__ import annotations

import dataclasses
from collections import Counter

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from features.arrow import columns_of, splits_of, to_numpy
from features.ingest.checking.letters import letters_of_checked
from features.ingest.config import IngestConfig
from features.ingest.joining.clicks import Attribution, attribute_clicks
from features.ingest.joining.split import assign_splits
from features.ingest.reading.units import ReadUnit
from features.log_contract import Reason


@dataclasses.dataclass(frozen=True)
class ShardRequests:
    """R requests with n impressions, sorted by split, time and request id; impressions by position.

    Attributes:
      rows: the n impressions.
      position: [n] int32.
      labels: {name: [n] float32}.
      offsets: [R + 1] int64 of the requests in `rows`.
      splits: [R] int8, indices into `SPLITS`.
      timestamps: [R] int64, the earliest of each request's rows.
      positive: [n] bool: the spec's label is above 0.
      positive_times: [n] int64: when the positives happened.
    """

    rows: pa.RecordBatch
    position: np.ndarray
    labels: dict[str, np.ndarray]
    offsets: np.ndarray
    splits: np.ndarray
    timestamps: np.ndarray
    positive: np.ndarray
    positive_times: np.ndarray

    def first(self, name: str) -> pa.Array:
        """Returns a column's value in the first impression of each request: [R]."""
        return self.rows[name].take(pa.array(self.offsets[:-1]))


def build_requests(
    impressions: pa.RecordBatch,
    clicks: pa.RecordBatch | None,
    conflicts: pa.Array,
    config: IngestConfig,
    labels: tuple[str, ...],
    plan: dict[str, int | None],
    units: dict[str, list[ReadUnit]],
) -> tuple[ShardRequests, list[pa.RecordBatch], Counter]:
    """Removes conflicts, duplicates and immature requests, attributes clicks, assigns splits, sorts.

    Args:
      impressions: checked rows of a shard, by `_order`.
      clicks: checked clicks of the shard's requests, by `_order`; None: no click.
      conflicts: request ids that other shards hold too, under another user.
      config: of the ingestion.
      labels: label columns, the spec's label first.
      plan: of `plan_times`.
      units: of each table, by index.

    Returns:
      The requests, batches of dead letters, and the counts.
    """
    column = columns_of(impressions)
    encoded = column["request_id"].dictionary_encode()
    codes = encoded.indices.to_numpy().astype(np.int64)
    num_requests = len(encoded.dictionary)
    items = column["item_id"].dictionary_encode()
    keys = codes * len(items.dictionary) + items.indices.to_numpy()
    times = column["timestamp"].to_numpy()

    conflicted = _find_conflicts(encoded.dictionary, codes, column["user_id"], conflicts)
    dead = conflicted[codes]
    duplicate = _find_duplicates(keys, times, skip=dead)
    request_times = segment_min(codes, times, num_requests)
    mature_until = plan["mature_until"]
    young = np.zeros(num_requests, bool) if mature_until is None else request_times > mature_until
    unique = np.flatnonzero(~dead & ~duplicate)
    immature = young[codes[unique]]

    tally: Counter = Counter()
    letters = []
    if dead.any():
        letters.append(set_aside("impressions", impressions, Reason.REQUEST_CONFLICT, dead, units))
        tally["reason", "impressions", Reason.REQUEST_CONFLICT.value] += int(dead.sum())
    tally["table", "impressions", "duplicates"] = int(duplicate.sum())
    tally["table", "impressions", "immature"] = int(immature.sum())
    tally["table", "impressions", "kept"] = len(unique) - int(immature.sum())

    if config.tables.clicks is not None:
        found = _attribute(clicks, encoded, items, conflicted, keys, times, unique, immature, labels, config)
        label_values, positive_times = found.labels, found.times
        for reason, mask in found.dead.items():
            if mask.any():
                letters.append(set_aside("clicks", clicks, reason, mask, units))
                tally["reason", "clicks", reason.value] += int(mask.sum())
        for field in ("kept", "late", "duplicates", "immature"):
            tally["table", "clicks", field] = getattr(found, field)
    else:
        label_values = np.stack([column[f"l:{name}"].to_numpy() for name in labels])[:, unique]
        positive_times = times[unique]

    # What is kept, in the order of the output.
    kept = unique[~immature]
    label_values, positive_times = label_values[:, ~immature], positive_times[~immature]
    alive = np.zeros(num_requests, bool)
    alive[codes[kept]] = True
    if config.split.by == "column":
        splits = np.zeros(num_requests, np.int8)
        splits[codes[kept][::-1]] = column["_split"].to_numpy()[kept][::-1]  # The first row of a request decides.
    else:
        splits = assign_splits(config.split, plan, encoded.dictionary, request_times)
    by_id = np.empty(num_requests, np.int64)
    by_id[pc.sort_indices(encoded.dictionary).to_numpy()] = np.arange(num_requests)
    sequence = np.lexsort((by_id, request_times, splits))
    sequence = sequence[alive[sequence]]
    place = np.empty(num_requests, np.int64)
    place[sequence] = np.arange(len(sequence))
    offsets = splits_of(np.bincount(place[codes[kept]], minlength=len(sequence)))
    if "position" in column:
        order = np.lexsort((column["position"].to_numpy()[kept], place[codes[kept]]))
    else:
        order = np.argsort(place[codes[kept]], kind="stable")
    rows = impressions.take(pa.array(kept[order]))
    if "position" in column:
        position = columns_of(rows)["position"].to_numpy()
    else:
        position = (np.arange(len(kept)) - np.repeat(offsets[:-1], np.diff(offsets))).astype(np.int32)
    requests = ShardRequests(
        rows=rows,
        position=position,
        labels={name: values[order] for name, values in zip(labels, label_values, strict=True)},
        offsets=offsets,
        splits=splits[sequence],
        timestamps=request_times[sequence],
        positive=label_values[0][order] > 0,
        positive_times=positive_times[order],
    )
    return requests, letters, tally


def segment_min(segments: np.ndarray, values: np.ndarray, num_segments: int) -> np.ndarray:
    """Returns the least value of each segment: [num_segments]; every segment must occur."""
    if len(segments) and np.any(segments[1:] < segments[:-1]):
        order = np.argsort(segments, kind="stable")
        segments, values = segments[order], values[order]
    starts = np.searchsorted(segments, np.arange(num_segments))
    return np.minimum.reduceat(values, starts) if num_segments else np.zeros(0, values.dtype)


def _find_conflicts(request_ids: pa.Array, codes: np.ndarray, user_ids: pa.Array, elsewhere: pa.Array) -> np.ndarray:
    """Returns which requests have two users: [requests] bool."""
    users = user_ids.dictionary_encode().indices.to_numpy()
    # Dictionary codes count up in the order of first appearance.
    first = np.flatnonzero(np.r_[True, codes[1:] > np.maximum.accumulate(codes)[:-1]]) if len(codes) else codes
    conflicted = to_numpy(pc.is_in(request_ids, elsewhere)).copy()
    conflicted[codes[users != users[first][codes]]] = True
    return conflicted


def _find_duplicates(keys: np.ndarray, times: np.ndarray, skip: np.ndarray) -> np.ndarray:
    """Returns the rows that repeat a (request, item): [n] bool. The earliest row is the one that stays."""
    duplicate = np.zeros(len(keys), bool)
    order = np.argsort(keys, kind="stable")
    if np.any(keys[order][1:] == keys[order][:-1]):
        order = np.lexsort((times, keys))
        duplicate[order[1:]] = keys[order][1:] == keys[order][:-1]
    return duplicate & ~skip


def _attribute(
    clicks: pa.RecordBatch | None,
    encoded: pa.DictionaryArray,
    items: pa.DictionaryArray,
    conflicted: np.ndarray,
    keys: np.ndarray,
    times: np.ndarray,
    unique: np.ndarray,
    immature: np.ndarray,
    labels: tuple[str, ...],
    config: IngestConfig,
) -> Attribution:
    empty = np.zeros(0, np.int64)
    click_keys, click_times, click_labels, click_conflicts = empty, empty, empty, empty.astype(bool)
    if clicks is not None:
        column = columns_of(clicks)
        requests = pc.index_in(column["request_id"], encoded.dictionary).to_numpy().astype(np.int64)
        item_codes = pc.fill_null(pc.index_in(column["item_id"], items.dictionary), -1).to_numpy()
        click_keys = np.where(item_codes < 0, -1, requests * len(items.dictionary) + item_codes)
        click_times = column["timestamp"].to_numpy()
        click_labels = column["_label_code"].to_numpy()
        click_conflicts = conflicted[requests]
    return attribute_clicks(
        keys=keys[unique],
        times=times[unique],
        immature=immature,
        click_keys=click_keys,
        click_times=click_times,
        click_labels=click_labels,
        click_conflicts=click_conflicts,
        num_labels=len(labels),
        window_ms=round(config.attribution_window_hours * 3_600_000),
    )


_DETAILS = {
    Reason.REQUEST_CONFLICT: "the request has rows of two users.",
    Reason.UNKNOWN_IMPRESSION: "the request has no impression of this item.",
    Reason.CLICK_BEFORE_IMPRESSION: "the click is older than its impression.",
    Reason.UNKNOWN_REQUEST: "no impression has this request_id.",
}


def set_aside(
    table: str, batch: pa.RecordBatch, reason: Reason, mask: np.ndarray, units: dict[str, list[ReadUnit]]
) -> pa.RecordBatch:
    """Returns dead letters of checked rows that do not fit together; `_order` tells where they came from."""
    return letters_of_checked(table, batch, reason, _DETAILS[reason], mask, units[table])

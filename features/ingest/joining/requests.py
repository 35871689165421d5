"""From the impressions and clicks of a shard to clean, labelled impressions in the order of the output."""

from __future__ import annotations

import dataclasses
from collections import Counter

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from features.arrow import columns_of, splits_of, to_numpy
from features.ingest.config import IngestConfig, LabelConfig
from features.ingest.joining.clicks import attribute_clicks
from features.ingest.joining.end_of_log import DAY_MS
from features.ingest.joining.refused import Refused
from features.ingest.joining.repeats import count_differences, find_duplicates, groups_of, largest
from features.ingest.joining.split import assign_splits
from features.log_contract import MAX_TIMESTAMP, Reason

MAX_REQUEST_MS = 2 * DAY_MS
"""A request whose rows lie further apart is two requests under one id."""


@dataclasses.dataclass(frozen=True)
class ShardRequests:
    """R requests with n impressions, sorted by split, time and request id; impressions by position.

    Attributes:
      rows: the n impressions.
      position: [n] int32.
      labels: {name: [n] float32}.
      values: {name of the column: [n] float64}: how much a label's click was worth.
      offsets: [R + 1] int64 of the requests in `rows`.
      splits: [R] int8, indices into `SPLITS`.
      timestamps: [R] int64, the earliest of each request's rows.
      positive: [n] bool: the spec's label is above 0.
      positive_times: [n] int64: when the positives happened.
    """

    rows: pa.RecordBatch
    position: np.ndarray
    labels: dict[str, np.ndarray]
    values: dict[str, pa.Array]
    offsets: np.ndarray
    splits: np.ndarray
    timestamps: np.ndarray
    positive: np.ndarray
    positive_times: np.ndarray

    def first(self, name: str) -> pa.Array:
        """Returns a column's value in the first impression of each request: [R]."""
        return self.rows[name].take(pa.array(self.offsets[:-1]))


@dataclasses.dataclass(frozen=True)
class _Labelled:
    """Of n impressions: [L, n] float32 labels, [n] values by column, [n] int64 times of the spec's label."""

    labels: np.ndarray
    values: dict[str, pa.Array]
    times: np.ndarray

    def take(self, rows: np.ndarray) -> _Labelled:
        index = pa.array(rows)
        values = {name: column.take(index) for name, column in self.values.items()}
        return _Labelled(self.labels[:, rows], values, self.times[rows])


class ShardJoin:
    """Removes what does not fit together, joins clicks, assigns splits, sorts; of one shard.

    Args:
      config: of the ingestion.
      labels: the spec's label first.
      plan: of `plan_times`.
      refused: gets the dead letters and counts.
    """

    def __init__(
        self,
        config: IngestConfig,
        labels: tuple[LabelConfig, ...],
        plan: dict[str, int | None],
        refused: Refused,
    ):
        self._config = config
        self._labels = labels
        self._plan = plan
        self._refused = refused
        self._tally: Counter = refused.tally

    def build(self, impressions: pa.RecordBatch, clicks: pa.RecordBatch | None, conflicts: pa.Array) -> ShardRequests:
        """Returns the requests.

        Args:
          impressions: checked rows of a shard, by `_order`.
          clicks: checked clicks of the shard's requests, by `_order`; None: no click.
          conflicts: request ids that other shards hold too, under another user.
        """
        impressions = self._until_the_end(impressions)
        earlier = self._refused.earlier("impressions", impressions)
        column = columns_of(impressions)
        encoded = column["request_id"].dictionary_encode()
        codes = encoded.indices.to_numpy().astype(np.int64)
        num_requests = len(encoded.dictionary)
        items = column["item_id"].dictionary_encode()
        keys = codes * len(items.dictionary) + items.indices.to_numpy()
        times = column["timestamp"].to_numpy()

        dead = self._conflicts(impressions, encoded.dictionary, codes, times, conflicts)
        dead |= self._without_position(impressions, codes, dead)
        duplicate = find_duplicates(keys, times, skip=dead)
        # Of a request without a row that stays, the time has no meaning.
        request_times = segment_min(codes, np.where(dead, MAX_TIMESTAMP, times), num_requests)
        mature_until = self._plan["mature_until"]
        young = np.zeros(num_requests, bool) if mature_until is None else request_times > mature_until
        over = self._plan.get("settled_until")
        old = np.zeros(num_requests, bool) if over is None else request_times <= over
        unique, repeats = np.flatnonzero(~dead & ~duplicate), np.flatnonzero(duplicate)
        immature, settled = young[codes[unique]], old[codes[unique]]
        self._account(earlier, unique, repeats, immature, settled)
        if len(repeats):
            told = repeats[~earlier[repeats]]
            differences = count_differences(column, told, unique[groups_of(keys, unique, told)])
            for field, count in zip(("merged", "differing"), differences, strict=True):
                self._tally["table", "impressions", field] += count

        if self._config.tables.clicks is not None:
            left = (immature, settled)
            labelled = self._attribute(clicks, encoded.dictionary, items.dictionary, keys, times, unique, left)
        else:
            labelled = self._logged(column, keys, times, unique, repeats)

        kept = unique[~immature & ~settled]
        alive = np.zeros(num_requests, bool)
        alive[codes[kept]] = True
        splits = self._splits(column, codes, kept, encoded.dictionary, request_times)
        sequence = np.lexsort((_ranks(encoded.dictionary), request_times, splits))
        sequence = sequence[alive[sequence]]
        place = np.empty(num_requests, np.int64)
        place[sequence] = np.arange(len(sequence))
        offsets = splits_of(np.bincount(place[codes[kept]], minlength=len(sequence)))
        position, order = _in_position(column.get("position"), kept, place[codes[kept]], offsets)
        labelled = labelled.take(np.flatnonzero(~immature & ~settled)[order])
        names = [label.name for label in self._labels]
        return ShardRequests(
            rows=impressions.take(pa.array(kept[order])),
            position=position,
            labels=dict(zip(names, labelled.labels, strict=True)),
            values=labelled.values,
            offsets=offsets,
            splits=splits[sequence],
            timestamps=request_times[sequence],
            positive=labelled.labels[0] > 0,
            positive_times=labelled.times,
        )

    def _account(
        self, earlier: np.ndarray, unique: np.ndarray, repeats: np.ndarray, immature: np.ndarray, settled: np.ndarray
    ) -> None:
        """Counts the impressions that are no dead letters; of rows of earlier days, what this span decides of them.

        Args:
          earlier: [n] bool: rows of days before the span.
          unique, repeats: rows that stay, and that repeat one of these.
          immature, settled: [len(unique)] bool.
        """
        before, kept = earlier[unique], ~immature & ~settled
        for field, number in {
            "duplicates": (~earlier[repeats]).sum(),
            "immature": immature.sum(),
            "held_before": (immature & before).sum(),
            "late": (settled & ~before).sum(),
            "kept": kept.sum(),
            "carried_in": (kept & before).sum(),
            "earlier": earlier[repeats].sum() + (settled & before).sum(),
        }.items():
            self._tally["table", "impressions", field] += int(number)

    def _until_the_end(self, impressions: pa.RecordBatch) -> pa.RecordBatch:
        end = self._plan["end_of_log"]
        ends = self._refused.ends("impressions", impressions, MAX_TIMESTAMP if end is None else end)
        future = columns_of(impressions)["timestamp"].to_numpy() > ends
        if not future.any():
            return impressions
        self._refused.add_future("impressions", impressions, future, end)
        return impressions.filter(pa.array(~future))

    def _conflicts(
        self, impressions: pa.RecordBatch, request_ids: pa.Array, codes: np.ndarray, times: np.ndarray, told: pa.Array
    ) -> np.ndarray:
        """Returns the rows of requests that have two users, or rows too far apart: [n] bool."""
        users = columns_of(impressions)["user_id"].dictionary_encode().indices.to_numpy()
        # Dictionary codes count up in the order of first appearance.
        first = np.flatnonzero(np.r_[True, codes[1:] > np.maximum.accumulate(codes)[:-1]]) if len(codes) else codes
        two = to_numpy(pc.is_in(request_ids, told)).copy()
        two[codes[users != users[first][codes]]] = True
        earliest, latest = segment_min(codes, times, len(two)), -segment_min(codes, -times, len(two))
        apart = latest - earliest > MAX_REQUEST_MS
        self._refused.add_conflicts("impressions", impressions, two[codes], apart[codes])
        return (two | apart)[codes]

    def _without_position(self, impressions: pa.RecordBatch, codes: np.ndarray, dead: np.ndarray) -> np.ndarray:
        """Returns the rows that lack a position where others of their request have one: [n] bool."""
        position = columns_of(impressions).get("position")
        if position is None or not position.null_count:
            return np.zeros(len(codes), bool)
        lacks = to_numpy(position.is_null()) & ~dead
        has = np.zeros(int(codes.max()) + 1, bool)
        has[codes[~lacks & ~dead]] = True
        bad = lacks & has[codes]
        self._refused.add("impressions", impressions, Reason.BAD_POSITION, bad)
        return bad

    def _attribute(
        self,
        clicks: pa.RecordBatch | None,
        request_ids: pa.Array,
        item_ids: pa.Array,
        keys: np.ndarray,
        times: np.ndarray,
        unique: np.ndarray,
        left: tuple[np.ndarray, np.ndarray],
    ) -> _Labelled:
        """Labels from the clicks. `left`: which of the unique rows are immature, and settled by an earlier span."""
        named = {label.name: label.value_name for label in self._labels if label.value_name}
        if clicks is None:
            labels = np.zeros((len(self._labels), len(unique)), np.float32)
            values = {name: pa.nulls(len(unique), pa.float64()) for name in named.values()}
            return _Labelled(labels, values, np.zeros(len(unique), np.int64))
        column = columns_of(clicks)
        requests = pc.fill_null(pc.index_in(column["request_id"], request_ids), -1).to_numpy().astype(np.int64)
        item_codes = pc.fill_null(pc.index_in(column["item_id"], item_ids), -1).to_numpy()
        click_times = column["timestamp"].to_numpy()
        found = attribute_clicks(
            keys=keys[unique],
            times=times[unique],
            immature=left[0],
            settled=left[1],
            click_keys=np.where((item_codes < 0) | (requests < 0), -1, requests * len(item_ids) + item_codes),
            click_times=click_times,
            click_labels=column["_label_code"].to_numpy(),
            windows=np.array([self._config.window_ms(label) for label in self._labels]),
        )
        for reason, mask in found.dead.items():
            self._refused.add("clicks", clicks, reason, mask)
        earlier = self._refused.earlier("clicks", clicks)
        gone = {"late": found.late | found.settled, "duplicates": found.duplicates, "immature": found.immature}
        for field, mask in gone.items():
            self._tally["table", "clicks", field] += int((mask & ~earlier).sum())
            self._tally["table", "clicks", "earlier"] += int((mask & earlier).sum())
        self._tally["table", "clicks", "kept"] += int(found.kept.sum())
        self._tally["table", "clicks", "carried_in"] += int((found.kept & earlier).sum())
        values = {}
        for code, label in enumerate(self._labels):
            if label.name in named:
                counted = pa.array(found.counted[code], mask=found.counted[code] < 0)
                values[named[label.name]] = column[f"v:{label.name}"].take(counted)
        counts = found.counted >= 0
        return _Labelled(counts.astype(np.float32), values, np.where(counts[0], click_times[found.counted[0]], 0))

    def _logged(
        self,
        column: dict[str, pa.Array],
        keys: np.ndarray,
        times: np.ndarray,
        unique: np.ndarray,
        repeats: np.ndarray,
    ) -> _Labelled:
        """Labels that stand in the impressions: the largest of a row and of those that repeat it."""
        labels, values = [], {}
        for label in self._labels:
            logged = column[f"l:{label.name}"].to_numpy()
            rows = largest(logged, keys, times, unique, repeats)
            labels.append(logged[rows])
            if label.value_name:
                values[label.value_name] = column[f"v:{label.name}"].take(pa.array(rows))
        return _Labelled(np.stack(labels), values, times[unique])

    def _splits(
        self,
        column: dict[str, pa.Array],
        codes: np.ndarray,
        kept: np.ndarray,
        request_ids: pa.Array,
        request_times: np.ndarray,
    ) -> np.ndarray:
        if self._config.split.by != "column":
            return assign_splits(self._config.split, self._plan, request_ids, request_times)
        splits = np.zeros(len(request_ids), np.int8)
        splits[codes[kept][::-1]] = column["_split"].to_numpy()[kept][::-1]  # The first row of a request decides.
        return splits


def segment_min(segments: np.ndarray, values: np.ndarray, num_segments: int) -> np.ndarray:
    """Returns the least value of each segment: [num_segments]; every segment must occur."""
    if len(segments) and np.any(segments[1:] < segments[:-1]):
        order = np.argsort(segments, kind="stable")
        segments, values = segments[order], values[order]
    starts = np.searchsorted(segments, np.arange(num_segments))
    return np.minimum.reduceat(values, starts) if num_segments else np.zeros(0, values.dtype)


def _ranks(ids: pa.Array) -> np.ndarray:
    """Returns the rank of each of the distinct ids: [n] int64."""
    ranks = np.empty(len(ids), np.int64)
    ranks[pc.sort_indices(ids).to_numpy()] = np.arange(len(ids))
    return ranks


def _in_position(
    logged: pa.Array | None, kept: np.ndarray, place: np.ndarray, offsets: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the position of each row, [n] int32, and the order of rows by request and position.

    Args:
      logged: of all rows; None: no row has one. A request has them in all its rows or in none.
      kept: [n] the rows.
      place: [n] the request of each.
      offsets: [R + 1] where each request begins and ends in the order.
    """
    if logged is None or logged.null_count == len(logged):
        order = np.argsort(place, kind="stable")
        return (np.arange(len(kept)) - np.repeat(offsets[:-1], np.diff(offsets))).astype(np.int32), order
    given = to_numpy(logged.is_valid())[kept]
    position = to_numpy(logged.fill_null(0))[kept]
    order = np.lexsort((position, place))
    rank = np.arange(len(kept)) - np.repeat(offsets[:-1], np.diff(offsets))
    return np.where(given[order], position[order], rank).astype(np.int32), order

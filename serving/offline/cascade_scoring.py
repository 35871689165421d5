"""Held-out requests through every stage of a cascade, and by the fine ranker over the whole catalogue.

What `evaluation/cascade/scores.py` reads. The whole catalogue is turned into tensors once, in chunks that stay in
cache; a request then adds its own part to each chunk. Long histories are added up from each request's own window, as
they were at its time: the tables of a BSE store are of today, and would tell the ranker what the user did later.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from evaluation.cascade.metrics import dcg, sigmoid
from features import arrow, storage
from features.examples.shards import draw_requests, list_shards
from features.histories.windows import attach_histories, read_behaviors
from serving.cascade import COARSE, FINE, RETRIEVE, Cascade, best_first
from serving.offline.in_order import in_order
from serving.ranker import Ranker
from serving.requests.item_catalogue import ItemCatalogue

_CHUNK_ITEMS = 8192


class FineOverCatalogue:
    """The fine ranker over all items: the ideal that a cascade is measured against.

    Args:
      ranker: the fine ranker.
      catalogue: the items, with what the ranker takes of them.
    """

    def __init__(self, ranker: Ranker, catalogue: ItemCatalogue):
        import tensorflow as tf

        self._ranker = ranker
        starts = range(0, len(catalogue), _CHUNK_ITEMS)
        chunks = (catalogue.tensors(slice(start, start + _CHUNK_ITEMS)) for start in starts)
        self._chunks = [{name: tf.constant(values) for name, values in chunk.items()} for chunk in chunks]

    def logits(self, row: pa.Table) -> np.ndarray:
        """Logits [n] float32 of all items for one raw request row, in the catalogue's order."""
        request = self._ranker.request_tensors(row)
        return np.concatenate([self._ranker.score_tensors(request | chunk)["logit"] for chunk in self._chunks])


def sample_requests(
    examples_dir: storage.AnyPath,
    behaviors_dir: storage.AnyPath,
    split: str,
    cascade: Cascade,
    count: int,
    seed: int = 0,
) -> list[pa.Table]:
    """Draws raw requests of a split uniformly, without replacement, with their windows; all where there are fewer.

    Returns:
      One table a shard, in the order of the files.

    Raises:
      FileNotFoundError: if the split holds no file.
    """
    history, tables = cascade.ranker.spec.history, []
    for path, rows in draw_requests(list_shards(examples_dir, split), count, seed):
        table = arrow.read_parquet(path).take(pa.array(rows))
        if history is not None:
            table = attach_histories(table, read_behaviors(behaviors_dir, path, history), history)
        tables.append(table)
    return tables


@dataclass(frozen=True)
class References:
    """What lists beside a cascade are made of.

    Attributes:
      popularity: [n] how often each item of the catalogue was clicked in train, in its order.
      draw: S, how many items of the catalogue a random retrieval finds for a request; at most n.
      seed: of that draw.
    """

    popularity: np.ndarray
    draw: int
    seed: int = 0


def score_cascade(
    cascade: Cascade,
    requests: list[pa.Table],
    width: int,
    top_k: int,
    progress: Callable[[int], None] | None = None,
    references: References | None = None,
) -> pa.Table:
    """Scores requests by every stage, and the whole catalogue by the fine ranker.

    Args:
      cascade: its stages; its n₁ and n₂ are not used.
      requests: raw requests with their windows (`sample_requests`).
      width: W, how many retrieved items are scored by the coarse and the fine ranker.
      top_k: of the ideal list.
      progress: called with the number of requests done.
      references: lists that no stage made, to be scored beside; None: none are.

    Returns:
      One row a request: `request_id`, `user_id`, `retrieved` [W] (catalogue rows, -1 where fewer were found), `coarse`
      [W] (only where there is a coarse ranker), `fine` [W] logits, `ideal` [K] and `ideal_logit` [K], the impressions'
      `item`, `label` and `logit` (without those of items that the catalogue does not hold: `unknown_items` counts
      them). With `references` also the fields of `evaluation.cascade.scores.ReferenceScores`.
    """
    fine, label = FineOverCatalogue(cascade.ranker, cascade.catalogue), cascade.ranker.spec.label
    width, top_k = min(width, len(cascade.catalogue)), min(top_k, len(cascade.catalogue))
    beside = None if references is None else _ReferenceLists(cascade, references, top_k)
    rows: list[pa.Table] = [row for table in requests for row in single_rows(table)]
    records: list[dict] = []
    for row, scored in zip(rows, in_order(_StageScorer(cascade, fine, width), rows), strict=True):
        logged_ids, labels = (row[name].combine_chunks()[0].values for name in ("item_id", label))
        ideal = best_rows(scored.logits, top_k)
        logged = cascade.catalogue.rows(logged_ids)
        known = logged >= 0
        logged = logged[known]
        record = {
            "request_id": row["request_id"][0].as_py(),
            "user_id": row["user_id"][0].as_py(),
            "retrieved": _padded(scored.retrieved, width, -1, np.int32),
            "fine": _padded(scored.logits[scored.retrieved], width, -np.inf, np.float32),
            "ideal": ideal.astype(np.int32),
            "ideal_logit": scored.logits[ideal],
            "item": logged.astype(np.int32),
            "label": labels.to_numpy(zero_copy_only=False)[known] > 0,
            "logit": scored.logits[logged],
            "unknown_items": int((~known).sum()),
        }
        if scored.coarse is not None:
            record["coarse"] = _padded(scored.coarse, width, -np.inf, np.float32)
        if beside is not None:
            record |= beside.add(scored.logits, ideal, logged)
        records.append(record)
        if progress is not None:
            progress(len(records))
    if not records:
        return pa.table({})
    if beside is not None:
        records = [record | more for record, more in zip(records, beside.finish(rows, records), strict=True)]
    return pa.table({name: [record[name] for record in records] for name in records[0]})


class _Scored(NamedTuple):
    """One request by every stage: logits [n] of the catalogue, rows retrieved [w], their coarse scores [w] if any."""

    logits: np.ndarray
    retrieved: np.ndarray
    coarse: np.ndarray | None


class _StageScorer:
    """Scores one raw request row by every stage; what takes the time, and is done for several at once."""

    def __init__(self, cascade: Cascade, fine: FineOverCatalogue, width: int):
        self._cascade, self._fine, self._width = cascade, fine, width

    def __call__(self, row: pa.Table) -> _Scored:
        retrieved, _ = self._cascade.retrieve(row, self._width)
        coarse = None if self._cascade.coarse is None else self._cascade.coarse_scores(row, retrieved)
        return _Scored(self._fine.logits(row), retrieved, coarse)


class _ReferenceLists:
    """Collects, request by request, what `ReferenceScores` holds."""

    def __init__(self, cascade: Cascade, references: References, top_k: int):
        size = len(cascade.catalogue)
        if references.popularity.shape != (size,):
            raise ValueError(f"`popularity` must be [{size}]. Received shape {references.popularity.shape}.")
        self._cascade, self._popularity, self._top_k = cascade, references.popularity, top_k
        self._popular = best_first(references.popularity, np.arange(size))[:top_k].astype(np.int32)
        self._draw, self._random = min(references.draw, size), np.random.default_rng(references.seed)
        self._sum = np.zeros(size)

    def add(self, logits: np.ndarray, ideal: np.ndarray, logged: np.ndarray) -> dict:
        """The fields of one request that its logits [n] of the whole catalogue suffice for."""
        probability = sigmoid(logits)
        self._sum += probability / dcg(probability[ideal][np.newaxis])[0]
        drawn = self._random.choice(len(logits), self._draw, replace=False).astype(np.int32)
        return {
            "mean_probability": float(probability.mean()),
            "random": drawn,
            "random_logit": logits[drawn],
            "popular": self._popular,
            "popular_logit": logits[self._popular],
            "popularity": self._popularity[logged].astype(np.float64),
        }

    def finish(self, rows: list[pa.Table], records: list[dict]) -> list[dict]:
        """The fields of the best single list, which is known when all requests are: its few items are scored again."""
        single = best_first(self._sum, np.arange(len(self._sum)))[: self._top_k].astype(np.int32)
        tensors = self._cascade.catalogue.tensors(single)
        return [
            {
                "single": single,
                "single_logit": self._cascade.ranker.score_items(row, tensors)["logit"],
                "single_score": self._sum[record["item"]],
            }
            for row, record in zip(rows, records, strict=True)
        ]


def measure_whole_catalogue(cascade: Cascade, requests: list[pa.Table], repeats: int = 5) -> np.ndarray:
    """Times the fine ranker over all items, one request at a time: what a cascade saves.

    Args:
      cascade: whose fine ranker and catalogue.
      requests: as of `score_cascade`.
      repeats: requests timed, after one that warms up.

    Returns:
      Seconds [repeats] of each; fewer where there are fewer requests.
    """
    fine, seconds = FineOverCatalogue(cascade.ranker, cascade.catalogue), []
    for row in [row for table in requests for row in single_rows(table)][: repeats + 1]:
        started = time.perf_counter()
        fine.logits(row)
        seconds.append(time.perf_counter() - started)
    return np.array(seconds[1:] or seconds)


def measure_stages(
    cascade: Cascade, requests: list[pa.Table], sizes: tuple[int, ...], repeats: int = 5
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Times the stages as a server would run them, one request at a time.

    Args:
      cascade: its stages.
      requests: as of `score_cascade`.
      sizes: numbers of items: found by the retrieval, scored by the coarse and by the fine ranker.
      repeats: requests timed at each size, after one that warms up.

    Returns:
      By stage, numbers of items [m] and median seconds [m].
    """
    sizes = sorted({min(size, len(cascade.catalogue)) for size in sizes})
    rows = [row for table in requests for row in single_rows(table)][: repeats + 1]
    seconds: dict[str, list[float]] = {stage: [] for stage in (RETRIEVE, COARSE, FINE)}
    for size in sizes:
        taken: dict[str, list[float]] = {stage: [] for stage in seconds}
        for row in rows:
            started = time.perf_counter()
            items, _ = cascade.retrieve(row, size)
            taken[RETRIEVE].append(time.perf_counter() - started)
            if cascade.coarse is not None:
                started = time.perf_counter()
                best_first(cascade.coarse_scores(row, items), items)
                taken[COARSE].append(time.perf_counter() - started)
            started = time.perf_counter()
            best_first(cascade.ranker.score_items(row, cascade.catalogue.tensors(items))["logit"], items)
            taken[FINE].append(time.perf_counter() - started)
        for stage, times in taken.items():
            if times:
                seconds[stage].append(float(np.median(times[1:] or times)))
    return {stage: (np.array(sizes), np.array(times)) for stage, times in seconds.items() if times}


def single_rows(table: pa.Table) -> list[pa.Table]:
    """Each row of a table as a table of its own."""
    return [table.slice(i, 1) for i in range(len(table))]


def best_rows(logits: np.ndarray, count: int) -> np.ndarray:
    """Rows of the highest logits, best first; of equal ones the earlier item."""
    bound = np.partition(logits, len(logits) - count)[len(logits) - count]
    rows = np.flatnonzero(logits >= bound)
    return rows[best_first(logits[rows], rows)[:count]]


def _padded(values: np.ndarray, width: int, pad, dtype) -> np.ndarray:
    padded = np.full(width, pad, dtype)
    padded[: len(values)] = values
    return padded

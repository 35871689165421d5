"""Which requests are kept and in which split: label maturity, cuts by time and by date, hashes.

Times are gathered in a histogram whose bins widen only when there are more than a million distinct times, so that
quantiles are exact for small logs and bounded in memory for large ones.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable
from typing import Generic, TypeVar

import apache_beam as beam
import numpy as np
import pyarrow as pa

from features.encoding.hashing import hash64
from features.ingest.config import SplitConfig
from features.ingest.joining.end_of_log import LogTimes

MAX_BINS = 1 << 20


@dataclasses.dataclass(frozen=True)
class TimeHistogram:
    """Counts of times by bins of 2^shift milliseconds.

    Attributes:
      shift: of the bins.
      bins: [K] int64, sorted: time >> shift.
      counts: [K] int64.
    """

    shift: int = 0
    bins: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(0, np.int64))
    counts: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(0, np.int64))

    @classmethod
    def of(cls, times: np.ndarray, max_bins: int = MAX_BINS) -> TimeHistogram:
        return cls(0, times.astype(np.int64), np.ones(len(times), np.int64))._compact(max_bins)

    def merge(self, other: TimeHistogram, max_bins: int = MAX_BINS) -> TimeHistogram:
        """Returns the histogram of both; the order of merges does not matter."""
        shift = max(self.shift, other.shift)
        bins = np.concatenate([self.bins >> (shift - self.shift), other.bins >> (shift - other.shift)])
        return TimeHistogram(shift, bins, np.concatenate([self.counts, other.counts]))._compact(max_bins)

    def _compact(self, max_bins: int) -> TimeHistogram:
        shift, bins, inverse = self.shift, *np.unique(self.bins, return_inverse=True)
        counts = np.bincount(inverse, weights=self.counts, minlength=len(bins)).astype(np.int64)
        while len(bins) > max_bins:
            shift, bins = shift + 1, bins >> 1
            starts = np.flatnonzero(np.r_[True, bins[1:] != bins[:-1]])
            bins, counts = bins[starts], np.add.reduceat(counts, starts)
        return TimeHistogram(shift, bins, counts)

    def until(self, time: int) -> TimeHistogram:
        """Returns the histogram of the times at or before `time`."""
        keep = self.bins <= (time >> self.shift)
        return TimeHistogram(self.shift, self.bins[keep], self.counts[keep])

    def cut(self, fraction: float) -> int | None:
        """Returns the time before which (nearly) this fraction of all times lies; None for an empty histogram."""
        total = int(self.counts.sum())
        if not total:
            return None
        below = math.ceil(total * fraction - 1e-9)
        if below >= total:
            return int((self.bins[-1] + 1) << self.shift)
        return int(self.bins[np.searchsorted(np.cumsum(self.counts), below, side="right")] << self.shift)


Times = TypeVar("Times", TimeHistogram, LogTimes)


class MergeTimes(beam.CombineFn, Generic[Times]):
    """Merges `TimeHistogram`s or `LogTimes`."""

    def __init__(self, kind: type[Times]):
        self._kind: type[Times] = kind

    def create_accumulator(self) -> Times:
        return self._kind()

    def add_input(self, accumulator: Times, element: Times) -> Times:
        return accumulator.merge(element)

    def merge_accumulators(self, accumulators: Iterable[Times]) -> Times:
        merged = self._kind()
        for accumulator in accumulators:
            merged = merged.merge(accumulator)
        return merged

    def extract_output(self, accumulator: Times) -> Times:
        return accumulator


def plan_times(
    end_of_log: int | None, requests: TimeHistogram, split: SplitConfig, window_ms: int | None
) -> dict[str, int | None]:
    """Decides the instants that all shards share.

    Args:
      end_of_log: of `LogTimes.end`, or declared; None: no valid row.
      requests: the times of all requests up to the end of the log.
      split: as configured.
      window_ms: the longest attribution window; None: labels are mature.

    Returns:
      `end_of_log`, `mature_until`, `eval_start`, `test_start` as in `IngestCounts`.
    """
    mature_until = None if window_ms is None or end_of_log is None else end_of_log - window_ms
    plan = {"end_of_log": end_of_log, "mature_until": mature_until, "eval_start": None, "test_start": None}
    if split.train_until is not None:
        plan |= {"eval_start": split.train_until, "test_start": split.eval_until}
    elif split.by == "time":
        mature = requests if mature_until is None else requests.until(mature_until)
        plan["eval_start"] = mature.cut(1 - split.eval_fraction - split.test_fraction)
        plan["test_start"] = mature.cut(1 - split.test_fraction)
    return plan


def assign_splits(
    split: SplitConfig, plan: dict[str, int | None], request_ids: pa.Array, times: np.ndarray
) -> np.ndarray:
    """Returns the split of each request by `time`, `random` or `span` (of the newest): [R] int8 into `SPLITS`."""
    if split.by == "time":
        if plan["eval_start"] is None:
            return np.zeros(len(times), np.int8)
        code = (times >= plan["eval_start"]).astype(np.int8)
        return code if plan["test_start"] is None else code + (times >= plan["test_start"]).astype(np.int8)
    uniform = _uniform(request_ids, split.seed)
    if split.by == "span":  # Of the newest span: nothing of it trains.
        judged = split.eval_fraction + split.test_fraction
        return 1 + (uniform >= split.eval_fraction / judged).astype(np.int8)
    test_from = 1 - split.test_fraction
    eval_from = test_from - split.eval_fraction
    return (uniform >= eval_from).astype(np.int8) + (uniform >= test_from).astype(np.int8)


def _uniform(request_ids: pa.Array, seed: int) -> np.ndarray:
    """Returns a number in [0, 1) for each id: its hash, stirred by the seed and mixed once more as an integer."""
    stir = np.uint64((seed * 0x9E3779B97F4A7C15) % 2**64)
    stirred = pa.array((hash64(request_ids) ^ stir).view(np.int64))
    return (hash64(stirred) >> np.uint64(11)).astype(np.float64) * 2.0**-53

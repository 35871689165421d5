"""Where a log ends: its latest impression, but for a few rows that stand far from all others.

One impression with a wrong date must not move the end: label maturity and the splits by time rest on it.
"""

from __future__ import annotations

import dataclasses

import numpy as np

DAY_MS = 86_400_000

_BIN_SHIFT = 20
"""Bins of 2^20 ms, 17.5 minutes: 30,000 for a year's log, whatever its size."""

_TAIL_SHARE = 100
_MIN_ROWS = 10
_SPAN_SHARE = 50


@dataclasses.dataclass(frozen=True)
class LogTimes:
    """Times of impressions by bins, with the earliest and the latest time of each.

    The end is found from gaps of a day and more. Such a gap never lies within a bin, and the bins keep their extremes,
    so the end is exact to the millisecond for every log; only the log's span, of which the gap may be a share, is known
    to a bin at either side.

    Attributes:
      bins: [K] int64, sorted: time >> 20.
      counts, first, last: [K] int64.
    """

    bins: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(0, np.int64))
    counts: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(0, np.int64))
    first: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(0, np.int64))
    last: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(0, np.int64))

    @classmethod
    def of(cls, times: np.ndarray) -> LogTimes:
        """Returns the bins of times, [N] int64 UTC milliseconds."""
        return cls(times >> _BIN_SHIFT, np.ones(len(times), np.int64), times, times)._compact()

    def merge(self, other: LogTimes) -> LogTimes:
        """Returns the bins of both; the order of merges does not matter."""
        pairs = zip(dataclasses.astuple(self), dataclasses.astuple(other), strict=True)
        return LogTimes(*(np.concatenate(pair) for pair in pairs))._compact()

    def _compact(self) -> LogTimes:
        if not len(self.bins):
            return self
        order = np.argsort(self.bins, kind="stable")
        bins = self.bins[order]
        starts = np.flatnonzero(np.r_[True, bins[1:] != bins[:-1]])
        return LogTimes(
            bins[starts],
            np.add.reduceat(self.counts[order], starts),
            np.minimum.reduceat(self.first[order], starts),
            np.maximum.reduceat(self.last[order], starts),
        )

    def end(self, window_ms: int) -> int | None:
        """Returns the end of the log; None for a log without impressions.

        At most one row in a hundred (none of fewer than 10 rows) is the tail that may lie beyond. From the last row
        before the tail on, the end moves to the next time as long as that is not further away than a day, the window
        and a fiftieth of the log's span (without its tails), whichever is the longest.

        Args:
          window_ms: the longest attribution window.
        """
        if not len(self.bins):
            return None
        rows = int(self.counts.sum())
        tail = max(1, rows // _TAIL_SHARE) if rows >= _MIN_ROWS else 0
        until = np.cumsum(self.counts)
        earliest, body = np.searchsorted(until, [tail, rows - 1 - tail], side="right")
        span = int(self.last[body] - self.first[earliest])
        allowed = max(DAY_MS, window_ms, span // _SPAN_SHARE)
        far = np.flatnonzero(self.first[body + 1 :] - self.last[body:-1] > allowed)
        return int(self.last[body + far[0]] if len(far) else self.last[-1])

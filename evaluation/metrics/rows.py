"""The rows that metrics are computed from, and the same rows by user or request and rising score."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from features.errors import InputError

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class ScoredRows:
    """Scored impressions as flat arrays, all of shape [N].

    Attributes:
      label: float64, 0 or 1.
      score: float64, finite; a probability where a calibration metric is asked for.
      user: int64 key of the user; equal keys mean equal users.
      request: int64 key of the request, likewise.

    Raises:
      InputError: on lengths that differ, labels other than 0 and 1, scores that are not finite.
    """

    label: Array
    score: Array
    user: Array
    request: Array

    def __post_init__(self) -> None:
        for name, dtype in (("label", np.float64), ("score", np.float64), ("user", np.int64), ("request", np.int64)):
            # A uint64 hash keeps its bits: only equality of keys matters.
            array = np.asarray(getattr(self, name))
            array = array.view(np.int64) if array.dtype == np.uint64 and dtype is np.int64 else array.astype(dtype)
            object.__setattr__(self, name, array)
            if array.shape != self.label.shape or array.ndim != 1:
                raise InputError(
                    f"`{name}` must be one array as long as `label`. Received shape {array.shape}, "
                    f"`label` {self.label.shape}."
                )
        known = (self.label == 0) | (self.label == 1)
        for name, right, what in (("label", known, "0 or 1"), ("score", np.isfinite(self.score), "finite")):
            if not right.all():
                row = int(np.argmin(right))
                raise InputError(f"`{name}` must be {what}. Received: `{name}`[{row}]={getattr(self, name)[row]}.")

    def __len__(self) -> int:
        return len(self.label)

    def take(self, rows: Array) -> ScoredRows:
        """The rows at the given indices (or of a boolean mask)."""
        return ScoredRows(self.label[rows], self.score[rows], self.user[rows], self.request[rows])

    @cached_property
    def by_score(self) -> Array:
        """Indices of the rows by rising score, [N]; sorted once, for all metrics."""
        return np.argsort(self.score, kind="stable")

    @cached_property
    def by_user(self) -> RankedGroups:
        """The rows of each user by rising score; for all metrics."""
        return rank_within_groups(self.label, self.score, self.user, self.by_score)

    @cached_property
    def by_request(self) -> RankedGroups:
        """The rows of each request by rising score; for all metrics."""
        return rank_within_groups(self.label, self.score, self.request, self.by_score)


@dataclass(frozen=True)
class RankedGroups:
    """G groups of rows, sorted by rising score, cut into R runs of equal score.

    Attributes:
      rows: [N] indices of the rows, by group and rising score.
      keys: [G] the group's key.
      sizes: [G] rows.
      positives: [G] rows with label 1.
      run_group: [R] index of the run's group, non-decreasing.
      run_sizes: [R] rows.
      run_positives: [R] rows with label 1.
      run_below: [R] rows of the group with a lower score.
    """

    rows: Array
    keys: Array
    sizes: Array
    positives: Array
    run_group: Array
    run_sizes: Array
    run_positives: Array
    run_below: Array

    @property
    def run_above(self) -> Array:
        """[R] rows of the group with a higher score: the rank, from 0, of the run's first row."""
        return self.sizes[self.run_group] - self.run_below - self.run_sizes

    def total(self, of_runs: Array) -> Array:
        """[G] sums of a number for each run [R]."""
        return np.bincount(self.run_group, of_runs, len(self.sizes))


def dense_codes(keys: Array) -> tuple[Array, int]:
    """Codes 0 … K − 1 of the keys, [N] int64, in the order of the keys, and K."""
    count = len(keys)
    lowest, highest = (int(keys.min()), int(keys.max())) if count else (0, -1)
    if lowest < 0 or highest > 4 * count + 1000:  # hashes, for example
        known, codes = np.unique(keys, return_inverse=True)
        return codes, len(known)
    present = np.bincount(keys, minlength=highest + 1) > 0
    return (np.cumsum(present) - 1)[keys], int(present.sum())


def stable_order(codes: Array, count: int) -> Array:
    """The rows by rising code, equal ones in their order, [N] int64; in linear time, sixteen bits at a time.

    Args:
      codes: [N] integers from 0.
      count: codes lie below it.
    """
    order = np.argsort((codes & 0xFFFF).astype(np.uint16), kind="stable")
    for shift in range(16, int(max(count - 1, 0)).bit_length(), 16):
        digits = (codes[order] >> shift & 0xFFFF).astype(np.uint16)
        order = order[np.argsort(digits, kind="stable")]
    return order


def rank_within_groups(label: Array, score: Array, group: Array, by_score: Array | None = None) -> RankedGroups:
    """Sorts rows by group and score.

    Args:
      label, score: [N].
      group: [N] integer keys.
      by_score: [N] the rows by rising score, where that is known.
    """
    count = len(label)
    if not count:
        return RankedGroups(*[np.empty(0, np.int64)] * 8)
    by_score = np.argsort(score, kind="stable") if by_score is None else by_score
    order = by_score[stable_order(*dense_codes(group[by_score]))]
    scores, labels, keys = score[order], label[order].astype(np.int64), group[order]
    new_group, new_run = np.ones((2, count), bool)
    new_group[1:] = keys[1:] != keys[:-1]
    new_run[1:] = new_group[1:] | (scores[1:] != scores[:-1])
    starts, run_starts = np.flatnonzero(new_group), np.flatnonzero(new_run)
    run_group = (np.cumsum(new_group) - 1)[run_starts]
    return RankedGroups(
        rows=order,
        keys=keys[starts],
        sizes=np.diff(starts, append=count),
        positives=np.add.reduceat(labels, starts),
        run_group=run_group,
        run_sizes=np.diff(run_starts, append=count),
        run_positives=np.add.reduceat(labels, run_starts),
        run_below=run_starts - starts[run_group],
    )

"""Metrics of order: AUC over all rows, within users and within requests; NDCG and reciprocal rank within requests.

Everything rests on one sort: `rank_within_groups` finds, for each group, the runs of equal scores. Rows of equal score
have no order, so every metric is its expectation over random orders of them (McSherry and Najork, Computing Information
Retrieval Performance Measures Efficiently in the Presence of Tied Scores, ECIR 2008): a constant score earns what
chance earns, whatever order the log was in. No Python runs per group.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from evaluation.metrics.pointwise import _positive
from evaluation.metrics.rows import (
    CollectedMetric,
    Metric,
    ScoredRows,
    SummedMetric,
)


@dataclass(frozen=True)
class RankedGroups:
    """G groups of rows, sorted by rising score, cut into R runs of equal score.

    Attributes:
      keys: [G] the group's key.
      sizes: [G] rows.
      positives: [G] rows with label 1.
      run_group: [R] index of the run's group, non-decreasing.
      run_sizes: [R] rows.
      run_positives: [R] rows with label 1.
      run_below: [R] rows of the group with a lower score.
    """

    keys: np.ndarray
    sizes: np.ndarray
    positives: np.ndarray
    run_group: np.ndarray
    run_sizes: np.ndarray
    run_positives: np.ndarray
    run_below: np.ndarray

    @property
    def run_above(self) -> np.ndarray:
        """[R] rows of the group with a higher score: the rank, from 0, of the run's first row."""
        return self.sizes[self.run_group] - self.run_below - self.run_sizes

    @property
    def have_both_labels(self) -> np.ndarray:
        """[G] bool."""
        return (self.positives > 0) & (self.positives < self.sizes)


def rank_within_groups(label: np.ndarray, score: np.ndarray, group: np.ndarray | None) -> RankedGroups:
    """Sorts rows by group and score. Without `group` all rows are one group. Shapes [N]; O(N log N)."""
    count = len(label)
    if not count:
        none = np.empty(0, np.int64)
        return RankedGroups(none, none, none, none, none, none, none)
    order = np.argsort(score, kind="stable") if group is None else np.lexsort((score, group))
    scores, labels = score[order], label[order].astype(np.int64)
    new_group = np.zeros(count, bool)
    if group is not None:
        keys = group[order]
        new_group[1:] = keys[1:] != keys[:-1]
    new_group[0] = True
    new_run = new_group.copy()
    new_run[1:] |= scores[1:] != scores[:-1]
    starts, run_starts = np.flatnonzero(new_group), np.flatnonzero(new_run)
    run_group = (np.cumsum(new_group) - 1)[run_starts]
    return RankedGroups(
        keys=keys[starts] if group is not None else np.zeros(1, np.int64),
        sizes=np.diff(starts, append=count),
        positives=np.add.reduceat(labels, starts),
        run_group=run_group,
        run_sizes=np.diff(run_starts, append=count),
        run_positives=np.add.reduceat(labels, run_starts),
        run_below=run_starts - starts[run_group],
    )


def group_auc(ranked: RankedGroups) -> np.ndarray:
    """AUC of each group [G] by the rank sum (Mann and Whitney); NaN where labels are all alike.

    Share of (positive, negative) pairs in which the positive scores higher; equal scores count one half.
    """
    middle = ranked.run_below + (ranked.run_sizes - 1) / 2
    rank_sum = np.bincount(ranked.run_group, ranked.run_positives * middle, len(ranked.sizes))
    positives = ranked.positives.astype(np.float64)
    pairs = positives * (ranked.sizes - positives)
    wins = rank_sum - positives * (positives - 1) / 2
    return np.divide(wins, pairs, out=np.full(len(pairs), np.nan), where=pairs > 0)


def group_ndcg(ranked: RankedGroups, k: int) -> np.ndarray:
    """NDCG@k of each group [G] with gains 0 and 1 and discount 1 / log2(1 + rank); NaN without a positive."""
    reached = np.concatenate([[0.0], np.cumsum(1 / np.log2(np.arange(k) + 2))])  # discounts of the first 0 … k ranks
    above = ranked.run_above
    discount = (reached[np.minimum(above + ranked.run_sizes, k)] - reached[np.minimum(above, k)]) / ranked.run_sizes
    gained = np.bincount(ranked.run_group, ranked.run_positives * discount, len(ranked.sizes))
    ideal = reached[np.minimum(ranked.positives, k)]
    return np.divide(gained, ideal, out=np.full(len(ideal), np.nan), where=ideal > 0)


def group_reciprocal_rank(ranked: RankedGroups) -> np.ndarray:
    """1 / rank of the first positive of each group [G]; NaN without a positive."""
    found = np.full(len(ranked.sizes), np.nan)
    with_positive = np.flatnonzero(ranked.run_positives > 0)
    # Runs rise in score: the last one written for a group is its best that holds a positive.
    best = np.zeros(len(ranked.sizes), np.int64)
    best[ranked.run_group[with_positive]] = with_positive
    groups = np.flatnonzero(ranked.positives > 0)
    run = best[groups]
    above, size, positives = ranked.run_above[run], ranked.run_sizes[run], ranked.run_positives[run]
    value, not_yet = np.zeros(len(run)), np.ones(len(run))
    active = np.arange(len(run))
    step = 0
    while len(active):  # step s: the chance that the run's row s is its first positive
        left = size[active] - step
        value[active] += not_yet[active] * positives[active] / left / (above[active] + step + 1)
        not_yet[active] *= (left - positives[active]) / left
        step += 1
        active = active[size[active] - positives[active] >= step]
    found[groups] = value
    return found


class AUC(CollectedMetric):
    """Area under the ROC curve, exact with ties. Its state keeps the rows; `BinnedAUC` is the one of fixed size."""

    def __init__(self):
        super().__init__(None)

    def result(self) -> float:
        label, score, _ = self.collected()
        return float(group_auc(rank_within_groups(label, score, None))[0]) if len(label) else np.nan


class BinnedAUC(SummedMetric):
    """AUC from counts of positives and negatives in bins of the score: fixed size, for rows that do not fit in memory.

    Pairs within a bin count one half, so the error is at most `error_bound()`: half the share of such pairs.

    Args:
      num_bins: of equal width over [0, 1]; scores outside go to the outer bins.
    """

    def __init__(self, num_bins: int = 100_000):
        super().__init__()
        self.num_bins = _positive("num_bins", num_bins)

    def _sums(self, rows: ScoredRows) -> np.ndarray:
        bins = np.clip((rows.score * self.num_bins).astype(np.int64), 0, self.num_bins - 1)
        positives = np.bincount(bins, rows.label, self.num_bins)
        return np.stack([positives, np.bincount(bins, minlength=self.num_bins) - positives])

    def merge(self, other: Metric) -> Metric:
        self._check_same(other, "num_bins")
        return super().merge(other)

    def result(self) -> float:
        if self.is_empty or not self._pairs():
            return np.nan
        positives, negatives = self.sums
        below = np.cumsum(negatives) - negatives
        return float((positives * (below + negatives / 2)).sum() / self._pairs())

    def error_bound(self) -> float:
        """The largest possible distance from the exact AUC."""
        if self.is_empty or not self._pairs():
            return np.nan
        return float((self.sums[0] * self.sums[1]).sum() / self._pairs() / 2)

    def _pairs(self) -> float:
        return float(self.sums[0].sum() * self.sums[1].sum())


class GAUC(CollectedMetric):
    """AUC within each user (or request), averaged with impressions as weights.

    Zhou et al., Deep Interest Network for Click-Through Rate Prediction, KDD 2018, equation 7. Groups whose labels are
    all alike have no AUC: they are skipped, and `skipped()` counts them.

    Args:
      group: `user` or `request`.
    """

    def __init__(self, group: str = "user"):
        super().__init__(group)

    def result(self) -> float:
        ranked = rank_within_groups(*self.collected())
        kept = ranked.have_both_labels
        return float(np.average(group_auc(ranked)[kept], weights=ranked.sizes[kept])) if kept.any() else np.nan

    def skipped(self) -> int:
        """Groups whose labels are all alike."""
        return int((~rank_within_groups(*self.collected()).have_both_labels).sum())


class NDCG(CollectedMetric):
    """Normalised discounted cumulative gain at k, averaged over requests with a positive.

    Järvelin and Kekäläinen, Cumulated Gain-based Evaluation of IR Techniques, TOIS 2002.

    Args:
      k: ranks that count.
    """

    def __init__(self, k: int = 10):
        super().__init__("request")
        self.k = _positive("k", k)

    def merge(self, other: Metric) -> Metric:
        self._check_same(other, "k")
        return super().merge(other)

    def result(self) -> float:
        return _mean_defined(group_ndcg(rank_within_groups(*self.collected()), self.k))


class MRR(CollectedMetric):
    """Mean reciprocal rank of the first positive, over requests with a positive."""

    def __init__(self):
        super().__init__("request")

    def result(self) -> float:
        return _mean_defined(group_reciprocal_rank(rank_within_groups(*self.collected())))


def _mean_defined(values: np.ndarray) -> float:
    values = values[~np.isnan(values)]
    return float(values.mean()) if len(values) else np.nan

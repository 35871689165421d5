"""Metrics of order: AUC over all rows, within users and within requests; NDCG and reciprocal rank within requests.

Those within groups rest on one sort: `rank_within_groups` finds, for each group, the runs of equal scores. Rows of
equal score have no order, so every metric is its expectation over random orders of them (McSherry and Najork, Computing
Information Retrieval Performance Measures Efficiently in the Presence of Tied Scores, ECIR 2008): a constant score
earns what chance earns, whatever order the log was in. No Python runs per group.
"""

from __future__ import annotations

import abc

import numpy as np

from evaluation.metrics.metric import Metric, SumMetric, Users, divide
from evaluation.metrics.pointwise import equal_width_bins
from evaluation.metrics.rows import Array, RankedGroups, ScoredRows, stable_order
from features.errors import InputError


class AUC(Metric):
    """Area under the ROC curve: Σ w_i w_j [s_i > s_j] (ties one half) over pairs of a positive i and a negative j."""

    name, title = "auc", "AUC"
    needs_probabilities = False

    def sums(self, rows: ScoredRows, users: Users) -> Pairs:
        order = rows.by_score
        return Pairs(rows.score[order], users.codes[order], rows.label[order] > 0, users.count)

    def value(self, sums: Pairs) -> float:
        return float(divide(sums.wins.sum() / 2, sums.positives.sum() * sums.negatives.sum()))

    def without_each(self, sums: Pairs) -> Array:
        positives, negatives = (each.sum() - each for each in (sums.positives, sums.negatives))
        return divide(sums.wins.sum() / 2 - sums.wins + sums.wins_within, positives * negatives)


class Pairs:
    """Of each user, the pairs of a positive and a negative that it has a part in, and how many of them are in order.

    Args:
      score: [N].
      user: [N] codes from 0.
      positive: [N] bool.
      num_users: U.

    Attributes:
      positives, negatives: [U] rows.
      wins: [U] pairs in order (ties one half) whose positive is the user's, and those whose negative is. Over all
        users, every pair is counted twice; a pair within one user, twice there.
      wins_within: [U] pairs in order whose two rows are the user's.
    """

    def __init__(self, score: Array, user: Array, positive: Array, num_users: int):
        self._rows = (score, user, positive)
        self._num_users = num_users
        order = np.argsort(score, kind="stable")  # linear where they are sorted, as they mostly are
        score, user, positive = score[order], user[order], positive[order]
        owners = user[positive], user[~positive]
        self.positives, self.negatives = (np.bincount(each, minlength=num_users).astype(np.float64) for each in owners)
        below, above = _wins(positive, _run_starts(score))
        self.wins = np.bincount(owners[0], below, num_users) + np.bincount(owners[1], above, num_users)
        # The users' rows one after the other, each by rising score: a run of equal scores ends where a user's rows do.
        order = stable_order(user, num_users)
        score, user, positive = score[order], user[order], positive[order]
        starts = _run_starts(score) | _run_starts(user)
        below = _wins(positive, starts)[0]
        # Negatives of the users before are all below: they are taken off again.
        before = np.cumsum(self.negatives) - self.negatives
        self.wins_within = np.bincount(user[positive], below, num_users) - self.positives * before

    def __add__(self, other: Pairs) -> Pairs:
        score, user, positive = (np.concatenate(both) for both in zip(self._rows, other._rows, strict=True))
        return Pairs(score, user, positive, self._num_users)


def _run_starts(ordered: Array) -> Array:
    """Where a value differs from the one before, [N] bool."""
    starts = np.ones(len(ordered), bool)
    starts[1:] = ordered[1:] != ordered[:-1]
    return starts


def _wins(positive: Array, starts: Array) -> tuple[Array, Array]:
    """Of rows by rising score: negatives below each positive, and positives above each negative; ties one half.

    Args:
      positive: [N] bool.
      starts: [N] bool, where a run of equal scores starts.
    """
    run = np.cumsum(starts) - 1
    first = np.flatnonzero(starts)
    rows = np.diff(first, append=len(positive))
    positives = np.add.reduceat(positive.astype(np.int64), first) if len(first) else np.empty(0, np.int64)
    negatives = rows - positives
    below = np.cumsum(negatives) - negatives / 2
    above = positives.sum() - np.cumsum(positives) + positives / 2
    return below[run[positive]], above[run[~positive]]


class BinnedAUC(SumMetric):
    """AUC from counts of positives and negatives in bins of the score: of fixed size, for rows beyond memory.

    Pairs within a bin count one half, so the error is at most half the share of such pairs. It has no interval: counts
    in so many bins for each user would take more room than the rows.
    """

    name, title = "auc_binned", "AUC (binned)"
    needs_probabilities = False
    has_interval = False
    num_bins = 100_000

    def sums(self, rows: ScoredRows, users: Users) -> Array:
        bins = equal_width_bins(rows.score, self.num_bins)
        return users.sums(rows.label, 1 - rows.label, bins=bins, num_bins=self.num_bins)

    def finish(self, totals: Array) -> Array:
        positives, negatives = totals.reshape(2, self.num_bins, *totals.shape[1:])
        below = np.cumsum(negatives, axis=0) - negatives / 2
        return divide((positives * below).sum(axis=0), positives.sum(axis=0) * negatives.sum(axis=0))


class GroupMean(SumMetric):
    """A mean over groups of rows, e.g. requests; groups that have no value are left out."""

    needs_probabilities = False

    @abc.abstractmethod
    def groups(self, rows: ScoredRows) -> RankedGroups:
        """Returns the groups."""

    @abc.abstractmethod
    def values(self, ranked: RankedGroups) -> Array:
        """Returns the metric of each group [G]; NaN where it has none."""

    def shares(self, ranked: RankedGroups) -> Array:
        """Returns how much each group counts in the mean [G]."""
        return np.ones(len(ranked.sizes))

    def sums(self, rows: ScoredRows, users: Users) -> Array:
        ranked = self.groups(rows)
        values = self.values(ranked)
        shares = self.shares(ranked) * ~np.isnan(values)
        return users.of_groups(ranked).sums(np.nan_to_num(values) * shares, shares)

    def finish(self, totals: Array) -> Array:
        return divide(*totals)


class UserGAUC(GroupMean):
    """AUC within each user, averaged with impressions as weights; users whose labels are all alike have none.

    Zhou et al., Deep Interest Network for Click-Through Rate Prediction, KDD 2018, equation 7.
    """

    name, title = "gauc_user", "GAUC per user"

    def groups(self, rows: ScoredRows) -> RankedGroups:
        return rows.by_user

    def shares(self, ranked: RankedGroups) -> Array:
        return ranked.sizes.astype(np.float64)

    def values(self, ranked: RankedGroups) -> Array:
        """By the rank sum (Mann and Whitney): the share of pairs in which the positive scores higher, ties one half."""
        rank_sum = ranked.total(ranked.run_positives * (ranked.run_below + (ranked.run_sizes - 1) / 2))
        positives = ranked.positives.astype(np.float64)
        pairs = positives * (ranked.sizes - positives)
        wins = rank_sum - positives * (positives - 1) / 2
        return np.divide(wins, pairs, out=np.full(len(pairs), np.nan), where=pairs > 0)


class RequestGAUC(UserGAUC):
    """The same within each request."""

    name, title = "gauc_request", "GAUC per request"

    def groups(self, rows: ScoredRows) -> RankedGroups:
        return rows.by_request


class NDCG(GroupMean):
    """Normalised discounted cumulative gain at k, averaged over requests with a positive.

    Gains are 0 and 1, the discount is 1 / log2(1 + rank). Järvelin and Kekäläinen, Cumulated Gain-based Evaluation of
    IR Techniques, TOIS 2002.

    Args:
      k: ranks that count.
    """

    name = "ndcg@k"

    def __init__(self, k: int):
        if k < 1:
            raise InputError(f"`k` should be a positive integer. Received: `k` = {k}.")
        self.k = k
        self.name, self.title = f"ndcg@{k}", f"NDCG@{k}"

    def groups(self, rows: ScoredRows) -> RankedGroups:
        return rows.by_request

    def values(self, ranked: RankedGroups) -> Array:
        k, above = self.k, ranked.run_above
        reached = np.concatenate([[0.0], np.cumsum(1 / np.log2(np.arange(k) + 2))])  # by the first 0 … k ranks
        discount = (reached[np.minimum(above + ranked.run_sizes, k)] - reached[np.minimum(above, k)]) / ranked.run_sizes
        ideal = reached[np.minimum(ranked.positives, k)]
        gained = ranked.total(ranked.run_positives * discount)
        return np.divide(gained, ideal, out=np.full(len(ideal), np.nan), where=ideal > 0)


class MRR(GroupMean):
    """Mean reciprocal rank of the first positive, over requests with a positive."""

    name, title = "mrr", "MRR"

    def groups(self, rows: ScoredRows) -> RankedGroups:
        return rows.by_request

    def values(self, ranked: RankedGroups) -> Array:
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

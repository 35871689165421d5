"""Metrics of order: AUC over all rows, within users and within requests; NDCG and reciprocal rank within requests.

Those within groups rest on one sort: `rank_within_groups` finds, for each group, the runs of equal scores. Rows of
equal score have no order, so every metric is its expectation over random orders of them (McSherry and Najork, Computing
Information Retrieval Performance Measures Efficiently in the Presence of Tied Scores, ECIR 2008): a constant score
earns what chance earns, whatever order the log was in. No Python runs per group.
"""

from __future__ import annotations

import abc

import numpy as np

from evaluation.metrics.metric import Metric, Users, divide
from evaluation.metrics.pointwise import equal_width_bins
from evaluation.metrics.rows import Array, RankedGroups, ScoredRows
from features.errors import InputError


class AUC(Metric):
    """Area under the ROC curve: Σ w_i w_j [s_i > s_j] (ties one half) over pairs of a positive i and a negative j."""

    name, title = "auc", "AUC"
    needs_probabilities = False

    def sums(self, rows: ScoredRows, users: Users) -> Pairs:
        return Pairs(rows.score, users.codes, rows.label > 0)

    def finish(self, sums: Pairs, weights: Array) -> float:
        cumulated = sums.cumulated
        negative, positive = (weights[user] for user in sums.user)
        np.cumsum(negative, dtype=np.int64, out=cumulated[1:])
        wins = cumulated[sums.lower]
        wins += cumulated[sums.not_higher]
        wins *= positive
        pairs = float(positive.sum(dtype=np.int64)) * float(cumulated[-1])
        return divide(wins.sum(dtype=np.float64) / 2, pairs)


class Pairs:
    """Scores and users of the negatives and of the positives, by rising score: sorted once, for all weights.

    Args:
      score: [N].
      user: [N] codes.
      positive: [N] bool.
    """

    def __init__(self, score: Array, user: Array, positive: Array):
        order = np.argsort(score, kind="stable")
        score, user, positive = score[order], user[order], positive[order]
        self.score, self.user = (score[~positive], score[positive]), (user[~positive], user[positive])
        # For each positive: negatives that score lower, and those that do not score higher.
        self.lower, self.not_higher = (np.searchsorted(*self.score, side) for side in ("left", "right"))
        # Room for a replicate's cumulated weights of the negatives: to make it anew would take as long as to fill it.
        self.cumulated = np.zeros(len(self.score[0]) + 1, np.int64)

    def __add__(self, other: Pairs) -> Pairs:
        scores, users = (*self.score, *other.score), (*self.user, *other.user)
        positive = np.repeat([False, True, False, True], [len(each) for each in scores])
        return Pairs(np.concatenate(scores), np.concatenate(users), positive)


class BinnedAUC(Metric):
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

    def finish(self, sums: Array, weights: Array) -> float:
        positives, negatives = (weights @ sums).reshape(2, self.num_bins)
        below = np.cumsum(negatives) - negatives
        return divide((positives * (below + negatives / 2)).sum(), positives.sum() * negatives.sum())


class GroupMean(Metric):
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

    def finish(self, sums: Array, weights: Array) -> float:
        return divide(*(weights @ sums))


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

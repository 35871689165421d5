"""Intervals by resampling users.

Rows of one user are alike, so resampling rows would give intervals that are too narrow: users are resampled, each with
all its rows (cluster bootstrap; Davison and Hinkley, Bootstrap Methods and their Application, 1997, section 3.8). A
replicate is a vector of user weights: Poisson(1), which needs no total (Chamandy et al., Estimating Uncertainty for
Massive Data Streams, 2012), or multinomial, the textbook one.

All statistics see the same weights in a replicate: the difference of two models is a difference replicate by replicate.

- Metrics that are quotients of sums over rows, users or requests: their sums are kept per user, a replicate is one
  product of weights and sums.
- AUC: rows are sorted once; a replicate is a gather and a cumulative sum, O(N).
- ECE has no interval here: it is a sum of absolute values, so resampling noise only adds to it and the percentile
  interval would lie above the estimate.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from evaluation.metrics.pointwise import divide, entropy, row_log_loss
from evaluation.metrics.ranking import (
    group_auc,
    group_ndcg,
    group_reciprocal_rank,
    rank_within_groups,
)
from evaluation.metrics.registry import make_metric, ndcg_at
from evaluation.metrics.rows import ScoredRows
from evaluation.results import Estimate


def has_interval(name: str) -> bool:
    """Whether the metric can be resampled."""
    return name in _SUMS or name == "auc" or ndcg_at(name) is not None


class WeightedAUC:
    """AUC with weights per user: Σ w_i w_j [s_i > s_j] (ties one half) over pairs of a positive i, a negative j."""

    def __init__(self, rows: ScoredRows):
        positive = rows.label > 0
        negatives = _sorted_by_score(rows.take(~positive))
        positives = _sorted_by_score(rows.take(positive))
        self._negative_users = negatives.user
        self._positive_users = positives.user
        # For each positive: negatives that score lower, and those that do not score higher.
        self._lower = np.searchsorted(negatives.score, positives.score, "left")
        self._not_higher = np.searchsorted(negatives.score, positives.score, "right")
        self._cumulated = np.zeros(len(negatives) + 1, np.int64)

    def __call__(self, weights: np.ndarray) -> float:
        """AUC under integer user weights [U]; NaN where a class has no weight."""
        np.cumsum(weights[self._negative_users], dtype=np.int64, out=self._cumulated[1:])
        positive = weights[self._positive_users]
        pairs = float(positive.sum(dtype=np.int64)) * float(self._cumulated[-1])
        wins = self._cumulated[self._lower]
        wins += self._cumulated[self._not_higher]
        wins *= positive
        return float(wins.sum(dtype=np.float64)) / 2 / pairs if pairs else np.nan


class MetricStatistics:
    """Metrics of one set of scores as a function of user weights.

    Args:
      rows: N scored rows; `user` holds codes 0 … U − 1, shared by all statistics of one bootstrap.
      names: metric names, all of them with `has_interval`.

    Raises:
      ValueError: for a metric that has no interval, or a request with rows of two users.
    """

    def __init__(self, rows: ScoredRows, names: Sequence[str]):
        for name in names:
            if not has_interval(name):
                make_metric(name)  # an unknown name is told so
                raise ValueError(f"`{name}` has no bootstrap interval: leave it out of `names`.")
        self.names = tuple(names)
        self._users, self._user_of_row = np.unique(rows.user, return_inverse=True)
        self._auc = WeightedAUC(rows) if "auc" in names else None
        self._rows = rows
        self._ranked = {}
        columns: list[np.ndarray] = []
        self._finish: list[tuple[int, int, Callable] | None] = []
        for name in self.names:
            if name == "auc":
                self._finish.append(None)
                continue
            sums, finish = self._ndcg(ndcg_at(name)) if ndcg_at(name) else _SUMS[name](self)
            self._finish.append((len(columns), len(columns) + len(sums), finish))
            columns.extend(sums)
        self._sums = np.stack(columns, axis=1) if columns else np.empty((len(self._users), 0))
        del self._rows, self._ranked, self._user_of_row  # only the sums are needed from here on

    def __call__(self, weights: np.ndarray) -> np.ndarray:
        """Values of `names` [M] under integer user weights [U]; NaN where undefined."""
        sums = weights[self._users].astype(np.float64) @ self._sums
        return np.array(
            [self._auc(weights) if part is None else part[2](*sums[part[0] : part[1]]) for part in self._finish]
        )

    def _per_user(self, values: np.ndarray) -> np.ndarray:
        return np.bincount(self._user_of_row, values, len(self._users))

    def _groups(self, group: str):
        """Ranked groups and the user (local index) of each."""
        if group not in self._ranked:
            key = getattr(self._rows, group)
            ranked = rank_within_groups(self._rows.label, self._rows.score, key)
            at = np.searchsorted(ranked.keys, key)
            owner = np.zeros(len(ranked.keys), np.int64)
            owner[at] = self._user_of_row
            if not np.array_equal(owner[at], self._user_of_row):
                raise ValueError("a request must have one user. Received: a request with rows of several users.")
            self._ranked[group] = ranked, owner
        return self._ranked[group]

    def _mean_of_groups(self, values: np.ndarray, weights: np.ndarray, owner: np.ndarray):
        defined = ~np.isnan(values)
        size = len(self._users)
        top = np.bincount(owner[defined], (values * weights)[defined], size)
        return (top, np.bincount(owner[defined], weights[defined], size)), divide

    def _gauc(self, group: str):
        ranked, owner = self._groups(group)
        return self._mean_of_groups(group_auc(ranked), ranked.sizes.astype(np.float64), owner)

    def _ndcg(self, k: int):
        ranked, owner = self._groups("request")
        return self._mean_of_groups(group_ndcg(ranked, k), np.ones(len(ranked.sizes)), owner)

    def _mrr(self):
        ranked, owner = self._groups("request")
        return self._mean_of_groups(group_reciprocal_rank(ranked), np.ones(len(ranked.sizes)), owner)

    def _log_loss(self):
        loss = row_log_loss(self._rows.label, self._rows.score)
        return (self._per_user(loss), self._per_user(np.ones(len(loss)))), divide

    def _normalized_entropy(self):
        (loss, count), _ = self._log_loss()
        return (loss, self._per_user(self._rows.label), count), _finish_normalized_entropy

    def _pcoc(self):
        return (self._per_user(self._rows.score), self._per_user(self._rows.label)), divide


def _finish_normalized_entropy(loss: float, positives: float, count: float) -> float:
    return divide(loss, count * entropy(positives / count)) if count else np.nan


_SUMS = {
    "gauc_user": lambda statistics: statistics._gauc("user"),
    "gauc_request": lambda statistics: statistics._gauc("request"),
    "mrr": MetricStatistics._mrr,
    "log_loss": MetricStatistics._log_loss,
    "normalized_entropy": MetricStatistics._normalized_entropy,
    "pcoc": MetricStatistics._pcoc,
}


def bootstrap(
    statistics: Mapping[str, Callable[[np.ndarray], np.ndarray]],
    num_users: int,
    replicates: int = 200,
    seed: int = 0,
    scheme: str = "poisson",
) -> dict[str, np.ndarray]:
    """Evaluates all statistics under the same resamples of users.

    Args:
      statistics: by key; each maps user weights [num_users] to values [M].
      num_users: U; statistics use user codes below it.
      replicates: resamples R.
      seed: equal seeds give equal resamples.
      scheme: `poisson` or `multinomial`.

    Returns:
      By key, the values [R, M].
    """
    if scheme not in ("poisson", "multinomial"):
        raise ValueError(f"`scheme` must be poisson or multinomial. Received: `scheme`={scheme!r}.")
    if replicates < 1 or num_users < 1:
        raise ValueError(
            f"`replicates` and `num_users` must be positive. Received: `replicates`={replicates}, "
            f"`num_users`={num_users}."
        )
    generator = np.random.default_rng(seed)
    found: dict[str, list] = {key: [] for key in statistics}
    for _ in range(replicates):
        if scheme == "poisson":
            weights = generator.poisson(1.0, num_users)
        else:
            weights = np.bincount(generator.integers(0, num_users, num_users), minlength=num_users)
        # A byte each keeps the gathers in cache; a weight over 255 has a chance of 1e-500.
        weights = weights.astype(np.uint8)
        for key, statistic in statistics.items():
            found[key].append(statistic(weights))
    return {key: np.array(values) for key, values in found.items()}


def ones(num_users: int) -> np.ndarray:
    """The weights of the sample itself: statistics under them are the point estimates."""
    return np.ones(num_users, np.uint8)


def estimate(value: float, replicates: np.ndarray, level: float = 0.95) -> Estimate:
    """A value with the percentile interval of its replicates [R].

    There is no interval where over a twentieth of the replicates is undefined (a slice whose few positives are often
    not drawn): what is left would not stand for the whole.
    """
    defined = replicates[np.isfinite(replicates)]
    if not np.isfinite(value):
        return Estimate()
    if len(defined) < max(2, 0.95 * len(replicates)):
        return Estimate(value=float(value))
    low, high = np.quantile(defined, [(1 - level) / 2, (1 + level) / 2])
    return Estimate(value=float(value), low=float(low), high=float(high))


def _sorted_by_score(rows: ScoredRows) -> ScoredRows:
    return rows.take(np.argsort(rows.score, kind="stable"))

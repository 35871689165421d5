"""Intervals by leaving users out, one after the other.

Rows of one user are alike, so it is users that err independently of each other, not rows. The jackknife leaves each
user out with all its rows, and measures by how much the metric moves (Efron and Stein, The jackknife estimate of
variance, Annals of Statistics 9, 1981). With θ the metric over all U users and θ₍ᵤ₎ that without user u,

    s² = (U − 1) / U · Σ_u d_u²,   d_u = θ₍ᵤ₎ − mean θ₍ᵤ₎,   and the interval is θ ± t(ν) s.

It is the delta method by user, with exact differences for derivatives. Where few users hold most rows, s² is itself
uncertain, and intervals by normal quantiles are too narrow. Student's t takes that in, with the degrees of freedom of a
variance that varies as much as the d_u² say (Satterthwaite, Biometrics Bulletin 2, 1946):

    ν = 2 (Σ d_u²)² / (Σ d_u⁴ − (Σ d_u²)² / U),   at most U − 1.

Ratios of positive numbers err further upwards than downwards; their interval is made on the logarithm. Nothing is drawn
at random, so equal rows have equal intervals. `python -m benchmarks verdicts` measures how often they cover.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import NormalDist

import numpy as np

from evaluation.metrics.metric import Users
from evaluation.metrics.registry import make_metric
from evaluation.metrics.rows import Array, ScoredRows, dense_codes
from evaluation.results import Estimate


class MetricStatistics:
    """Metrics of one set of scores: over all rows, and over all rows but those of each user.

    Args:
      rows: N scored rows.
      names: metric names, all of them of metrics that have an interval.

    Attributes:
      names: as given.
      values: [M] over all rows; NaN where undefined.
      without: [M, U] over all rows but those of user u, of the users that have rows, by rising key.

    Raises:
      InputError: for a metric that is unknown or has no interval.
      ValueError: for a request with rows of two users.
    """

    def __init__(self, rows: ScoredRows, names: Sequence[str]):
        self.names = tuple(names)
        self._metrics = [make_metric(name) for name in names]
        users = Users(*dense_codes(rows.user))
        self.values, self.without = np.empty(len(names)), np.empty((len(names), users.count))
        for i, metric in enumerate(self._metrics):
            sums = metric.sums(rows, users)
            self.values[i], self.without[i] = metric.value(sums), metric.without_each(sums)

    def estimates(self, level: float) -> dict[str, Estimate]:
        """The metrics with their intervals, by name."""
        found = zip(self._metrics, self.values, self.without, strict=True)
        return {metric.name: estimate(value, without, level, metric.is_ratio) for metric, value, without in found}

    def differences(self, other: MetricStatistics, level: float) -> dict[str, Estimate]:
        """These metrics less those of other scores of the same rows, with their intervals, by name.

        A user is left out of both at once: what both models find hard about a user cancels out.
        """
        found = zip(self.names, self.values - other.values, self.without - other.without, strict=True)
        return {name: estimate(value, without, level) for name, value, without in found}


def estimate(value: float, without: Array, level: float = 0.95, is_ratio: bool = False) -> Estimate:
    """A value with its interval.

    There is no interval where a user carries the value alone: where the value is undefined without one of them.

    Args:
      value: θ.
      without: [U], the value without each user.
      level: how often the interval should cover what it estimates.
      is_ratio: whether the interval is made on the logarithm.
    """
    if not np.isfinite(value):
        return Estimate()
    value = float(value)
    if len(without) < 2 or not np.isfinite(without).all():
        return Estimate(value=value)
    if is_ratio and value > 0 and (without > 0).all():
        half = _half_width(np.log(without), level)
        return Estimate(value=value, low=float(value * np.exp(-half)), high=float(value * np.exp(half)))
    half = _half_width(without, level)
    return Estimate(value=value, low=value - half, high=value + half)


def _half_width(without: Array, level: float) -> float:
    """t(ν) s."""
    users = len(without)
    squares = (without - without.mean()) ** 2
    variance, uncertainty = float(squares.sum()), float((squares**2).sum())
    if variance == 0:
        return 0.0
    excess = uncertainty - variance**2 / users
    freedom = min(users - 1.0, 2 * variance**2 / excess if excess > 0 else np.inf)
    return float(t_quantile((1 + level) / 2, freedom) * np.sqrt((users - 1) / users * variance))


def t_quantile(probability: float, freedom: float) -> float:
    """Quantile of Student's t distribution, to 1% from two degrees of freedom on; below, that of two.

    By the expansion in 1 / `freedom` around the normal quantile (Abramowitz and Stegun, 26.7.5).
    """
    z, n = NormalDist().inv_cdf(probability), max(freedom, 2.0)
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return z + sum(term / n ** (power + 1) for power, term in enumerate(terms))


def effective_users(user: Array) -> float:
    """How many users of equally many rows say as much: (Σ n_u)² / Σ n_u² (Kish, Survey Sampling, 1965).

    Args:
      user: [N] keys of the rows' users.
    """
    codes, count = dense_codes(user)
    rows = np.bincount(codes, minlength=count).astype(np.float64)
    return float(rows.sum() ** 2 / (rows**2).sum()) if count else 0.0

"""Chooses between bias and variance by SLOPE (Su, Srinath, Krishnamurthy, ICML 2020): no bias needs to be known.

Estimators are put in order of falling width; bias may rise on the way. From the widest on, each is kept as long as it
agrees with all before it, |V_i − V_j| ≤ c_i + (√6 − 1) c_j, with c the half width of the interval. The last that is
kept has an error within a constant factor of the best one's.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import NormalDist

import numpy as np

from evaluation.metrics.rows import Array, dense_codes
from evaluation.replay.estimators.estimator import Estimator
from evaluation.replay.estimators.lists import CascadeIps, IndependentIps, StandardIps
from evaluation.replay.logged import LoggedRewards
from evaluation.replay.sums import PolicySums, UserSums
from features.errors import InputError

BEHAVIORS: tuple[type[Estimator], ...] = (IndependentIps, CascadeIps, StandardIps)
"""By the codes of `LoggedRewards.behavior`."""


def half_width(estimator: Estimator, sums: PolicySums, level: float = 0.95) -> float:
    """Half the width of an estimator's linearised interval by user; infinite where it is undefined."""
    influence = estimator.influence(sums)
    users = len(influence)
    if users < 2 or not np.isfinite(influence).all():
        return float("inf")
    deviation = float(np.sqrt((influence**2).sum() * users / (users - 1)))
    return NormalDist().inv_cdf((1 + level) / 2) * deviation


def slope(values: Sequence[float], widths: Sequence[float]) -> int:
    """Returns the index of the estimate to take.

    Args:
      values: K estimates.
      widths: half the width of each one's interval; one without a finite value or width is never taken.

    Raises:
      InputError: where none is finite.
    """
    found, width = np.asarray(values, np.float64), np.asarray(widths, np.float64)
    usable = [int(i) for i in np.argsort(-width, kind="stable") if np.isfinite(found[i]) and np.isfinite(width[i])]
    if not usable:
        raise InputError("none of the estimators that are to be chosen from has an estimate with an interval.")
    for number, i in enumerate(usable):
        before = usable[:number]
        if (np.abs(found[before] - found[i]) > width[i] + (np.sqrt(6) - 1) * width[before]).any():
            return usable[number - 1]
    return usable[-1]


def choose(estimators: Sequence[Estimator], sums: PolicySums, level: float = 0.95) -> Estimator:
    """Returns the estimator that SLOPE takes, e.g. of one class with λ of a grid, or of nested user models.

    Args:
      estimators: among them one whose bias can be neglected, the widest.
      sums: of a log that was summed for all of them.
      level: of the intervals.

    Raises:
      InputError: where no estimator has an estimate, and for sums that lack one's columns.
    """
    widths = [half_width(each, sums, level) for each in estimators]
    return estimators[slope([each.estimate(sums) for each in estimators], widths)]


def choose_behavior(logged: LoggedRewards, policy: str, stratum: Array, level: float = 0.95) -> Array:
    """Chooses for each stratum of requests how its users read lists, for `LoggedRewards.behavior`.

    Choose on one part of a log and estimate on another: a choice made on the same rows is not in the interval.

    Args:
      logged: rows with `cascade_weights`.
      policy: whose weights are used.
      stratum: [N] codes known before the request is answered, e.g. of the device; equal within a request.
      level: of the intervals.

    Returns:
      [N] codes: 0 independently, 1 downwards, 2 as a whole.
    """
    readings = [kind() for kind in BEHAVIORS]
    codes, count = dense_codes(stratum)
    chosen = np.zeros(count, np.int64)
    for code in range(count):
        sums = UserSums.of(logged.take(codes == code), readings).policy(policy)
        chosen[code] = readings.index(choose(readings, sums, level))
    return chosen[codes]

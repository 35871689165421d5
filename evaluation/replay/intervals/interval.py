"""What an interval is: a tier that surrounds the estimate of one policy, or the difference of two on the same users."""

from __future__ import annotations

import abc

import numpy as np

from evaluation.metrics.rows import Array
from evaluation.replay.estimators.estimator import Estimator
from evaluation.replay.sums import PolicySums
from evaluation.results import Estimate
from features.errors import InputError


class Interval(abc.ABC):
    """Surrounds estimates at a level; listed in `INTERVALS` of the registry.

    Args:
      level: how often it should hold the truth, in (0, 1).

    Attributes:
      name: as the table has it.
      title: how reports call it.
      repeatable: whether the level holds for all looks at a growing log together, and not for one look alone.

    Raises:
      InputError: for a level outside (0, 1).
    """

    name: str
    title: str
    repeatable: bool = False

    def __init__(self, level: float = 0.95):
        if not 0 < level < 1:
            raise InputError(f"`level` must lie between 0 and 1. Received: {level}.")
        self.level = level

    @abc.abstractmethod
    def of(self, estimator: Estimator, sums: PolicySums) -> Estimate:
        """Returns what a policy is worth, with its interval; without one where it is undefined."""

    @abc.abstractmethod
    def difference(self, estimator: Estimator, candidate: PolicySums, baseline: PolicySums) -> Estimate:
        """Returns candidate less baseline, with its interval: what both find in a user cancels out.

        Raises:
          InputError: for sums of different users.
        """


class LinearInterval(Interval):
    """An interval of the linear form of an estimate: of V̂ − V ≈ Σ_u ψ_u."""

    @abc.abstractmethod
    def around(self, value: float, influence: Array, units: float) -> Estimate:
        """Surrounds a value.

        Args:
          value: V̂.
          influence: ψ [U].
          units: how many impressions or requests V̂ is made of.
        """

    def of(self, estimator: Estimator, sums: PolicySums) -> Estimate:
        return self.around(estimator.estimate(sums), estimator.influence(sums), sums.total(estimator.size))

    def difference(self, estimator: Estimator, candidate: PolicySums, baseline: PolicySums) -> Estimate:
        check_paired(candidate, baseline)
        value = estimator.estimate(candidate) - estimator.estimate(baseline)
        influence = estimator.influence(candidate) - estimator.influence(baseline)
        return self.around(value, influence, candidate.total(estimator.size))


def check_paired(candidate: PolicySums, baseline: PolicySums) -> None:
    """Raises `InputError` for sums of different users, whose differences would not be paired."""
    if not np.array_equal(candidate.users, baseline.users):
        raise InputError(
            f"`{candidate.name}` and `{baseline.name}` must be summed over the same log to be compared by user. "
            f"Received: {len(candidate.users)} and {len(baseline.users)} users."
        )

"""The interval for heavy weights: Cressie-Read empirical likelihood of power −2, by user.

The truth lies among the values of all reweightings q of the users (and of one user more, whom nobody has seen, with an
extreme weight w̃ and an extreme reward) in which weights have mean 1, and which diverge from equal weights by no more
than the F distribution allows (Karampatziakis, Langford, Mineiro, Empirical likelihood for contextual bandits, NeurIPS
2020). The divergence is quadratic, so that the ends have a closed form: the mean reward, regressed on the weights, less
a residual deviation. Of users with one row each it equals `cressieread` of vw-estimators 0.2.2. Here a user with n_u of
N rows and sums W_u, X_u of weights and of weighted rewards counts as one observation,

    w_u = 1 + U (W_u − n_u) / N,   x_u = U (X_u − V n_u) / N + V,   V = Σ X / N,

so that rows of one user do not pass for independent ones, and the ratio's divisor errs along.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import NamedTuple

import numpy as np

from evaluation.intervals import t_quantile
from evaluation.metrics.metric import divide
from evaluation.metrics.rows import Array
from evaluation.replay.estimators.estimator import Estimator
from evaluation.replay.intervals.interval import Interval, check_paired
from evaluation.replay.sums import PolicySums
from evaluation.results import Estimate
from features.errors import InputError

COLUMNS = {"ips": ("w", "wr"), "snips": ("w", "wr"), "mips": None, "snmips": None}
"""Estimators whose weights have mean 1, with their columns of w and w r; None: those under the estimator's key."""

ROUNDING = 1e-9
"""What the ends give way to rounding where the data leave no deviation."""


class CressieRead(Interval):
    """Ends that hold under heavy weights, at the price of width: read its level as `at least`.

    Its value is of the same reweighting: of the likeliest q, with the mean logged reward for mass that is missing.

    Args:
      level: as of all intervals.
      reward_range: the smallest and the largest reward that can be, not those that were seen.
      weight_range: the smallest and the largest weight that can be.

    Raises:
      InputError: for ranges that are empty, or weights that cannot have mean 1.
    """

    name, title = "cressie_read", "Cressie-Read empirical likelihood"

    def __init__(
        self,
        level: float = 0.95,
        reward_range: tuple[float, float] = (0.0, 1.0),
        weight_range: tuple[float, float] = (0.0, math.inf),
    ):
        super().__init__(level)
        if not reward_range[0] < reward_range[1]:
            raise InputError(f"`reward_range` must rise. Received: {reward_range}.")
        if not 0 <= weight_range[0] < 1 < weight_range[1]:
            raise InputError(f"`weight_range` must hold 1, and begin at 0 or above. Received: {weight_range}.")
        self.reward_range, self.weight_range = reward_range, weight_range

    def of(self, estimator: Estimator, sums: PolicySums) -> Estimate:
        part = self._observed(estimator, sums)
        if not len(part.weight):
            return Estimate()
        low, high = self.reward_range
        bottom = self._end([part], (low,), low)
        top = -self._end([part.negative()], (-high,), low)
        return Estimate(value=self._value(part), low=min(high, max(low, bottom)), high=min(high, max(low, top)))

    def difference(self, estimator: Estimator, candidate: PolicySums, baseline: PolicySums) -> Estimate:
        check_paired(candidate, baseline)
        first, second = self._observed(estimator, candidate), self._observed(estimator, baseline)
        if not len(first.weight):
            return Estimate()
        low, high = self.reward_range
        bottom = self._end([first, second.negative()], (low, -high), low - high)
        top = -self._end([first.negative(), second], (-high, low), low - high)
        return Estimate(value=self._value(first) - self._value(second), low=bottom, high=top)

    def _observed(self, estimator: Estimator, sums: PolicySums) -> Observed:
        if estimator.name not in COLUMNS:
            raise InputError(
                f"Cressie-Read intervals are of {', '.join(COLUMNS)}, whose weights have mean 1. "
                f"Received: `{estimator.name}`; take the linearised interval."
            )
        low, high = sums.sums.reward_range
        if low < self.reward_range[0] or high > self.reward_range[1]:
            raise InputError(
                f"`reward_range` must hold all rewards. Received: {self.reward_range} for {low} to {high}."
            )
        columns = COLUMNS[estimator.name] or (f"{estimator.key}/w", f"{estimator.key}/value")
        mean_reward = float(divide(sums.total("r"), sums.total(estimator.size)))
        return Observed.of(sums[columns[0]], sums[columns[1]], sums[estimator.size], mean_reward)

    def _weight_ends(self, part: Observed) -> tuple[float, float]:
        """The range of weights, widened to what users have."""
        lowest, highest = max(0.0, part.weight.min()), part.weight.max()
        return min(self.weight_range[0], lowest), max(self.weight_range[1], highest)

    def _value(self, part: Observed) -> float:
        count, total, square = len(part.weight), part.weight.sum(), (part.weight**2).sum()
        lowest, highest = self._weight_ends(part)
        unseen = highest if total < count else lowest
        scale, slope = (1 + count) / count, 0.0
        if unseen < math.inf:
            mean, second = (unseen + total) / (1 + count), (unseen**2 + square) / (1 + count)
            scale, slope = (second - mean) / (second - mean**2), (mean - 1) / (second - mean**2)
        # q_u = (scale − slope w_u) / (1 + U); what it lacks of mass has the mean logged reward.
        chance = (scale - slope * part.weight) / (1 + count)
        missing = max(0.0, 1 - float((chance * part.weight).sum()))
        return float((chance * part.value).sum()) + missing * part.mean_reward

    def _end(self, parts: Sequence[Observed], rewards: Sequence[float], otherwise: float) -> float:
        """The lower end of the sum of the parts' values, whose unseen users have the `rewards`.

        `otherwise` is the end where no reweighting is near enough.
        """
        count, ends = len(parts[0].weight), [self._weight_ends(part) for part in parts]
        likeliest = [high if part.weight.sum() < count else low for part, (low, high) in zip(parts, ends, strict=True)]
        allowed = t_quantile((1 + self.level) / 2, count) ** 2 / (1 + count)  # F with 1 and U degrees of freedom
        allowed += _fit(parts, likeliest, rewards).cost
        found = [_fit(parts, unseen, rewards).lowest(allowed) for unseen in product(*ends)]
        return min((end for end in found if end is not None), default=otherwise)


@dataclass(frozen=True)
class Observed:
    """Users as observations: weight and value [U] of a policy, and the mean logged reward."""

    weight: Array
    value: Array
    mean_reward: float

    @classmethod
    def of(cls, weight: Array, value: Array, size: Array, mean_reward: float) -> Observed:
        """Makes observations of sums by user, each [U]."""
        mean_size = size.mean() if len(size) else 1.0
        mean = value.sum() / size.sum() if len(size) else 0.0
        uneven = size / mean_size - 1
        return cls(weight / mean_size - uneven, value / mean_size - mean * uneven, mean_reward)

    def negative(self) -> Observed:
        """The same users with the other sign of the reward."""
        return Observed(self.weight, -self.value, -self.mean_reward)


class Fit(NamedTuple):
    """Values regressed on weights, at mean weights of 1.

    Attributes:
      value: there.
      residual: the variance that is left.
      cost: the divergence that mean weights of 1 take in themselves.
    """

    value: float
    residual: float
    cost: float

    def lowest(self, allowed: float) -> float | None:
        """The lowest value within the allowed divergence; None where mean weights of 1 are beyond it."""
        room = self.residual * (allowed - self.cost)
        if abs(room) <= 2 * ROUNDING**2:
            return self.value - math.sqrt(2) * ROUNDING
        return self.value - math.sqrt(room) if room > 0 and allowed >= self.cost else None


def _fit(parts: Sequence[Observed], unseen: Sequence[float], rewards: Sequence[float]) -> Fit:
    """Regresses the sum of the parts' values on their weights, with an unseen user of given weights and rewards.

    An unseen weight without a limit fixes the slope on that part's weights at the unseen reward, and outweighs what
    the unseen user has elsewhere.
    """
    count = len(parts[0].weight)
    value = np.sum([part.value for part in parts], axis=0)
    free = [each for each in zip(parts, unseen, rewards, strict=True) if each[1] < math.inf]
    for part, at, reward in zip(parts, unseen, rewards, strict=True):
        if at == math.inf:
            value = value - reward * (part.weight - 1)
    weights = np.array([part.weight for part, _, _ in free]).reshape(len(free), count)
    share, cost = count / (1 + count), 1 / count
    if len(free) == len(parts):
        share, cost = 1.0, 0.0
        value = np.append(value, sum(at * reward for _, at, reward in free))
        weights = np.concatenate([weights, [[at] for _, at, _ in free]], axis=1)
    short = weights.mean(axis=1) - 1
    apart, deviation = weights - weights.mean(axis=1, keepdims=True), value - value.mean()
    inverse = np.linalg.pinv(share * apart @ apart.T / len(value), hermitian=True)
    common = share * apart @ deviation / len(value)
    slope = inverse @ common
    residual = max(0.0, float(share * (deviation**2).mean() - common @ slope))
    return Fit(float(value.mean() - slope @ short), residual, cost + float(short @ inverse @ short))

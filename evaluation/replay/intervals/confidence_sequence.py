"""The interval for daily looks: at its level, all of them together hold the truth."""

from __future__ import annotations

import math

from evaluation.metrics.rows import Array
from evaluation.replay.intervals.interval import LinearInterval
from evaluation.replay.intervals.linearised import standard_error
from evaluation.results import Estimate
from features.errors import InputError


class ConfidenceSequence(LinearInterval):
    """V̂ ± s √((1 + m/n) log((1 + n/m) / α²)), an asymptotic confidence sequence.

    n counts the units of a look, s is the standard error by user, α = 1 − level, and m = P / (log(1 + 2 log(1/α)) +
    2 log(1/α)) makes it narrowest where n reaches P, the planned units (Waudby-Smith, Arbour, Sinha, Kennedy, Ramdas,
    Time-uniform central limit theory and asymptotic confidence sequences, Annals of Statistics 52, 2024). A look needs
    its own sums alone, which merge in any order.

    The theory is of independent units. Users who return make the standardised sums of two looks more alike, never less,
    than those of independent units; by Slepian's inequality a one-sided bound is then crossed less often.

    Args:
      level: of all looks together.
      planned: P, the units of the last look that is planned; it must be fixed before the first.

    Raises:
      InputError: for a level outside (0, 1) or no planned units.
    """

    name, title, repeatable = "sequence", "Confidence sequence", True

    def __init__(self, level: float = 0.95, planned: float = 1_000_000):
        super().__init__(level)
        if not planned > 0:
            raise InputError(f"`planned` units must be positive. Received: {planned}.")
        self.planned = planned

    def around(self, value: float, influence: Array, units: float) -> Estimate:
        error = standard_error(influence)
        if not math.isfinite(value):
            return Estimate()
        if not math.isfinite(error):
            return Estimate(value=value)
        half = error * self.factor(units)
        return Estimate(value=value, low=value - half, high=value + half)

    def factor(self, units: float) -> float:
        """Returns how many standard errors the interval reaches to each side at a look of so many units."""
        log_odds = -2 * math.log(1 - self.level)
        prior = self.planned / (log_odds + math.log1p(log_odds))
        return math.sqrt((1 + prior / units) * (math.log1p(units / prior) + log_odds))

"""What a comparison could have told: the smallest effect, and the log that an effect needs."""

from __future__ import annotations

import math
from statistics import NormalDist

from features.config import Strict
from features.errors import InputError

_NORMAL = NormalDist()


class Power(Strict):
    """What a comparison can tell.

    Attributes:
      power: the chance of a verdict that is asked for.
      standard_error: of the difference, by user; None where undefined.
      minimum_detectable: the true difference that ends in a verdict with that chance, at this log's size.
      units: impressions or requests of this log.
      effect: the difference asked about.
      units_needed: how many units tell that difference with that chance; None where no effect was asked about, or the
        difference has no deviation.
    """

    power: float
    standard_error: float | None = None
    minimum_detectable: float | None = None
    units: int
    effect: float | None = None
    units_needed: int | None = None


def power_of(half: float, error: float, units: float, effect: float | None = None, power: float = 0.8) -> Power:
    """What a comparison with an interval of this half width can tell.

    A true difference δ ends in a verdict where the estimate exceeds the half width h, with the chance Φ((δ − h) / s);
    h and s shrink with the root of the units (those of a confidence sequence a little slower).

    Args:
      half: h, of the difference's interval.
      error: s, its standard error.
      units: of the log.
      effect: the difference that one would like to see.
      power: the chance of seeing it.

    Raises:
      InputError: for an effect of 0, or a power outside (0, 1).
    """
    if not 0 < power < 1:
        raise InputError(f"`power` must lie between 0 and 1. Received: {power}.")
    if effect == 0:
        raise InputError("`effect` must not be 0: no log tells a difference that is not there.")
    if not (math.isfinite(half) and math.isfinite(error)):
        return Power(power=power, units=int(units), effect=effect)
    smallest = half + _NORMAL.inv_cdf(power) * error
    needed = math.ceil(units * (smallest / abs(effect)) ** 2) if effect and smallest else None
    return Power(
        power=power,
        standard_error=error,
        minimum_detectable=smallest,
        units=int(units),
        effect=effect,
        units_needed=needed,
    )


def chance_of_verdict(effect: float, error: float, level: float = 0.95) -> float:
    """The chance that a fixed-sample interval at `level` excludes 0, where the true difference is `effect`."""
    reach, size = _NORMAL.inv_cdf((1 + level) / 2), effect / error
    return _NORMAL.cdf(size - reach) + _NORMAL.cdf(-size - reach)

"""The default interval: the linear form of an estimate, summed by user."""

from __future__ import annotations

import numpy as np

from evaluation.intervals import estimate
from evaluation.metrics.rows import Array
from evaluation.replay.intervals.interval import LinearInterval
from evaluation.results import Estimate


class Linearised(LinearInterval):
    """V̂ ± t(ν) s, s² = U / (U − 1) Σ_u ψ_u².

    Rows of a user are alike, so users err independently, not rows. A divisor that is estimated (self-normalisation, a
    number of rows that differs between users) errs along and is part of ψ. ν are the degrees of freedom that the ψ_u²
    leave (`evaluation.intervals`). It holds for one look, and where no few users carry the sum: the diagnostics say.
    """

    name, title = "linearised", "Linearised by user"

    def around(self, value: float, influence: Array, units: float) -> Estimate:
        users = len(influence)
        # Left out, a user moves the value by its influence; the jackknife's formula then gives s².
        without = value - influence * (users / (users - 1)) if users > 1 else influence
        return estimate(value, without, self.level)


def standard_error(influence: Array) -> float:
    """s of an estimate from its influence ψ [U]; NaN of fewer than two users."""
    users = len(influence)
    return float(np.sqrt((influence**2).sum() * users / (users - 1))) if users > 1 else float("nan")

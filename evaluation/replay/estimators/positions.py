"""Estimators of a list's reward that carry what an item earned in one slot over to others.

The position-based model: a slot is looked at with probability θ_l whatever stands in it, and an item that is looked at
earns ρ(x, a). They need the probability of the shown item in every slot, of the logger, b_l, and of the policy, π_l:
for a request without choice (a deterministic policy) π is 0 or 1, and only the logger must have been random.
"""

from __future__ import annotations

import numpy as np

from evaluation.metrics.metric import divide
from evaluation.metrics.rows import Array
from evaluation.replay.estimators.estimator import Estimator
from evaluation.replay.logged import LoggedRewards


class PositionBased(Estimator):
    """Σ_l w r_l with w = Σ_k θ_k π_k / Σ_k θ_k b_k of the item, by request (Li et al., KDD 2018)."""

    name, title, unit = "pbm", "Position-based", "request"
    needs_marginals = True

    def weight(self, logged: LoggedRewards, policy: str) -> Array:
        what = f"`{self.name}`"
        seen = logged.shared("examination", what)
        target, logger = logged.needs("placements", policy, what), logged.shared("logger_placements", what)
        return divide(target @ seen, logger @ seen)


class Interpolated(Estimator):
    """INTERPOL: the position-based model within a window of slots only (Buchholz et al., SIGIR 2024).

    The item's expected reward in slot k is taken from the slots within the window of k, weighted by examination:

        w(a, l) = Σ_{k: |k − l| ≤ m} θ_k π_k / Σ_{j: |j − k| ≤ m} θ_j b_j.

    At m = 0 it is IIPS, at m ≥ L − 1 PBM.

    Args:
      parameter: m, in slots.
    """

    name, title, unit, default = "interpol", "INTERPOL", "request", 1
    needs_marginals = True

    def weight(self, logged: LoggedRewards, policy: str) -> Array:
        what = f"`{self.name}`"
        seen = logged.shared("examination", what)
        target, logger = logged.needs("placements", policy, what), logged.shared("logger_placements", what)
        slots = np.arange(len(seen))
        near = (np.abs(slots[:, None] - slots) <= self.number).astype(np.float64)
        shares = divide(target * seen, (logger * seen) @ near)
        # No logger mass in a slot's window: the policy's mass there is lost, which the support diagnostic reports.
        return (np.nan_to_num(shares, nan=0.0) * near[logged.slot]).sum(axis=1)

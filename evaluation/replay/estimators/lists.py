"""Estimators of a list's reward, by what a slot's reward may depend on.

The value is the mean over requests of Σ_l r_l. With w_l the weight of a slot (of marginal propensities), w_{1:l} that
of the slots down to l, and W that of the whole list:

    independent (IIPS)  Σ_l w_l r_l        a slot's reward depends on its item alone (Li et al., KDD 2018)
    cascade (RIPS)      Σ_l w_{1:l} r_l    on the items down to it (McInerney et al., KDD 2020)
    standard (SIPS)     Σ_l W r_l          on the whole list

Each is unbiased where its model, or one above it, holds; the lower, the more variance.
"""

from __future__ import annotations

import numpy as np

from evaluation.metrics.metric import divide
from evaluation.metrics.rows import Array
from evaluation.replay.estimators.estimator import Estimator
from evaluation.replay.logged import LoggedRewards
from evaluation.replay.sums import PolicySums
from evaluation.replay.weights import last_of_request, whole_list


class IndependentIps(Estimator):
    """Σ_l w_l r_l, by request. Weights of conditional propensities bias it: log or compute marginals."""

    name, title, unit = "iips", "Independent IPS", "request"
    needs_marginals = True

    def weight(self, logged: LoggedRewards, policy: str) -> Array:
        return logged.weights[policy]


class CascadeIps(Estimator):
    """Σ_l w_{1:l} r_l, by request."""

    name, title, unit = "rips", "Cascade IPS (RIPS)", "request"

    def weight(self, logged: LoggedRewards, policy: str) -> Array:
        return logged.needs("cascade_weights", policy, f"`{self.name}`")


class StandardIps(Estimator):
    """W Σ_l r_l, by request."""

    name, title, unit = "sips", "Standard IPS (SIPS)", "request"

    def weight(self, logged: LoggedRewards, policy: str) -> Array:
        return whole_list(logged, policy, f"`{self.name}`")


class SelfNormalizedSips(StandardIps):
    """Σ W Σ_l r_l / Σ W over requests."""

    name, title, self_normalised = "snsips", "Self-normalised SIPS", True

    def terms(self, logged: LoggedRewards, policy: str) -> dict[str, Array]:
        found = super().terms(logged, policy)
        once = logged.first_of_request
        return found | {f"{self.key}/{name}": found[f"{self.key}/{name}"] * once for name in ("w", "ww")}

    def diagnose(self, sums: PolicySums) -> dict[str, float]:
        """As all, but of weights that are a request's: `mean_weight` and `effective_rows` count requests."""
        found = super().diagnose(sums)
        return found | {"mean_weight": float(divide(sums.total(f"{self.key}/w"), sums.total("requests")))}


class SlotNormalized(Estimator):
    """Σ_l (n_l / N) Σ w_l r_l / Σ w_l: each slot is normalised by its own mean weight; n_l of N requests have it.

    Its influence takes in that n_l, too, is random: ψ_u = Σ_l (n_l / N) (x_lu − R_l w_lu) / W_l + R_l (n_lu − (n_l / N)
    N_u) / N, with R_l = X_l / W_l.
    """

    unit, self_normalised = "request", True

    def terms(self, logged: LoggedRewards, policy: str) -> dict[str, Array]:
        found = super().terms(logged, policy)
        return {name: column for name, column in found.items() if not name.endswith("/value")}

    def slot_terms(self, logged: LoggedRewards, policy: str) -> dict[str, Array]:
        weight = self.weight(logged, policy)
        return {f"{self.key}/slot_w": weight, f"{self.key}/slot_value": weight * logged.reward}

    def _ratios(self, sums: PolicySums) -> tuple[Array, Array, Array]:
        """W_l, R_l and n_l / N, each [L]; R_l is NaN of a slot that has rows and no weight."""
        weight, count = sums.slot_totals(f"{self.key}/slot_w"), sums.slot_totals("rows")
        ratio = np.where(count > 0, divide(sums.slot_totals(f"{self.key}/slot_value"), weight), 0.0)
        return weight, ratio, divide(count, np.full(len(count), sums.total("requests")))

    def estimate(self, sums: PolicySums) -> float:
        _, ratio, share = self._ratios(sums)
        return float((share * ratio).sum()) if len(share) else float("nan")

    def influence(self, sums: PolicySums) -> Array:
        total, ratio, share = self._ratios(sums)
        user, slot = sums.slot_cells
        weight, value, rows = (sums.by_slot(name) for name in (f"{self.key}/slot_w", f"{self.key}/slot_value", "rows"))
        requests = sums.total("requests")
        cells = share[slot] * divide(value - ratio[slot] * weight, total[slot]) + ratio[slot] * rows / requests
        by_user = np.bincount(user, cells, len(sums.users))
        return by_user - (share * ratio).sum() * sums["requests"] / requests


class SelfNormalizedIips(SlotNormalized, IndependentIps):
    """IIPS, each slot normalised by its own mean weight."""

    name, title = "sniips", "Self-normalised IIPS"


class SelfNormalizedRips(SlotNormalized, CascadeIps):
    """RIPS, each slot normalised by its own mean weight."""

    name, title = "snrips", "Self-normalised RIPS"


class CascadeDr(Estimator):
    """Σ_l [w_{1:l} (r_l − q_l) + w_{1:l−1} e_l], by request (Kiyohara et al., WSDM 2022).

    q and e may be of a slot's reward or of the reward from it on; the second makes narrower estimates, both are
    unbiased.
    """

    name, title, unit, modelled = "cascade_dr", "Cascade-DR", "request", True

    def weight(self, logged: LoggedRewards, policy: str) -> Array:
        return logged.needs("cascade_weights", policy, "`cascade_dr`")

    def terms(self, logged: LoggedRewards, policy: str) -> dict[str, Array]:
        found = super().terms(logged, policy)
        above = np.ones(len(logged))
        above[1:] = np.where(logged.first_of_request[1:], 1.0, self.weight(logged, policy)[:-1])
        found[f"{self.key}/expected"] = above * found[f"{self.key}/expected"]
        return found


class PseudoInverse(Estimator):
    """W̃ Σ_l r_l with W̃ = 1 − L + Σ_l w_l, by request (Swaminathan et al., NeurIPS 2017).

    Unbiased where a list's reward is a sum over slots and the logger fills slots independently; a logger that shows no
    item twice does not (it errs by about 1 % at ten slots of a large catalogue).
    """

    name, title, unit = "pi", "Pseudo-inverse", "request"
    needs_marginals = True

    def weight(self, logged: LoggedRewards, policy: str) -> Array:
        starts = np.flatnonzero(logged.first_of_request)
        if not len(starts):
            return np.zeros(0)
        length = np.diff(starts, append=len(logged))
        return np.repeat(1 - length + np.add.reduceat(logged.weights[policy], starts), length)


class PseudoInverseControlled(PseudoInverse):
    """The pseudo-inverse less β (mean W̃ − 1), whose expectation is 0 (Vlassis et al., NeurIPS 2021).

    β = cov(W̃ R, W̃) / var(W̃) over requests is the one of least variance. That it is estimated biases by about 1/n.
    """

    name, title = "pi_cv", "Pseudo-inverse with control variate"

    def terms(self, logged: LoggedRewards, policy: str) -> dict[str, Array]:
        weight, last = self.weight(logged, policy), last_of_request(logged)
        starts = np.flatnonzero(logged.first_of_request)
        reward = np.zeros(len(logged))
        if len(starts):
            reward[last] = np.add.reduceat(logged.reward, starts)
        found = {"w": weight * last, "ww": weight**2 * last, "changed": np.zeros(len(weight))}
        found |= {"value": weight * reward, "square": weight**2 * reward}
        return {f"{self.key}/{name}": column for name, column in found.items()}

    def _fit(self, sums: PolicySums) -> tuple[float, float, float, float]:
        """Means over requests of W̃ and W̃ R, var(W̃), and β, which is 0 where all weights are the same."""
        mean, square, value, product = (
            float(divide(sums.total(f"{self.key}/{name}"), sums.total("requests")))
            for name in ("w", "ww", "value", "square")
        )
        variance = square - mean**2
        varies = variance > 1e-12 * square
        return mean, value, variance, (product - value * mean) / variance if varies else 0.0

    def estimate(self, sums: PolicySums) -> float:
        mean, value, _, slope = self._fit(sums)
        return value - slope * (mean - 1)

    def influence(self, sums: PolicySums) -> Array:
        """As all; the linear form of β is in it, which matters where W̃ is not 1 on average."""
        mean, value, variance, slope = self._fit(sums)
        count, requests = sums.total("requests"), sums["requests"]
        w, ww, v, product = (sums[f"{self.key}/{name}"] for name in ("w", "ww", "value", "square"))
        weighted = product - mean * v - value * w + mean * value * requests  # of (W̃ R − value) (W̃ − mean), by user
        turned = weighted - slope * (ww - 2 * mean * w + mean**2 * requests)
        steeper = divide(turned, np.full(len(w), variance)) if slope else 0.0
        found = v - value * requests - slope * (w - mean * requests) - (mean - 1) * steeper
        return divide(found, np.full(len(w), count))


class AdaptiveIps(Estimator):
    """Σ_l ŵ_l r_l, ŵ as each request's user behaves: independently, downwards, or taking in the list as a whole.

    `behavior` says which; where that is right, it is unbiased with less variance than the standard (Kiyohara et al.,
    KDD 2023). `evaluation.replay.tuning.choose_behavior` chooses by stratum.
    """

    name, title, unit = "adaptive", "Adaptive IPS", "request"
    needs_marginals = True

    def weight(self, logged: LoggedRewards, policy: str) -> Array:
        what = f"`{self.name}`"
        downwards = logged.needs("cascade_weights", policy, what)
        choices = [logged.weights[policy], downwards, whole_list(logged, policy, what)]
        return np.choose(logged.shared("behavior", what), choices)

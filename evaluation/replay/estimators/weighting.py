"""Estimators of one impression's reward by weights alone; w is the policy's propensity over the logger's."""

from __future__ import annotations

import numpy as np

from evaluation.metrics.metric import divide
from evaluation.metrics.rows import Array
from evaluation.replay.estimators.estimator import Estimator, Quotient
from evaluation.replay.logged import LoggedRewards
from evaluation.replay.sums import PolicySums

SURE = 1e-9


class ReplayByRejection(Estimator):
    """Σ m r / Σ m over the rows that the policy would have shown for certain: m = 1 where its propensity is 1.

    For deterministic policies. Where the logger's propensities depend on the context, kept rows are not like all rows,
    and the estimate is biased (Li, Chu, Langford, Wang, WSDM 2011).
    """

    name, title, self_normalised = "replay", "Replay by rejection", True
    needs_marginals = True

    def weight(self, logged: LoggedRewards, policy: str) -> Array:
        return (logged.weights[policy] * logged.propensity > 1 - SURE).astype(np.float64)


class Ips(Estimator):
    """Σ w r / n: unbiased where the policy shows nothing that the logger could not show (Horvitz, Thompson, 1952)."""

    name, title = "ips", "IPS"

    def weight(self, logged: LoggedRewards, policy: str) -> Array:
        return logged.weights[policy]

    def terms(self, logged: LoggedRewards, policy: str) -> dict[str, Array]:
        return {}  # every log's sums have them

    def parts(self) -> list[Quotient]:
        return [Quotient("wr", "w" if self.self_normalised else "rows")]

    def diagnose(self, sums: PolicySums) -> dict[str, float]:
        weight, square = sums.total("w"), sums.total("ww")
        effective = float(divide(weight**2, square))
        return {
            "mean_weight": float(divide(weight, sums.total("rows"))),
            "effective_rows": effective,
            "changed_share": 0.0,
        }


class Snips(Ips):
    """Σ w r / Σ w: within the range of the rewards, biased by about 1/n (Swaminathan, Joachims, NeurIPS 2015)."""

    name, title, self_normalised = "snips", "SNIPS", True


class ClippedIps(Estimator):
    """Σ min(w, λ) r / n: biased downwards by what it clips, for rewards that are not negative."""

    name, title, default = "clipped_ips", "Clipped IPS", 100.0

    def weight(self, logged: LoggedRewards, policy: str) -> Array:
        return np.minimum(logged.weights[policy], self.number)


def sub_gaussian(weight: Array, strength: float) -> Array:
    """w / (1 − λ + λ w), for λ in [0, 1]: w at 0, and 1 (0 of w = 0) at 1."""
    return divide(weight, 1 - strength + strength * weight) if strength < 1 else (weight > 0).astype(np.float64)


class SubGaussianIps(Estimator):
    """Σ ŵ r / n with ŵ = w / (1 − λ + λ w): tails of 1/λ at most (Metelli, Russo, Restelli, NeurIPS 2021)."""

    name, title, default = "sub_gaussian_ips", "Sub-Gaussian IPS", 0.001
    highest = 1.0

    def weight(self, logged: LoggedRewards, policy: str) -> Array:
        return sub_gaussian(logged.weights[policy], self.number)


class BalancedIps(Estimator):
    """Σ ŵ r / Σ ŵ with ŵ of a classifier (`balanced_weights`), where propensities were not logged.

    ŵ = P(policy | row) / P(logger | row), of a classifier that tells rows with the policy's item from rows as logged
    (Sondhi, Arbour, Dimmery, AISTATS 2020). It is as good as the classifier is calibrated.
    """

    name, title, self_normalised = "balanced_ips", "Balanced IPS", True

    def weight(self, logged: LoggedRewards, policy: str) -> Array:
        return logged.needs("balanced_weights", policy, "`balanced_ips`")


class MarginalizedIps(Estimator):
    """Σ w(e) r / n with w(e) of the item's cluster: unbiased where items of a cluster earn alike.

    It needs only that the logger could show something of each cluster that the policy shows (Saito, Joachims,
    ICML 2022).
    """

    name, title = "mips", "MIPS"
    needs_marginals = True

    def weight(self, logged: LoggedRewards, policy: str) -> Array:
        return logged.needs("cluster_weights", policy, f"`{self.name}`")


class SelfNormalizedMips(MarginalizedIps):
    """Σ w(e) r / Σ w(e)."""

    name, title, self_normalised = "snmips", "SNMIPS", True

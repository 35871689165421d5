"""Estimators of one impression's reward that correct a model by weighted residuals.

q is the model's reward of what was shown, e its expectation of what the policy would show: Σ e / n + Σ ŵ (r − q) / n.
"""

from __future__ import annotations

import numpy as np

from evaluation.metrics.rows import Array
from evaluation.replay.estimators.estimator import Estimator, Quotient
from evaluation.replay.estimators.weighting import sub_gaussian
from evaluation.replay.logged import LoggedRewards
from evaluation.replay.sums import PolicySums


class DirectMethod(Estimator):
    """Σ e / n: no weights, so no variance of theirs, and all the bias of the model."""

    name, title, modelled = "dm", "Direct method", True

    def weight(self, logged: LoggedRewards, policy: str) -> Array:
        return np.zeros(len(logged))

    def terms(self, logged: LoggedRewards, policy: str) -> dict[str, Array]:
        return {f"{self.key}/expected": logged.needs("q_expected", policy, "`dm`")}

    def parts(self) -> list[Quotient]:
        return [Quotient(f"{self.key}/expected", "rows")]

    def diagnose(self, sums: PolicySums) -> dict[str, float]:
        return {}


class DoublyRobust(Estimator):
    """Σ (e + w (r − q)) / n: unbiased where the propensities or the model are right (Dudík et al., ICML 2011)."""

    name, title, modelled = "dr", "DR", True

    def weight(self, logged: LoggedRewards, policy: str) -> Array:
        return logged.weights[policy]


class SelfNormalizedDr(DoublyRobust):
    """Σ e / n + Σ w (r − q) / Σ w."""

    name, title, self_normalised = "sndr", "SNDR", True


class SwitchDr(Estimator):
    """Σ (e + 1[w ≤ λ] w (r − q)) / n: the model alone where weights are large (Wang, Agarwal, Dudík, ICML 2017)."""

    name, title, modelled, default = "switch_dr", "Switch-DR", True, 100.0

    def weight(self, logged: LoggedRewards, policy: str) -> Array:
        weight = logged.weights[policy]
        return np.where(weight <= self.number, weight, 0.0)


class ShrunkDr(Estimator):
    """DR with ŵ = λ w / (w² + λ): DM at λ = 0, DR at ∞ (Su, Dimakopoulou, Krishnamurthy, Dudík, ICML 2020)."""

    name, title, modelled, default = "shrunk_dr", "DR with shrinkage", True, 10_000.0

    def weight(self, logged: LoggedRewards, policy: str) -> Array:
        weight = logged.weights[policy]
        return weight / (1 + weight**2 / self.number) if self.number else np.zeros(len(weight))


class ClippedDr(Estimator):
    """DR with ŵ = min(w, λ)."""

    name, title, modelled, default = "clipped_dr", "Clipped DR", True, 100.0

    def weight(self, logged: LoggedRewards, policy: str) -> Array:
        return np.minimum(logged.weights[policy], self.number)


class SubGaussianDr(Estimator):
    """DR with ŵ = w / (1 − λ + λ w)."""

    name, title, modelled, default = "sub_gaussian_dr", "Sub-Gaussian DR", True, 0.001
    highest = 1.0

    def weight(self, logged: LoggedRewards, policy: str) -> Array:
        return sub_gaussian(logged.weights[policy], self.number)

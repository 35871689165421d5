"""Diagnostics of weights: does the logger show what the policy would, and do a few rows decide."""

from __future__ import annotations

import numpy as np

from evaluation.metrics.metric import divide
from evaluation.metrics.rows import Array
from evaluation.replay.diagnostics.diagnostic import Diagnostic, Evidence

MEAN_ONE = ("sips", "rips", "snrips", "cascade_dr", "mips", "snmips")
"""Estimators whose own weights, of lists or clusters, have mean 1 where the policy's do."""

CUTTING = ("clipped_ips", "sub_gaussian_ips", "dm", "switch_dr", "shrunk_dr", "clipped_dr", "sub_gaussian_dr")
"""Estimators that make weights smaller."""

MORE = "Log more, let the logger explore more, or replay a candidate that is nearer to the logger."


class MeanWeight(Diagnostic):
    """|mean w − 1|: 0 in expectation where propensities are right and the logger can show all that the policy does.

    A deviation within four standard errors by user passes up to a quarter.
    """

    name, title, bound = "mean_weight", "Overlap (mean weight)", 0.02
    reason = (
        "The weights' mean is {value} away from 1 (at most {bound}, and four standard errors): the logger does not "
        "show what the policy would, or the propensities are wrong."
    )
    remedy = "Check that propensities are of the items shown, and let the logger show every candidate now and then."

    noise = 0.25

    def measure(self, evidence: Evidence) -> float | None:
        sums = evidence.sums
        weight, rows = sums[_weights(evidence) if evidence.estimator.name in MEAN_ONE else "w"], sums["rows"]
        mean = float(divide(weight.sum(), rows.sum()))
        users = len(rows)
        error = np.sqrt(((weight - mean * rows) ** 2).sum() * users / max(users - 1, 1)) / max(rows.sum(), 1)
        away = abs(mean - 1)
        return away if away > min(4 * error, self.noise) or not np.isfinite(away) else 0.0


class Unsupported(Diagnostic):
    """The share of the policy's probability on items that the logger could not show: no log says what they earn."""

    name, title, bound = "unsupported", "Support violations", 0.01
    reason = "{value} of what the policy shows could not be shown by the logger (at most {bound})."
    remedy = (
        "Let the logger give every candidate of the policy a positive propensity, or leave those out of the policy."
    )

    def measure(self, evidence: Evidence) -> float | None:
        return evidence.unsupported


class EffectiveSample(Diagnostic):
    """(Σ_u W_u)² / Σ_u W_u², W_u the weights of a user: how many users of one weight say as much (Kish)."""

    name, title, bound, at_least = "effective_sample", "Effective sample size", 300.0, True
    reason = "The weights are worth {value} users of equal weight; intervals hold as often as they say from {bound} on."
    remedy = MORE

    def measure(self, evidence: Evidence) -> float | None:
        weight = evidence.sums[_weights(evidence)]
        return float(divide(weight.sum() ** 2, (weight**2).sum())) if weight.any() else None


class LargestShare(Diagnostic):
    """The largest part that one user has of all weight."""

    name, title, bound = "largest_share", "Largest weight share", 0.02
    reason = "One user has {value} of all weight (at most {bound})."
    remedy = MORE

    def measure(self, evidence: Evidence) -> float | None:
        weight = np.abs(evidence.sums[_weights(evidence)])
        return float(weight.max() / weight.sum()) if weight.any() else None


class Contributions(Diagnostic):
    """(Σ ψ_u²)² / Σ ψ_u⁴: how many users the variance rests on; rare rewards make it small."""

    name, title, bound, at_least = "contributions", "Users behind the variance", 20.0, True
    reason = "The variance rests on {value} users (at least {bound}): few have a reward with weight."
    remedy = "Log more, or take a reward that is less rare."

    def measure(self, evidence: Evidence) -> float | None:
        return contributions(evidence.estimator.influence(evidence.sums))


class WeightTail(Diagnostic):
    """k̂, the generalised Pareto shape of the largest weights (one a user): above 1/2 their variance has no limit.

    Fitted to the largest 3 √U, at most a fifth of all (Vehtari, Simpson, Gelman, Yao, Gabry, Pareto smoothed
    importance sampling, JMLR 25, 2024, who trust estimates up to 0.7). The value is k̂ less its standard error (1 +
    k̂) / √M. It is 0 where the largest weight has under a hundredth of Σ w²: of a tail without a variance it has a
    large part, however many rows there are, and to few different weights, as of few contexts, no tail can be fitted.
    """

    name, title, bound = "weight_tail", "Weight tail", 0.7
    reason = "The largest weights grow like a Pareto tail of shape {value} (at most {bound}): larger ones are to come."
    remedy = MORE + " Clipping or shrinkage bounds the weights, at the price of a bias."

    lost = 0.01

    def measure(self, evidence: Evidence) -> float | None:
        if _weights(evidence) != "w":
            return None  # the sums hold the largest of the policy's own weights alone
        largest = np.sort(evidence.sums.largest_weight)
        count = int(min(0.2 * len(largest), 3 * np.sqrt(len(largest))))
        if count < 10:
            return None
        if largest[-1] ** 2 < self.lost * evidence.sums.total("ww"):
            return 0.0
        shape = pareto_shape(largest[-count:] - largest[-count - 1])
        return float(shape - (1 + max(shape, 0.0)) / np.sqrt(count))


class ClippedShare(Diagnostic):
    """The share of all weight that the estimator cuts off: that much is judged by a model or not at all."""

    name, title, bound = "clipped_share", "Clipped share", 0.05
    reason = "The estimator cuts off {value} of all weight (at most {bound}): that much of the policy it does not see."
    remedy = "Raise the limit, take an estimator that corrects by a model, or one that does not clip."

    def measure(self, evidence: Evidence) -> float | None:
        column = _weights(evidence)
        if evidence.estimator.name not in CUTTING:
            return None
        return float(1 - divide(evidence.sums.total(column), evidence.sums.total("w")))


class Classifier(Diagnostic):
    """How far the classifier behind `balanced_ips` is from calibrated: its weights are right as far as it is."""

    name, title, bound = "classifier", "Calibration of the weights' classifier", 0.03
    reason = (
        "The classifier that the weights are made of is {value} away from the shares that it tells (at most {bound})."
    )
    remedy = "Give it the features that the policy and the logger go by, crossed with the item, and more rows."

    def measure(self, evidence: Evidence) -> float | None:
        return evidence.classifier_error if evidence.estimator.name == "balanced_ips" else None


def contributions(influence: Array) -> float | None:
    """(Σ ψ_u²)² / Σ ψ_u⁴ of an influence ψ [U]; None where nothing deviates at all, and nothing is to be distrusted."""
    squares = influence**2
    return float(divide(squares.sum() ** 2, (squares**2).sum())) if squares.any() else None


def pareto_shape(excess: Array) -> float:
    """Shape of a generalised Pareto distribution: 0 that of an exponential tail, below it a bounded one.

    By the quasi-Bayesian estimate of Zhang and Stephens (Technometrics 51, 2009), drawn to 1/2 as by ten observations.

    Args:
      excess: [M] what values exceed a threshold by, rising, not negative.

    Returns:
      The shape; -inf where all values are equal.
    """
    count, quartile = len(excess), excess[int(len(excess) / 4 + 0.5) - 1]
    if excess[-1] <= 0:
        return -np.inf
    quartile = quartile if quartile > 0 else excess[excess > 0][0]
    grid = 30 + int(np.sqrt(count))
    scale = 1 / excess[-1] + (1 - np.sqrt(grid / (np.arange(1, grid + 1) - 0.5))) / (3 * quartile)
    shape = np.log1p(-scale[:, None] * excess).mean(axis=1)
    likelihood = count * (np.log(-scale / shape) - shape - 1)
    with np.errstate(over="ignore"):  # what is too unlikely has no weight
        weight = 1 / np.exp(likelihood - likelihood[:, None]).sum(axis=1)
    found = np.log1p(-(weight * scale).sum() / weight.sum() * excess).mean()
    return float((found * count + 0.5 * 10) / (count + 10))


def _weights(evidence: Evidence) -> str:
    """The column of the weights that the estimator uses; the policy's own where it has none."""
    column = f"{evidence.estimator.key}/w"
    return column if f"{evidence.sums.name}/{column}" in evidence.sums.sums.by_user.columns else "w"

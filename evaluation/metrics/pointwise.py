"""Metrics of single predictions: how far probabilities are from what happened.

Equations are in docs/evaluation.md. y is the label, p the predicted probability, N the number of rows.
"""

from __future__ import annotations

import numpy as np

from evaluation.metrics.rows import (
    CollectedMetric,
    Metric,
    ScoredRows,
    SummedMetric,
)
from evaluation.results import Estimate, ReliabilityBin

EPSILON = 1e-7
"""Probabilities are clipped to [EPSILON, 1 − EPSILON] before a logarithm: below float32's resolution near 1."""


def row_log_loss(label: np.ndarray, score: np.ndarray) -> np.ndarray:
    """−y log p − (1 − y) log(1 − p), natural logarithm, per row [N]."""
    score = np.clip(score, EPSILON, 1 - EPSILON)
    return -np.where(label > 0, np.log(score), np.log1p(-score))


def entropy(rate: np.ndarray | float) -> np.ndarray | float:
    """Entropy of a Bernoulli variable in nats; 0 at 0 and 1."""
    total = 0.0
    for share in (np.asarray(rate, np.float64), 1 - np.asarray(rate, np.float64)):
        total = total - share * np.log(np.where(share > 0, share, 1.0))
    return total


def divide(numerator, denominator):
    """The quotient; NaN where the denominator is 0."""
    numerator, denominator = np.asarray(numerator, np.float64), np.asarray(denominator, np.float64)
    return np.divide(numerator, denominator, out=np.full(numerator.shape, np.nan), where=denominator != 0)


class LogLoss(SummedMetric):
    """Mean of `row_log_loss`."""

    def _sums(self, rows: ScoredRows) -> np.ndarray:
        return np.array([row_log_loss(rows.label, rows.score).sum(), len(rows)])

    def result(self) -> float:
        return np.nan if self.is_empty else float(self.sums[0] / self.sums[1])


class NormalizedEntropy(SummedMetric):
    """Log loss over the entropy of the mean click rate: below 1 is better than always predicting that rate.

    He et al., Practical Lessons from Predicting Clicks on Ads at Facebook, ADKDD 2014, equation 1. Undefined where all
    labels are alike.
    """

    def _sums(self, rows: ScoredRows) -> np.ndarray:
        return np.array([row_log_loss(rows.label, rows.score).sum(), rows.label.sum(), len(rows)])

    def result(self) -> float:
        if self.is_empty:
            return np.nan
        loss, positives, count = self.sums
        return float(divide(loss / count, entropy(positives / count)))


class PCOC(SummedMetric):
    """Predicted clicks over observed clicks: Σp / Σy. Above 1 the model promises too much. Undefined without clicks."""

    def _sums(self, rows: ScoredRows) -> np.ndarray:
        return np.array([rows.score.sum(), rows.label.sum()])

    def result(self) -> float:
        return np.nan if self.is_empty else float(divide(self.sums[0], self.sums[1]))


class EqualWidthECE(SummedMetric):
    """Expected calibration error over bins of equal width: Σ_b n_b/N · |mean p − mean y|, bins over [0, 1].

    Guo et al., On Calibration of Modern Neural Networks, ICML 2017, equation 3. Where click rates are low nearly all
    rows share a bin: prefer `EqualMassECE`.

    Args:
      num_bins: how many.
    """

    def __init__(self, num_bins: int = 15):
        super().__init__()
        self.num_bins = _positive("num_bins", num_bins)

    def _sums(self, rows: ScoredRows) -> np.ndarray:
        bins = np.clip((rows.score * self.num_bins).astype(np.int64), 0, self.num_bins - 1)
        return _bin_sums(bins, self.num_bins, rows.label, rows.score)

    def merge(self, other: Metric) -> Metric:
        self._check_same(other, "num_bins")
        return super().merge(other)

    def result(self) -> float:
        return np.nan if self.is_empty else _ece(self.sums)


class EqualMassECE(CollectedMetric):
    """Expected calibration error over bins that hold equally many rows.

    Nixon et al., Measuring Calibration in Deep Learning, CVPR workshops 2019. Rows of equal score share a bin, so that
    the result does not depend on the rows' order; bins are then not quite of equal mass.

    Args:
      num_bins: how many.
    """

    def __init__(self, num_bins: int = 15):
        super().__init__()
        self.num_bins = _positive("num_bins", num_bins)

    def merge(self, other: Metric) -> Metric:
        self._check_same(other, "num_bins")
        return super().merge(other)

    def result(self) -> float:
        label, score, _ = self.collected()
        if not len(label):
            return np.nan
        return _ece(_bin_sums(equal_mass_bins(score, self.num_bins), self.num_bins, label, score))


def equal_mass_bins(score: np.ndarray, num_bins: int) -> np.ndarray:
    """Bin of each row [N], 0 … num_bins − 1 by rising score; equal scores go to the bin of the first of them."""
    order = np.argsort(score, kind="stable")
    ordered = score[order]
    first = np.maximum.accumulate(np.where(np.r_[True, ordered[1:] != ordered[:-1]], np.arange(len(score)), 0))
    bins = np.empty(len(score), np.int64)
    bins[order] = first * num_bins // len(score)
    return bins


def reliability_bins(
    label: np.ndarray, score: np.ndarray, num_bins: int = 20, z: float = 1.96
) -> tuple[ReliabilityBin, ...]:
    """The reliability diagram: equal-mass bins with Wilson's interval around the observed rate.

    Args:
      label: [N], 0 or 1.
      score: [N], probabilities.
      num_bins: at most this many; empty ones are left out.
      z: quantile of the normal distribution; 1.96 gives 95%.
    """
    if not len(label):
        return ()
    bins = equal_mass_bins(score, num_bins)
    sums = _bin_sums(bins, num_bins, label, score)
    lowest, highest = np.full(num_bins, np.inf), np.full(num_bins, -np.inf)
    np.minimum.at(lowest, bins, score)
    np.maximum.at(highest, bins, score)
    found = []
    for b in np.flatnonzero(sums[:, 0]):
        count, rate = sums[b, 0], sums[b, 2] / sums[b, 0]
        middle = (rate + z * z / (2 * count)) / (1 + z * z / count)
        half = z / (1 + z * z / count) * np.sqrt(rate * (1 - rate) / count + z * z / (4 * count * count))
        observed = Estimate(value=rate, low=max(0.0, middle - half), high=min(1.0, middle + half))
        found.append(
            ReliabilityBin(
                lowest=lowest[b], highest=highest[b], mean_score=sums[b, 1] / count, observed=observed, rows=int(count)
            )
        )
    return tuple(found)


def _bin_sums(bins, num_bins, label, score) -> np.ndarray:
    """[num_bins, 3]: rows, sum of scores, sum of labels."""
    columns = (None, score, label.astype(np.float64))
    return np.stack([np.bincount(bins, column, num_bins).astype(np.float64) for column in columns], axis=1)


def _ece(sums: np.ndarray) -> float:
    return float(np.abs(sums[:, 1] - sums[:, 2]).sum() / sums[:, 0].sum())


def _positive(name: str, value: int) -> int:
    if value < 1:
        raise ValueError(f"`{name}` must be positive. Received: `{name}`={value}.")
    return int(value)

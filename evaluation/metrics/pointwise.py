"""Metrics of single predictions: how far probabilities are from what happened.

Equations are in docs/reference/metrics.md. y is the label, p the predicted probability, N the number of rows.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from evaluation.metrics.metric import Metric, SumMetric, Users, divide
from evaluation.metrics.rows import Array, ScoredRows

EPSILON = 1e-7
"""Probabilities are clipped to [EPSILON, 1 − EPSILON] before a logarithm: below float32's resolution near 1."""


def row_log_loss(label: Array, score: Array) -> Array:
    """−y log p − (1 − y) log(1 − p), natural logarithm, per row [N]."""
    score = np.clip(score, EPSILON, 1 - EPSILON)
    return -np.where(label > 0, np.log(score), np.log1p(-score))


class LogLoss(SumMetric):
    """Mean of `row_log_loss`."""

    name, title = "log_loss", "Log loss"
    lower_is_better, is_ratio = True, True

    def sums(self, rows: ScoredRows, users: Users) -> Array:
        return users.sums(row_log_loss(rows.label, rows.score), 1.0)

    def finish(self, totals: Array) -> Array:
        return divide(*totals)


class NormalizedEntropy(SumMetric):
    """Log loss over the entropy of the mean click rate: below 1 is better than always predicting that rate.

    He et al., Practical Lessons from Predicting Clicks on Ads at Facebook, ADKDD 2014, equation 1. Undefined where all
    labels are alike.
    """

    name, title = "normalized_entropy", "Normalised entropy"
    lower_is_better, is_ratio = True, True

    def sums(self, rows: ScoredRows, users: Users) -> Array:
        return users.sums(row_log_loss(rows.label, rows.score), rows.label, 1.0)

    def finish(self, totals: Array) -> Array:
        loss, positives, count = totals
        rate = divide(positives, count)
        rate = np.where((rate > 0) & (rate < 1), rate, np.nan)
        return divide(loss, -count * (rate * np.log(rate) + (1 - rate) * np.log1p(-rate)))


class PCOC(SumMetric):
    """Predicted clicks over observed clicks: Σp / Σy. Above 1 the model promises too much. Undefined without clicks."""

    name, title = "pcoc", "PCOC"
    lower_is_better, is_ratio = None, True

    def sums(self, rows: ScoredRows, users: Users) -> Array:
        return users.sums(rows.score, rows.label)

    def finish(self, totals: Array) -> Array:
        return divide(*totals)


class EqualWidthECE(SumMetric):
    """Expected calibration error over bins of equal width: Σ_b n_b/N · |mean p − mean y|, bins over [0, 1].

    Guo et al., On Calibration of Modern Neural Networks, ICML 2017, equation 3. Where click rates are low nearly all
    rows share a bin: prefer `EqualMassECE`. It has no interval: it sums absolute values, so noise only adds to it.
    """

    name, title = "ece_equal_width", "ECE (equal width)"
    lower_is_better = True
    has_interval = False
    num_bins = 15

    def sums(self, rows: ScoredRows, users: Users) -> Array:
        bins = equal_width_bins(rows.score, self.num_bins)
        return users.sums(rows.score, rows.label, 1.0, bins=bins, num_bins=self.num_bins)

    def finish(self, totals: Array) -> Array:
        scores, labels, counts = totals.reshape(3, self.num_bins, *totals.shape[1:])
        return divide(np.abs(scores - labels).sum(axis=0), counts.sum(axis=0))


class EqualMassECE(Metric):
    """Expected calibration error over bins that hold equally many rows.

    Nixon et al., Measuring Calibration in Deep Learning, CVPR workshops 2019. Rows of equal score share a bin, so that
    the result does not depend on the rows' order; bins are then not quite of equal mass. The bins depend on all rows,
    so the rows themselves are kept. It has no interval, as `EqualWidthECE` has none.
    """

    name, title = "ece_equal_mass", "ECE (equal mass)"
    lower_is_better = True
    has_interval = False
    num_bins = 15

    def sums(self, rows: ScoredRows, users: Users) -> KeptRows:
        order = rows.by_score  # the bins sort what is sorted, in linear time
        return KeptRows(rows.label[order], rows.score[order])

    def value(self, sums: KeptRows) -> float:
        bins = equal_mass_bins(sums.score, self.num_bins)
        gaps = np.bincount(bins, sums.score - sums.label, self.num_bins)
        return float(divide(np.abs(gaps).sum(), len(sums.label)))


@dataclass(frozen=True)
class KeptRows:
    """Labels and scores of rows, [N]: for a metric that only all rows together decide."""

    label: Array
    score: Array

    def __add__(self, other: KeptRows) -> KeptRows:
        both = ((getattr(self, name), getattr(other, name)) for name in ("label", "score"))
        return KeptRows(*(np.concatenate(columns) for columns in both))


def equal_width_bins(score: Array, num_bins: int) -> Array:
    """Bin of each row [N], 0 … num_bins − 1 over [0, 1]; scores outside go to the outer bins."""
    return np.clip((score * num_bins).astype(np.int64), 0, num_bins - 1)


def equal_mass_bins(score: Array, num_bins: int) -> Array:
    """Bin of each row [N], 0 … num_bins − 1 by rising score; equal scores go to the bin of the first of them."""
    if not len(score):
        return np.empty(0, np.int64)
    order = np.argsort(score, kind="stable")
    ordered = score[order]
    first = np.maximum.accumulate(np.where(np.r_[True, ordered[1:] != ordered[:-1]], np.arange(len(score)), 0))
    bins = np.empty(len(score), np.int64)
    bins[order] = first * num_bins // len(score)
    return bins

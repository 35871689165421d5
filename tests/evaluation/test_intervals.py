"""Intervals: closed forms, leaving out as computing anew, pairs, and how often they cover."""

import numpy as np
import pytest

from benchmarks.evaluation.retrains import users_rows
from evaluation.intervals import MetricStatistics, effective_users, estimate, t_quantile
from evaluation.metrics.registry import compute_metrics
from evaluation.metrics.rows import ScoredRows


def sample(seed, users=150, spread=0.0):
    return users_rows(np.random.default_rng(seed), users, spread, -2.0)


NAMES = ("auc", "gauc_user", "log_loss", "normalized_entropy", "pcoc", "ndcg@5", "mrr")


def test_of_a_mean_it_is_the_textbook_interval():
    generator = np.random.default_rng(0)
    values = generator.normal(3, 2, 4000)
    without = (values.sum() - values) / (len(values) - 1)
    found = estimate(values.mean(), without)
    half = 1.96 * values.std(ddof=1) / np.sqrt(len(values))
    assert (found.low, found.high) == pytest.approx((values.mean() - half, values.mean() + half), rel=1e-3)


def test_of_a_ratio_it_is_made_on_the_logarithm():
    without = np.exp(np.random.default_rng(0).normal(0, 0.01, 100))
    ratio, plain = estimate(1.0, without, is_ratio=True), estimate(1.0, without)
    assert ratio.low * ratio.high == pytest.approx(1.0)
    assert plain.low + plain.high == pytest.approx(2.0)
    # no logarithm of 0: the interval is as that of other metrics
    assert estimate(0.0, np.zeros(5), is_ratio=True).low == 0


def test_students_quantiles():
    for freedom, expected in ((2, 4.303), (3, 3.182), (5, 2.571), (10, 2.228), (30, 2.042), (1e9, 1.960)):
        assert t_quantile(0.975, freedom) == pytest.approx(expected, rel=0.01)


def test_leaving_a_user_out_is_computing_anew():
    rows = sample(0, users=25, spread=1.0)
    found = MetricStatistics(rows, NAMES)
    assert found.values == pytest.approx(list(compute_metrics(rows, NAMES).values()), rel=1e-12)
    for i, user in enumerate(np.unique(rows.user)):
        expected = compute_metrics(rows.take(rows.user != user), NAMES)
        assert found.without[:, i] == pytest.approx(list(expected.values()), rel=1e-12)


@pytest.mark.parametrize("keys", [lambda user: user * 2**40 - 7, lambda user: user[::-1] * 3])
def test_users_may_have_any_keys(keys):
    rows = sample(0, users=25)
    rows = ScoredRows(rows.label, rows.score, rows.user, rows.request)
    other = ScoredRows(rows.label, rows.score, keys(np.arange(25))[rows.user], rows.request)
    one, two = (MetricStatistics(each, NAMES).estimates(0.95) for each in (rows, other))
    for name in NAMES:
        assert (one[name].low, one[name].high) == pytest.approx((two[name].low, two[name].high), rel=1e-12)


def test_paired_differences_are_narrower_than_independent_ones():
    rows = sample(0)
    other = ScoredRows(rows.label, rows.score**1.5 + 0.01 * np.sin(np.arange(len(rows))) + 0.1, rows.user, rows.request)
    one, two = (MetricStatistics(each, ["auc"]) for each in (rows, other))
    width = {
        name: found["auc"].high - found["auc"].low
        for name, found in (
            ("one", one.estimates(0.95)),
            ("two", two.estimates(0.95)),
            ("paired", one.differences(two, 0.95)),
        )
    }
    assert 0 < width["paired"] < np.hypot(width["one"], width["two"]) / 5


def test_no_interval_where_one_user_carries_the_value():
    # the only click is user 4's: without it neither AUC nor PCOC exists
    rows = ScoredRows([1.0, 0.0, 0.0], [0.9, 0.1, 0.95], [4, 1, 2], [0, 1, 2])
    found = MetricStatistics(rows, ["auc", "pcoc", "log_loss"]).estimates(0.95)
    assert (found["auc"].value, found["auc"].low) == (0.5, None)
    assert (found["pcoc"].value, found["pcoc"].low) == (pytest.approx(1.95), None)
    assert found["log_loss"].low is not None
    alone = MetricStatistics(ScoredRows([1.0, 0.0], [0.9, 0.1], [0, 0], [0, 0]), ["auc"]).estimates(0.95)
    assert (alone["auc"].value, alone["auc"].low) == (1.0, None)
    assert estimate(np.nan, np.ones(5)).value is None


def test_intervals_cover_the_truth_as_often_as_they_say_where_users_differ_in_rows():
    """At a Kish number of users of 60; resampled percentiles cover 0.89 to 0.92 of such PCOC and log loss."""
    names, trials, users = ("auc", "log_loss", "pcoc"), 600, 150
    truth = compute_metrics(sample(999, users=60_000, spread=1.0), names)
    covered, kish = dict.fromkeys(names, 0), []
    for trial in range(trials):
        rows = sample(trial, users=users, spread=1.0)
        kish.append(effective_users(rows.user))
        for name, found in MetricStatistics(rows, names).estimates(0.95).items():
            covered[name] += found.low <= truth[name] <= found.high
    assert np.mean(kish) == pytest.approx(60, abs=5)
    # 600 trials have a standard error of 0.9%
    assert all(0.93 <= each / trials <= 0.975 for each in covered.values()), covered


def test_errors():
    rows = ScoredRows([1.0, 0.0], [0.9, 0.1], [0, 1], [7, 7])
    with pytest.raises(ValueError, match="a request must have one user"):
        MetricStatistics(rows, ["mrr"])
    with pytest.raises(ValueError, match="`ece_equal_mass` has no interval"):
        MetricStatistics(rows, ["ece_equal_mass"])

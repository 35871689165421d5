"""Metrics on closed forms, at chance, and with the values of before; tests/contracts/test_metrics.py does the rest."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluation.metrics.metric import Users
from evaluation.metrics.ranking import BinnedAUC
from evaluation.metrics.registry import compute_metrics, make_metric
from evaluation.metrics.rows import ScoredRows, dense_codes, rank_within_groups, stable_order
from evaluation.ranking import reliability_bins


def rows_of(label, score, user=None, request=None):
    zeros = np.zeros(len(label), np.int64)
    return ScoredRows(
        np.array(label, float),
        np.array(score, float),
        zeros if user is None else np.array(user),
        zeros if request is None else np.array(request),
    )


#: Values as the code before the metric classes gave them, by states of their own.
BEFORE = {
    "auc": 0.868480945233,
    "auc_binned": 0.868480945233,
    "gauc_user": 0.782997640431,
    "gauc_request": 0.634845679012,
    "log_loss": 0.493186012225,
    "normalized_entropy": 0.757028477505,
    "pcoc": 1.400280373832,
    "ece_equal_mass": 0.142766666667,
    "ece_equal_width": 0.142766666667,
    "ndcg@1": 0.629629629630,
    "ndcg@3": 0.571140523819,
    "ndcg@10": 0.758436428090,
    "mrr": 0.727226631393,
}


def test_values_are_those_of_before():
    n = np.arange(600)
    score = (n * 37 % 101) / 100
    label = ((n * 53 % 97) / 97 < score**2).astype(float)
    found = compute_metrics(rows_of(label, score, n * 7 % 60 // 2, n * 7 % 60), BEFORE)
    assert found == pytest.approx(BEFORE, abs=1e-9)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.floats(0, 1)), min_size=1, max_size=40), st.integers(1, 20))
def test_binned_auc_errs_by_half_the_share_of_pairs_in_one_bin(drawn, num_bins):
    label, score = (np.array(column, float) for column in zip(*drawn, strict=True))
    rows, metric = rows_of(label, score), BinnedAUC()
    metric.num_bins = num_bins
    counts = metric.sums(rows, Users.one(len(rows)))
    positives, negatives = counts.reshape(2, num_bins)
    exact, binned = compute_metrics(rows, ["auc"])["auc"], metric.value(counts)
    if math.isnan(exact):
        assert math.isnan(binned)
    else:
        assert abs(binned - exact) <= positives @ negatives / (2 * positives.sum() * negatives.sum()) + 1e-12


@pytest.mark.parametrize("count", [1, 7, 60_000, 70_000, 5_000_000_000])
def test_rows_in_the_order_of_their_codes(count):
    codes = np.random.default_rng(0).integers(0, count, 2000)
    np.testing.assert_array_equal(stable_order(codes, count), np.argsort(codes, kind="stable"))


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(-(2**63), 2**63 - 1) | st.integers(0, 9), max_size=30))
def test_codes_are_those_of_sorting(keys):
    known, expected = np.unique(np.array(keys, np.int64), return_inverse=True)
    codes, count = dense_codes(np.array(keys, np.int64))
    assert codes.tolist() == expected.tolist() and count == len(known)


def test_groups_are_ranked_as_by_sorting_both_keys():
    generator = np.random.default_rng(0)
    label, score = generator.random(500) < 0.3, generator.integers(0, 20, 500) / 20
    group = generator.integers(0, 2**40, 60)[generator.integers(0, 60, 500)]
    ranked = rank_within_groups(label, score, group)
    np.testing.assert_array_equal(ranked.rows, np.lexsort((score, group)))
    assert ranked.keys.tolist() == np.unique(group).tolist()


def test_closed_forms():
    rows = rows_of([1, 0, 1, 0], [0.9, 0.8, 0.3, 0.1], [0, 0, 1, 1], [0, 0, 1, 1])
    found = compute_metrics(rows, ["auc", "gauc_user", "pcoc", "mrr"])
    assert found == {"auc": 0.75, "gauc_user": 1.0, "pcoc": pytest.approx(1.05), "mrr": 1.0}
    # the click at rank 3 of one request
    rows = rows_of([0, 0, 1], [0.9, 0.5, 0.1])
    found = compute_metrics(rows, ["mrr", "ndcg@3", "ndcg@2"])
    assert found == {"mrr": pytest.approx(1 / 3), "ndcg@3": pytest.approx(0.5), "ndcg@2": 0.0}
    # always predicting the mean rate has normalised entropy 1
    assert compute_metrics(rows_of([1, 0, 0, 0], [0.25] * 4), ["normalized_entropy"])[
        "normalized_entropy"
    ] == pytest.approx(1)


def test_gauc_weighs_by_impressions_and_skips_users_of_one_label():
    # user 0: AUC 1 over 2 rows; user 1: AUC 0 over 4 rows; user 2: one label only
    rows = rows_of([1, 0, 0, 0, 0, 1, 1, 1], [0.9, 0.1, 0.5, 0.6, 0.7, 0.1, 0.2, 0.3], [0, 0, 1, 1, 1, 1, 2, 2])
    assert compute_metrics(rows, ["gauc_user"])["gauc_user"] == pytest.approx(2 / 6)


def test_shuffled_labels_give_chance():
    generator = np.random.default_rng(0)
    n = 200_000
    rows = rows_of(generator.random(n) < 0.2, generator.random(n), np.arange(n) // 40, np.arange(n) // 10)
    found = compute_metrics(rows, ["auc", "gauc_user", "gauc_request"])
    assert all(abs(value - 0.5) < 0.01 for value in found.values()), found


def test_constant_scores_earn_chance_whatever_the_order_of_rows():
    n = 1000
    label = (np.arange(n) % 10 == 0).astype(float)  # clicks always first in the log
    found = compute_metrics(rows_of(label, np.full(n, 0.3), None, np.arange(n) // 10), ["auc", "gauc_request", "mrr"])
    assert (found["auc"], found["gauc_request"]) == pytest.approx((0.5, 0.5))
    assert found["mrr"] == pytest.approx(sum(1 / r for r in range(1, 11)) / 10)


def test_errors_name_what_is_wrong():
    with pytest.raises(ValueError, match=r"`label` must be 0 or 1. Received: `label`\[1\]=2"):
        rows_of([0, 2], [0.1, 0.2])
    with pytest.raises(ValueError, match="`score` must be finite"):
        rows_of([0, 1], [0.1, math.nan])
    with pytest.raises(ValueError, match="Did you mean `gauc_user`"):
        make_metric("gauc_usr")
    for name in ("ndcg", "ndcg@", "ndcg@x", "auc@5", "ndcg@k"):
        with pytest.raises(ValueError, match=f"`{name}` is not a metric"):
            make_metric(name)
    with pytest.raises(ValueError, match="`k` should be a positive integer. Received: `k` = 0"):
        make_metric("ndcg@0")


def test_reliability_bins_hold_all_rows_and_the_truth():
    generator = np.random.default_rng(1)
    score = generator.random(50_000)
    label = (generator.random(50_000) < score).astype(float)
    bins = reliability_bins(label, score, 10)
    assert sum(b.rows for b in bins) == 50_000
    assert len(bins) == 10
    assert sum(b.observed.low <= b.mean_score <= b.observed.high for b in bins) >= 8
    assert all(a.highest <= b.lowest for a, b in zip(bins, bins[1:], strict=False))
    assert len(reliability_bins(np.array([0.0, 1.0]), np.array([0.5, 0.5]), 10)) == 1
    assert reliability_bins(np.empty(0), np.empty(0)) == ()

"""Every metric against a naive reference, on closed forms and under any split of the rows."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluation.metrics.pointwise import reliability_bins
from evaluation.metrics.ranking import BinnedAUC
from evaluation.metrics.registry import (
    compute_metrics,
    make_metric,
    make_metrics,
    merge_metrics,
    results,
    update_metrics,
)
from evaluation.metrics.rows import ScoredRows

NAMES = (
    "auc",
    "auc_binned",
    "gauc_user",
    "gauc_request",
    "log_loss",
    "normalized_entropy",
    "pcoc",
    "ece_equal_mass",
    "ece_equal_width",
    "ndcg@1",
    "ndcg@3",
    "mrr",
)


def rows_of(label, score, user=None, request=None):
    zeros = np.zeros(len(label), np.int64)
    return ScoredRows(
        np.array(label, float),
        np.array(score, float),
        zeros if user is None else np.array(user),
        zeros if request is None else np.array(request),
    )


@st.composite
def scored_rows(draw):
    size = draw(st.integers(1, 40))
    score = st.one_of(st.sampled_from([0.0, 0.25, 0.5, 1.0]), st.floats(0, 1))  # ties are common
    column = lambda values: draw(st.lists(values, min_size=size, max_size=size))  # noqa: E731
    request = np.array(column(st.integers(0, 5)))
    return rows_of(column(st.integers(0, 1)), column(score), request // 2, request)


def naive_auc(label, score):
    pairs = [
        (score[i] > score[j]) + 0.5 * (score[i] == score[j])
        for i in range(len(label))
        for j in range(len(label))
        if label[i] == 1 and label[j] == 0
    ]
    return sum(pairs) / len(pairs) if pairs else math.nan


def groups_of(keys):
    return [np.flatnonzero(keys == key) for key in np.unique(keys)]


def naive_gauc(rows, keys):
    parts = [(len(g), naive_auc(rows.label[g], rows.score[g])) for g in groups_of(keys)]
    parts = [(size, value) for size, value in parts if not math.isnan(value)]
    return sum(size * value for size, value in parts) / sum(size for size, _ in parts) if parts else math.nan


def naive_ece(label, score, bins):
    return sum(abs((score[bins == b] - label[bins == b]).sum()) for b in np.unique(bins)) / len(label)


def naive_results(rows):
    label, score, n = rows.label, rows.score, len(rows)
    loss = np.mean(
        [-math.log(p) if y else -math.log(1 - p) for y, p in zip(label, np.clip(score, 1e-7, 1 - 1e-7), strict=True)]
    )
    rate = label.mean()
    entropy = -sum(q * math.log(q) for q in (rate, 1 - rate) if q > 0)
    first = np.array([(score < s).sum() for s in score])
    return {
        "auc": naive_auc(label, score),
        "gauc_user": naive_gauc(rows, rows.user),
        "gauc_request": naive_gauc(rows, rows.request),
        "log_loss": loss,
        "normalized_entropy": loss / entropy if 0 < rate < 1 else math.nan,
        "pcoc": score.sum() / label.sum() if label.any() else math.nan,
        "ece_equal_width": naive_ece(label, score, np.minimum((score * 15).astype(int), 14)),
        "ece_equal_mass": naive_ece(label, score, first * 15 // n),
    }


def naive_over_orders(rows, of_order):
    """Mean over requests with a positive of the mean over all orders that falling scores allow."""
    values = []
    for g in groups_of(rows.request):
        if not rows.label[g].any():
            continue
        orders = [
            of_order(rows.label[g][list(order)])
            for order in itertools.permutations(range(len(g)))
            if all(rows.score[g][a] >= rows.score[g][b] for a, b in zip(order, order[1:], strict=False))
        ]
        values.append(np.mean(orders))
    return np.mean(values) if values else math.nan


def dcg(labels, k):
    return sum(y / math.log2(rank + 2) for rank, y in enumerate(labels[:k]))


@settings(max_examples=200, deadline=None)
@given(scored_rows())
def test_metrics_equal_the_naive_reference(rows):
    expected = naive_results(rows)
    found = compute_metrics(rows, expected)
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-9, atol=1e-9, err_msg=name)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_ties_count_as_the_mean_over_their_orders(data):
    size = data.draw(st.integers(1, 6))
    column = lambda values: data.draw(st.lists(values, min_size=size, max_size=size))  # noqa: E731
    rows = rows_of(column(st.integers(0, 1)), column(st.sampled_from([0.1, 0.5, 0.9])), None, column(st.just(3)))
    ndcg = naive_over_orders(rows, lambda y: dcg(y, 3) / dcg(sorted(y, reverse=True), 3))
    mrr = naive_over_orders(rows, lambda y: 1 / (1 + list(y).index(1)))
    found = compute_metrics(rows, ["ndcg@3", "mrr"])
    np.testing.assert_allclose([found["ndcg@3"], found["mrr"]], [ndcg, mrr], atol=1e-12)


@settings(max_examples=100, deadline=None)
@given(scored_rows(), st.data())
def test_merged_parts_equal_the_whole(rows, data):
    part_of = np.array(data.draw(st.lists(st.integers(0, 3), min_size=len(rows), max_size=len(rows))))
    states = make_metrics(NAMES)
    for part in range(4):
        others = make_metrics(NAMES)
        update_metrics(others, rows.take(part_of == part))
        merge_metrics(states, others)
    whole = compute_metrics(rows, NAMES)
    for name, value in results(states).items():
        np.testing.assert_allclose(value, whole[name], rtol=1e-9, atol=1e-12, err_msg=name)


@settings(max_examples=100, deadline=None)
@given(scored_rows(), st.integers(1, 20))
def test_binned_auc_is_within_its_stated_error(rows, num_bins):
    exact, binned = make_metric("auc").update(rows).result(), BinnedAUC(num_bins).update(rows)
    if math.isnan(exact):
        assert math.isnan(binned.result())
    else:
        assert abs(binned.result() - exact) <= binned.error_bound() + 1e-12


@settings(max_examples=50, deadline=None)
@given(scored_rows(), st.randoms(use_true_random=False))
def test_row_order_does_not_matter(rows, random):
    order = list(range(len(rows)))
    random.shuffle(order)
    found, shuffled = compute_metrics(rows, NAMES), compute_metrics(rows.take(np.array(order)), NAMES)
    np.testing.assert_allclose(list(found.values()), list(shuffled.values()), rtol=1e-9, atol=1e-12)


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


def test_gauc_weighs_by_impressions_and_counts_skipped_users():
    # user 0: AUC 1 over 2 rows; user 1: AUC 0 over 4 rows; user 2: one label only
    rows = rows_of([1, 0, 0, 0, 0, 1, 1, 1], [0.9, 0.1, 0.5, 0.6, 0.7, 0.1, 0.2, 0.3], [0, 0, 1, 1, 1, 1, 2, 2])
    state = make_metric("gauc_user").update(rows)
    assert state.result() == pytest.approx(2 / 6)
    assert state.skipped() == 1


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
    assert found["auc"] == found["gauc_request"] == pytest.approx(0.5)
    assert found["mrr"] == pytest.approx(sum(1 / r for r in range(1, 11)) / 10)


def test_undefined_is_nan_and_empty_states_merge():
    for name in NAMES:
        assert math.isnan(make_metric(name).merge(make_metric(name)).result()), name
    assert math.isnan(make_metric("auc").update(rows_of([1, 1], [0.1, 0.2])).result())


def test_errors_name_what_is_wrong():
    with pytest.raises(ValueError, match=r"`label` must be 0 or 1. Received: `label`\[1\]=2"):
        rows_of([0, 2], [0.1, 0.2])
    with pytest.raises(ValueError, match="`score` must be finite"):
        rows_of([0, 1], [0.1, math.nan])
    with pytest.raises(ValueError, match="Did you mean `gauc_user`"):
        make_metric("gauc_usr")
    with pytest.raises(ValueError, match="`k` is 5 here and 10 there"):
        make_metric("ndcg@5").merge(make_metric("ndcg@10"))
    with pytest.raises(ValueError, match="`num_bins` must be positive. Received: `num_bins`=0"):
        BinnedAUC(0)


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

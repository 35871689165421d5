"""Every metric of the table: against a naive reference, in parts, without a user, in any order, on rows of one label.

A new metric is tested by being listed; the one thing to add here is its naive reference.
"""

import dataclasses
import itertools
import math
import re
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluation.config import MODEL_METRICS
from evaluation.gates import GateConfig
from evaluation.metrics.metric import Users
from evaluation.metrics.registry import METRICS, compute_metrics, make_metric
from evaluation.metrics.rows import ScoredRows
from evaluation.ranking import EvaluationConfig, evaluate
from evaluation.report import format as fmt
from evaluation.report.page import render
from evaluation.slices import SliceConfig
from tests.builders.predictions import simulate
from tests.builders.report_example import report_data

DOCS = Path(__file__).parents[2] / "docs"
NAMES = tuple(name for kind in METRICS for name in (("ndcg@1", "ndcg@3", "ndcg@10") if kind == "ndcg@k" else (kind,)))


# The references: loops over plain numbers that share nothing with the code. A row is (label, score).


def naive_auc(rows):
    pairs = [(s > t) + 0.5 * (s == t) for y, s in rows if y for z, t in rows if not z]
    return sum(pairs) / len(pairs) if pairs else math.nan


def naive_mean(values_and_shares):
    kept = [(value, share) for value, share in values_and_shares if not math.isnan(value)]
    return sum(value * share for value, share in kept) / sum(share for _, share in kept) if kept else math.nan


def naive_over_orders(rows, of_labels):
    """The mean over all orders that falling scores allow; NaN without a positive."""
    if not any(y for y, _ in rows):
        return math.nan
    orders = [o for o in itertools.permutations(rows) if all(a[1] >= b[1] for a, b in itertools.pairwise(o))]
    return sum(of_labels([y for y, _ in order]) for order in orders) / len(orders)


def naive_ndcg(k):
    def dcg(labels):
        return sum(y / math.log2(rank + 2) for rank, y in enumerate(labels[:k]))

    return lambda rows: naive_over_orders(rows, lambda y: dcg(y) / dcg(sorted(y, reverse=True)))


def naive_mrr(rows):
    return naive_over_orders(rows, lambda labels: 1 / (1 + labels.index(1)))


def naive_log_loss(rows):
    clipped = [(y, min(max(s, 1e-7), 1 - 1e-7)) for y, s in rows]
    return sum(-math.log(p) if y else -math.log(1 - p) for y, p in clipped) / len(rows)


def naive_normalized_entropy(rows):
    rate = sum(y for y, _ in rows) / len(rows)
    if rate in (0, 1):
        return math.nan
    return naive_log_loss(rows) / -(rate * math.log(rate) + (1 - rate) * math.log(1 - rate))


def naive_pcoc(rows):
    clicks = sum(y for y, _ in rows)
    return sum(s for _, s in rows) / clicks if clicks else math.nan


def naive_ece(bin_of):
    def ece(rows):
        gaps = {}
        for y, s in rows:
            gaps[bin_of(s, rows)] = gaps.get(bin_of(s, rows), 0) + s - y
        return sum(abs(gap) for gap in gaps.values()) / len(rows)

    return ece


def by_group(key, of_rows, share=lambda rows: 1):
    def metric(rows):
        groups = {}
        for y, s, *keys in rows:
            groups.setdefault(keys[key], []).append((y, s))
        return naive_mean([(of_rows(group), share(group)) for group in groups.values()])

    return metric


def over_all(of_rows):
    return lambda rows: of_rows([(y, s) for y, s, *_ in rows])


NAIVE = {
    "auc": over_all(naive_auc),
    "auc_binned": over_all(naive_auc),
    "gauc_user": by_group(0, naive_auc, len),
    "gauc_request": by_group(1, naive_auc, len),
    "log_loss": over_all(naive_log_loss),
    "normalized_entropy": over_all(naive_normalized_entropy),
    "pcoc": over_all(naive_pcoc),
    "ece_equal_width": over_all(naive_ece(lambda s, rows: min(int(s * 15), 14))),
    "ece_equal_mass": over_all(naive_ece(lambda s, rows: sum(t < s for _, t in rows) * 15 // len(rows))),
    "mrr": by_group(1, naive_mrr),
    **{f"ndcg@{k}": by_group(1, naive_ndcg(k)) for k in (1, 3, 10)},
}


def naive(name, rows):
    return NAIVE[name](
        list(zip(*(getattr(rows, f).tolist() for f in ("label", "score", "user", "request")), strict=True))
    )


@st.composite
def scored_rows(draw):
    """Up to 24 rows, four a request, eight a user, in any order; scores on a coarse grid, so that ties are common."""
    size = draw(st.integers(1, 24))
    column = lambda values: np.array(draw(st.lists(values, min_size=size, max_size=size)), float)  # noqa: E731
    place = np.array(draw(st.permutations(range(size))))
    return ScoredRows(column(st.integers(0, 1)), column(st.integers(0, 16)) / 16, place // 8, place // 4)


def users_of(rows, count=3):
    return Users(rows.user, count)


def assert_close(found, expected):
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)


def test_every_metric_has_a_reference():
    assert set(NAMES) == set(NAIVE)


@pytest.mark.parametrize("name", NAMES)
@given(rows=scored_rows())
@settings(max_examples=40, deadline=None)
def test_a_naive_reference_agrees(name, rows):
    assert_close(compute_metrics(rows, [name])[name], naive(name, rows))


@pytest.mark.parametrize("name", NAMES)
@given(rows=scored_rows(), value=st.sampled_from([0.0, 0.5, 1.0]))
@settings(max_examples=15, deadline=None)
def test_where_all_scores_are_one_the_naive_reference_agrees(name, rows, value):
    rows = dataclasses.replace(rows, score=np.full(len(rows), value))
    assert_close(compute_metrics(rows, [name])[name], naive(name, rows))


@pytest.mark.parametrize("name", [name for name in NAMES if make_metric(name).has_interval])
@given(rows=scored_rows())
@settings(max_examples=40, deadline=None)
def test_without_a_user_is_the_naive_reference_of_the_others(name, rows):
    metric, users = make_metric(name), users_of(rows)
    found = metric.without_each(metric.sums(rows, users))
    others = [rows.take(rows.user != user) for user in range(users.count)]
    assert_close(found, [naive(name, left) if len(left) else math.nan for left in others])


@pytest.mark.parametrize("name", NAMES)
@given(rows=scored_rows(), apart=st.integers(0, 7))
@settings(max_examples=30, deadline=None)
def test_parts_add_up_to_the_whole(name, rows, apart):
    metric = make_metric(name)
    chosen = (apart >> rows.user) & 1 == 1
    parts = [metric.sums(part, users_of(part)) for part in (rows.take(chosen), rows.take(~chosen))]
    whole = metric.sums(rows, users_of(rows))
    assert_close(metric.value(parts[0] + parts[1]), metric.value(whole))
    if metric.has_interval:
        assert_close(metric.without_each(parts[0] + parts[1]), metric.without_each(whole))


@pytest.mark.parametrize("name", NAMES)
@given(rows=scored_rows(), random=st.randoms(use_true_random=False))
@settings(max_examples=20, deadline=None)
def test_the_order_of_rows_does_not_matter(name, rows, random):
    order = list(range(len(rows)))
    random.shuffle(order)
    assert_close(compute_metrics(rows.take(np.array(order)), [name])[name], compute_metrics(rows, [name])[name])


@pytest.mark.parametrize("label", [0.0, 1.0])
@pytest.mark.parametrize("name", NAMES)
def test_rows_of_one_label_and_no_rows_are_answered_without_a_warning(name, label):
    rows = ScoredRows(
        np.full(6, label), np.array([0.0, 0.25, 0.25, 0.5, 1.0, 0.75]), np.arange(6) // 3, np.arange(6) // 2
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert_close(compute_metrics(rows, [name])[name], naive(name, rows))
        assert math.isnan(compute_metrics(rows.take(np.arange(0)), [name])[name])


@pytest.mark.parametrize("name", NAMES)
def test_a_better_prediction_is_better_the_way_it_says(name):
    label = np.array([1, 0, 1, 0, 0, 1, 0, 0.0])
    values = [
        compute_metrics(ScoredRows(label, score, np.arange(8) // 4, np.arange(8) // 4), [name])[name]
        for score in (0.98 * label + 0.01, 0.7 - 0.5 * label)
    ]
    lower = make_metric(name).lower_is_better
    good, bad = np.abs(np.array(values) - 1) if lower is None else np.array(values) * (1 if lower else -1)
    assert good < bad
    assert fmt.better(name) == {None: "closer to 1", True: "lower", False: "higher"}[lower] + " is better"


@pytest.mark.parametrize("name", NAMES)
def test_what_needs_no_probabilities_depends_on_the_order_alone(name):
    generator = np.random.default_rng(0)
    rows = ScoredRows(
        generator.random(200) < 0.3, generator.integers(0, 17, 200) / 16, np.arange(200) // 8, np.arange(200) // 4
    )
    bent = dataclasses.replace(rows, score=rows.score**2)
    one, other = (compute_metrics(each, [name])[name] for each in (rows, bent))
    assert (abs(one - other) > 1e-3) == make_metric(name).needs_probabilities


@pytest.mark.parametrize("name", NAMES)
def test_it_is_called_what_the_table_calls_it(name):
    metric = make_metric(name)
    kind = "ndcg@k" if name.startswith("ndcg@") else name
    assert re.search(rf"^\|.*`{kind}`", (DOCS / "reference" / "metrics.md").read_text("utf-8"), re.MULTILINE)
    assert metric.name == name and len(metric.title) > 1 and metric.__doc__
    assert fmt.metric_title(name) == metric.title


def test_a_new_metric_is_one_class_and_one_row(monkeypatch):
    guide = (DOCS / "guides" / "add-a-metric.md").read_text("utf-8")
    names = {}
    exec(re.search(r"```python\n(.*?)```", guide, re.DOTALL).group(1), names)
    monkeypatch.setitem(METRICS, "click_share", names["ClickShare"])
    predictions, _ = simulate(users=200)
    config = EvaluationConfig(
        metrics=(*MODEL_METRICS, "click_share"),
        slices=SliceConfig(features=("city",), min_rows=50),
        slice_metrics=("auc", "pcoc", "click_share"),
        gates=GateConfig(limits={"click_share": (0.9, None), "auc": (0.5, 1)}),
    )
    result = evaluate(predictions, config, live_predictions=predictions)
    label, score = predictions["label"].to_numpy(), predictions["score"].to_numpy()
    found = result.model.metrics["click_share"]
    assert found.value == pytest.approx((label * score).sum() / score.sum())
    assert found.low < found.value < found.high
    assert result.slices[0].metrics["click_share"].low is not None
    assert result.live.metrics["click_share"].difference.value == pytest.approx(0, abs=1e-12)
    assert [gate.name for gate in result.failed_gates] == ["click_share"]
    page = render(report_data(evaluation=result))
    assert "Share of clicks<small>higher is better</small>" in page and fmt.metric(found.value) in page

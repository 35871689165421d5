"""The coarse ranker beside the fine one: planted differences are told, equals are not, rows are matched by key."""

import numpy as np
import pyarrow as pa
import pytest

from evaluation.cascade.stage_comparison import compare_stages
from evaluation.metrics.registry import compute_metrics
from evaluation.ranking import scored_rows
from tests.builders.predictions import simulate, with_column

NAMES = ("HCN", "AutoInt")


def worse(predictions, noise, seed=1):
    """The same rows with scores that know less."""
    score = predictions["score"].to_numpy()
    logit = np.log(score / (1 - score)) + noise * np.random.default_rng(seed).normal(size=len(score))
    return with_column(predictions, "score", 1 / (1 + np.exp(-logit)))


def test_a_better_coarse_ranker_is_told():
    good = simulate()[0]
    found = compare_stages(good, worse(good, 1.0), NAMES)
    assert found.metrics_where(coarse_is_better=True) == ("log_loss", "auc")
    assert found.metrics_where(coarse_is_better=False) == ()
    assert (found.rows, found.users, found.coarse, found.fine) == (good.num_rows, 300, *NAMES)
    other = compare_stages(worse(good, 1.0), good, NAMES)
    assert other.metrics_where(coarse_is_better=False) == ("log_loss", "auc")
    for name, both in found.metrics.items():
        assert both.difference.value == pytest.approx(both.coarse - both.fine)
        assert other.metrics[name].difference.value == pytest.approx(-both.difference.value)


def test_values_are_those_of_the_metrics():
    good = simulate()[0]
    bad = worse(good, 1.0)
    found = compare_stages(good, bad, NAMES).metrics
    for field, table in (("coarse", good), ("fine", bad)):
        expected = compute_metrics(scored_rows(table), ["log_loss", "auc"])
        assert {name: getattr(both, field) for name, both in found.items()} == pytest.approx(expected)


def test_equals_are_not_told_apart():
    """Null control: two rankers of equal noise; the same scores differ by nothing at all."""
    good = simulate(seed=3)[0]
    alike = compare_stages(worse(good, 0.5, 1), worse(good, 0.5, 2), NAMES)
    assert alike.metrics_where(True) == alike.metrics_where(False) == ()
    same = compare_stages(good, good, NAMES)
    assert all(
        both.difference.model_dump() == dict.fromkeys(("value", "low", "high"), 0.0) for both in same.metrics.values()
    )
    assert same.metrics_where(True) == same.metrics_where(False) == ()


def test_rows_are_matched_by_request_and_item():
    good = simulate()[0]
    bad = worse(good, 1.0)
    shuffled = bad.take(pa.array(np.random.default_rng(0).permutation(bad.num_rows)))
    assert compare_stages(shuffled, good, NAMES) == compare_stages(bad, good, NAMES)
    half = compare_stages(bad.slice(0, 1000), good, NAMES)
    assert half.rows == 1000 and half == compare_stages(bad.slice(0, 1000), good.slice(0, 1000), NAMES)
    with pytest.raises(ValueError, match="HCN and AutoInt scored no impression in common"):
        compare_stages(bad.slice(0, 10), good.slice(10, 10), NAMES)

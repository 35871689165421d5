"""Verdicts of comparisons by closed forms; what is judged, what is not, and what is said."""

import math

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evaluation.baselines import Baseline
from evaluation.config import GateConfig
from evaluation.gates import compare, comparison_gate, loses_too_much, rows_needed, why_unjudged
from evaluation.ranking import EvaluationConfig, evaluate
from evaluation.results import Estimate, EvaluationResult, LiveComparison, combine
from evaluation.slices import SliceConfig
from tests.builders.predictions import simulate, with_column


def around(value, half):
    return Estimate(value=value, low=value - half, high=value + half)


def gate(result, name):
    return next(each for each in result.gates if each.name == name)


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (0.001, 0.02, "better"),
        (-0.004, 0.02, "no_worse"),
        (-0.004, -0.001, "no_worse"),  # a loss is shown, and lies within the margin
        (-0.006, 0.02, "cannot_tell"),
        (-0.02, -0.004, "cannot_tell"),  # a loss is shown, and may lie within the margin
        (-0.02, -0.006, "worse"),
        (0.0, 0.0, "no_worse"),
    ],
)
def test_a_verdict_follows_from_the_interval_and_the_margin(low, high, verdict):
    found = Estimate(value=(low + high) / 2, low=low, high=high)
    assert compare(found, 0.005) == verdict
    turned = Estimate(value=-(low + high) / 2, low=-high, high=-low)
    assert compare(turned, 0.005, lower_is_better=True) == verdict
    assert loses_too_much(found, 0.005) == loses_too_much(turned, 0.005, lower_is_better=True)


@given(st.floats(-0.1, 0.1), st.floats(0, 0.1), st.floats(0, 0.02))
def test_every_interval_has_a_verdict_and_more_loss_none_that_is_better(value, half, margin):
    order = ("worse", "cannot_tell", "no_worse", "better")
    verdicts = [order.index(compare(around(value - loss, half), margin)) for loss in (0, 0.001, 0.01, 0.1)]
    assert verdicts == sorted(verdicts, reverse=True)


def test_without_an_interval_nothing_can_be_told():
    assert compare(Estimate(value=-1.0), 0.005) == compare(Estimate(), 0.005) == "cannot_tell"
    assert rows_needed(Estimate(value=0.1), 0.005, 100) is None


def test_the_rows_that_are_asked_for_tell_equal_models_from_twice_the_margin():
    margin, error = 0.005, 0.008 / 1.96
    needed = rows_needed(around(-0.001, 0.008), margin, 30_000)
    assert needed == pytest.approx(30_000 * (2 * 0.008 / margin) ** 2, rel=0.01)
    drawn = np.random.default_rng(0).normal(0, error * math.sqrt(30_000 / needed), 4000)
    half = 0.008 * math.sqrt(30_000 / needed)
    equal = [compare(around(value, half), margin) for value in drawn]
    worse = [compare(around(value - 2 * margin, half), margin) for value in drawn]
    assert np.mean([verdict in ("no_worse", "better") for verdict in equal]) == pytest.approx(0.975, abs=0.01)
    assert np.mean([verdict == "worse" for verdict in worse]) == pytest.approx(0.975, abs=0.01)
    # where as many are there and they cannot tell, the loss is about the margin, and no number would
    assert rows_needed(around(-0.004, 0.002), margin, 30_000) is None


@pytest.mark.parametrize("half", [0.002, 0.008, 0.05])
def test_the_anchor_stops_few_equal_models_whatever_the_rows_and_most_that_lose_twice_the_margin(half):
    margin = 0.0075
    drawn = np.random.default_rng(0).normal(0, half / 1.96, 8000)
    assert np.mean([loses_too_much(around(value, half), margin) for value in drawn]) < 0.03
    if half <= 1.09 * margin:
        assert np.mean([loses_too_much(around(value - 2 * margin, half), margin) for value in drawn]) > 0.94


def test_what_cannot_be_told_passes_unless_it_is_held_or_the_anchor_stops_it():
    config, lost = GateConfig(max_auc_loss=0.005), around(-0.009, 0.008)
    hold = config.model_copy(update={"cannot_tell": "hold"})
    for found, settings, guards, passed in (
        (around(-0.001, 0.008), config, True, True),
        (around(-0.001, 0.008), hold, True, False),
        (lost, config, False, True),
        (lost, config, True, False),
        (around(-0.02, 0.008), config, False, False),
        (around(0.02, 0.008), hold, True, True),
        (Estimate(), config, False, False),
    ):
        judged = comparison_gate(settings, "max_auc_loss", "live_auc", found, 1000, "It", guards=guards)
        assert judged.passed == passed, judged
        assert judged.verdict == compare(found, 0.005)
    assert (
        "the anchor does not let it pass"
        in comparison_gate(config, "max_auc_loss", "live_auc", lost, 1000, "It", guards=True).reason
    )


def test_several_metrics_have_one_verdict():
    assert combine(["better", "no_worse"]) == "better"
    assert combine(["better", "cannot_tell"]) == "cannot_tell"
    assert combine(["worse", "cannot_tell", "better"]) == "worse"
    assert combine([None, "no_worse"]) == "no_worse"
    assert combine([]) is None


def test_why_a_slice_is_not_judged():
    config = GateConfig(slice_features=("city",), min_slice_users=30, min_slice_positives=30)
    assert why_unjudged(config, "city", 30, 5000, 30.0) == ""
    assert "as much as those of 3.2 users; `gates.min_slice_users` is 30" in why_unjudged(config, "city", 99, 99, 3.2)
    assert "has 12 positives" in why_unjudged(config, "city", 12, 5000, 300)
    assert "has 7 negatives" in why_unjudged(config, "city", 5000, 7, 300)
    assert "does not name its feature" in why_unjudged(config, "age", 99, 99, 99)


def test_a_slice_of_one_user_is_shown_and_not_judged():
    table, truth = simulate(users=300, noise=0.01)
    # one user has as many rows as thirty, and clicks twice as often as the model, right for all others, says
    alone = np.arange(table.num_rows) < 1200
    label = table["label"].to_numpy().copy()
    label[alone] = (np.random.default_rng(0).random(1200) < 2 * truth[:1200]).astype(np.float32)
    user = np.where(alone, "u0", np.array(table["user_id"].to_pylist(), object))
    city = np.where(alone, "alone", "others")
    table = with_column(
        with_column(with_column(table, "label", label), "user_id", user.tolist()), "city", city.tolist()
    )
    config = EvaluationConfig(slices=SliceConfig(features=("city",), min_rows=50), gates=GateConfig(pcoc=None))
    result = evaluate(table, config, live_predictions=table)
    by_value = {part.value: part for part in result.slices}
    assert by_value["alone"].metrics["pcoc"].value < 0.6
    assert "1.0 users" in by_value["alone"].unjudged and by_value["others"].unjudged == ""
    assert result.blessed, result.failed_gates
    for name in ("slice_pcoc:city", "slice_auc:city", "live_slice_auc:city"):
        assert "of 1 slices" in gate(result, name).reason and "`others`" in gate(result, name).reason


def test_pcoc_is_judged_by_its_interval():
    table, _ = simulate(users=400, noise=0.01)
    score = table["score"].to_numpy()
    # by its value 0.88 fails; of few users it is no proof that the mean is off, of many it is
    few = with_column(table, "score", 0.88 * score).slice(0, 40 * 40)
    config = EvaluationConfig(slices=SliceConfig(features=()))
    found = evaluate(few, config)
    assert found.model.metrics["pcoc"].value < 0.9 < found.model.metrics["pcoc"].high
    assert gate(found, "pcoc").passed
    assert not gate(evaluate(with_column(table, "score", 0.8 * score), config), "pcoc").passed


def test_a_first_ranker_below_the_best_baseline_is_refused():
    table, truth = simulate(noise=3.0)
    generator = np.random.default_rng(1)

    def baseline(name, noise):
        logit = np.log(truth / (1 - truth)) + generator.normal(0, noise, len(truth))
        return Baseline(name, "", 1 / (1 + np.exp(-logit)), True)

    config = EvaluationConfig(slices=SliceConfig(features=()), gates=GateConfig(pcoc=None))
    below = evaluate(table, config, baselines=[baseline("popularity", 6.0), baseline("item_ctr", 0.5)])
    assert [each.name for each in below.failed_gates] == ["baseline_auc"]
    judged = gate(below, "baseline_auc")
    assert judged.value == pytest.approx(below.model.metrics["auc"].value - below.baselines[1].metrics["auc"].value)
    assert judged.verdict == "worse" and "item_ctr, the baseline that ranks best" in judged.reason
    assert below.verdict is None  # of the live model
    # the oracle is no baseline to beat, and those that are beaten let pass
    oracle = Baseline("oracle", "", truth, True)
    assert evaluate(table, config, baselines=[baseline("popularity", 6.0), oracle]).blessed
    off = config.model_copy(update={"gates": GateConfig(pcoc=None, max_baseline_auc_loss=None)})
    assert evaluate(table, off, baselines=[baseline("item_ctr", 0.5)]).blessed


def test_a_live_model_that_cannot_be_scored_leaves_the_absolute_gates():
    table, _ = simulate()
    config = EvaluationConfig(slices=SliceConfig(features=("city",), min_rows=50))
    why = "the live model needs `brand`, which the log no longer has"
    result = evaluate(table, config, unscored=why)
    assert result.live.unscored == why and result.live.rows == 0
    assert result.gates == evaluate(table, config).gates and result.verdict is None
    with pytest.raises(ValueError, match="`unscored` must be ''"):
        evaluate(table, config, table, unscored=why)


def test_the_anchor_is_judged_on_the_same_rows_and_only_a_better_model_follows_it(tmp_path):
    table, truth = simulate(noise=0.6)
    logit = np.log(truth / (1 - truth))
    other = lambda seed, noise: with_column(  # noqa: E731
        table, "score", 1 / (1 + np.exp(-(logit + np.random.default_rng(seed).normal(0, noise, len(truth)))))
    )
    config = EvaluationConfig(slices=SliceConfig(features=()), gates=GateConfig(max_log_loss_increase=0.05))
    # as good as the live model, which is far below the anchor
    sunk = evaluate(table, config, live_predictions=other(1, 0.6), anchor_predictions=other(2, 0.2))
    assert {each.name for each in sunk.failed_gates} <= {"anchor_auc", "anchor_log_loss"} and not sunk.blessed
    assert sunk.anchor.rows == table.num_rows and gate(sunk, "anchor_auc").verdict == "worse"
    assert sunk.verdict != "worse" and sunk.anchor_verdict == "worse" and not sunk.becomes_anchor
    # better than the live model, not than the anchor: it goes live, and the anchor stays
    back = evaluate(other(3, 0.2), config, live_predictions=table, anchor_predictions=other(2, 0.2))
    assert back.blessed and back.verdict == "better" and not back.becomes_anchor
    best = evaluate(
        other(3, 0.05), config, live_predictions=table, anchor_predictions=table.take(pa.array(range(12_000)))
    )
    assert best.blessed and best.becomes_anchor
    # where no anchor is on record the live model is it
    alone = evaluate(other(3, 0.05), config, live_predictions=table)
    assert alone.anchor is None and alone.anchor_verdict == "better" and alone.becomes_anchor
    lost = alone.model_copy(update={"anchor": LiveComparison(rows=0, metrics={}, unscored="its export is gone")})
    assert lost.anchor_verdict == "better"
    assert EvaluationResult.load((tmp_path, best.save(tmp_path))[0]) == best

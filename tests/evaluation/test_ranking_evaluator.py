from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pydantic import ValidationError

from evaluation.baselines import Baseline
from evaluation.gates import GateConfig
from evaluation.metrics.registry import compute_metrics
from evaluation.ranking import EvaluationConfig, evaluate, scored_rows
from evaluation.results import EvaluationResult
from evaluation.slices import SliceConfig
from tests.builders.predictions import with_column

SLICES = SliceConfig(features=("city", "history_length"), min_rows=50)


def config(**gates):
    return EvaluationConfig(slices=SLICES, gates=GateConfig(**gates))


def gate(result, name):
    return next(g for g in result.gates if g.name == name)


def failed(result):
    return {g.name for g in result.failed_gates}


def near_models(simulate, users, noise=1.0, seed=3):
    """Two models that are equally good: the same truth with noise of their own."""
    table, truth = simulate(users=users, noise=noise)
    logit = np.log(truth / (1 - truth)) + np.random.default_rng(seed).normal(0, noise, len(truth))
    return table, with_column(table, "score", 1 / (1 + np.exp(-logit)))


def test_a_good_first_model_is_blessed_on_absolute_gates(simulate, tmp_path):
    table, truth = simulate()
    chance = np.random.default_rng(5).random(len(truth))
    baselines = [Baseline("item_ctr", "random", chance, True), Baseline("oracle", "truth", truth, True)]
    result = evaluate(table, config(), baselines=baselines)
    assert result.blessed, result.failed_gates
    assert result.live is None
    assert not any(g.name.startswith("live") for g in result.gates)
    rows = scored_rows(table)
    expected = compute_metrics(rows, result.model.metrics)
    for name, found in result.model.metrics.items():
        assert found.value == pytest.approx(expected[name], abs=1e-9), name
        assert found.low is None or found.low < found.value < found.high, name
    assert {s.value for s in result.slices if s.feature == "city"} == {"aa", "bb", "cc", "(missing)"}
    assert sum(s.rows for s in result.slices if s.feature == "city") == result.counts.rows == 12_000
    assert 0.5 < result.lead_share.value < 1
    assert result.lead_share.low < result.lead_share.value < result.lead_share.high
    assert EvaluationResult.load(Path(result.save(tmp_path / "evaluation")).parent) == result


def test_scores_that_are_no_probabilities_have_ranking_metrics_only(simulate):
    table, truth = simulate(users=50)
    result = evaluate(table, config(), baselines=[Baseline("popularity", "", 1000 * truth, False)])
    assert set(result.baselines[0].metrics) == {"auc", "gauc_user", "gauc_request", "ndcg@5", "ndcg@10", "mrr"}
    assert result.baselines[0].name == "popularity"


def test_shuffled_labels_are_not_blessed(simulate, with_column):
    table, _ = simulate()
    label = np.random.default_rng(0).permutation(table["label"].to_numpy())
    result = evaluate(with_column(table, "label", label), config())
    assert abs(result.model.metrics["auc"].value - 0.5) < 0.02
    assert "min_auc" in failed(result)
    assert not result.blessed


def test_too_little_to_judge(simulate, with_column):
    table, _ = simulate(users=20)
    assert failed(evaluate(table, config(slice_features=()))) == {"min_rows"}
    label = np.zeros(table.num_rows, np.float32)
    label[::100] = 1
    assert "min_positives" in failed(evaluate(with_column(table, "label", label), config()))
    none = evaluate(with_column(table, "label", np.zeros(table.num_rows)), config())
    assert {"min_auc", "pcoc", "min_positives"} <= failed(none)
    assert gate(none, "min_auc").value is None


def test_probabilities_that_are_off_fail_pcoc(simulate, with_column):
    table, _ = simulate(noise=0.01)
    off = evaluate(with_column(table, "score", table["score"].to_numpy() * 0.7), config(slice_features=()))
    assert failed(off) == {"pcoc"}
    assert gate(off, "pcoc").value == pytest.approx(0.7, abs=0.05)


def test_a_slice_that_is_off_fails_though_the_whole_is_right(simulate, with_column):
    table, _ = simulate(noise=0.01)
    city = np.array(table["city"].to_pylist(), object)
    score = table["score"].to_numpy() * np.where(city == "aa", 0.5, np.where(city == "bb", 1.5, 1.0))
    result = evaluate(with_column(table, "score", np.minimum(score, 1)), config())
    assert failed(result) == {"slice_pcoc:city"}
    assert "`aa`" in gate(result, "slice_pcoc:city").reason
    assert "`bb`" not in gate(result, "slice_pcoc:city").reason


def test_a_slice_in_reverse_order_fails(simulate, with_column):
    table, _ = simulate()
    reversed_city = np.array(table["city"].to_pylist(), object) == "cc"
    score = table["score"].to_numpy()
    score = np.where(reversed_city, score.min() + score.max() - score, score)
    result = evaluate(with_column(table, "score", score), config(pcoc=None, slice_pcoc=None))
    assert failed(result) == {"slice_auc:city"}


def test_against_the_live_model(simulate, with_column):
    table, truth = simulate(noise=0.6)
    better = with_column(table, "score", truth)
    same = evaluate(table, config(), live_predictions=table)
    assert same.blessed, same.failed_gates
    assert gate(same, "live_auc").value == 0
    assert evaluate(better, config(), live_predictions=table).blessed
    worse = evaluate(table, config(), live_predictions=better)
    assert {"live_auc", "live_slice_auc:city"} <= failed(worse)
    difference = worse.live.metrics["auc"]
    assert difference.difference.value == pytest.approx(difference.model - difference.live)
    assert difference.difference.high < 0


def test_worse_probabilities_in_the_same_order_do_not_pass(simulate, with_column):
    table, truth = simulate(users=300)
    live = with_column(table, "score", truth)
    # Flatter, in the same order and with the same mean: neither AUC nor PCOC tells.
    logit = 0.3 * np.log(truth / (1 - truth))
    shifts = np.linspace(-6, 6, 2001)
    means = np.array([np.mean(1 / (1 + np.exp(-(logit + shift)))) for shift in shifts])
    flat = 1 / (1 + np.exp(-(logit + shifts[np.argmin(np.abs(means - truth.mean()))])))
    result = evaluate(with_column(table, "score", flat), config(slice_features=()), live_predictions=live)
    assert failed(result) == {"live_log_loss"}
    assert gate(result, "live_log_loss").value > 0.002
    assert evaluate(live, config(slice_features=()), live_predictions=with_column(table, "score", flat)).blessed


def test_rows_are_matched_by_key_not_by_order(simulate):
    table, _ = simulate(users=60)
    order = np.random.default_rng(0).permutation(table.num_rows)
    result = evaluate(table, config(), live_predictions=table.take(pa.array(order)))
    assert result.live.metrics["auc"].difference.value == 0
    assert result.live.rows == table.num_rows


def test_few_shared_rows_fail(simulate):
    table, _ = simulate()
    half = evaluate(table, config(), live_predictions=table.slice(0, table.num_rows // 2))
    assert failed(half) == {"live_rows"}
    assert half.live.rows == table.num_rows // 2
    assert half.live.metrics["auc"].difference.value == 0  # over the shared rows, not over all
    none = evaluate(table, config(), live_predictions=table.slice(0, 0))
    assert {"live_rows", "live_auc"} <= failed(none)


@pytest.mark.parametrize("cannot_tell", ["push", "hold"])
def test_what_the_rows_cannot_tell_is_pushed_or_held_and_the_rows_that_would_are_named(simulate, cannot_tell):
    table, other = near_models(simulate, users=40)
    off = {"min_live_share": None, "slice_features": (), "max_log_loss_increase": None, "max_auc_loss": 0.01}
    result = evaluate(table, config(**off, cannot_tell=cannot_tell), live_predictions=other)
    found, judged = result.live.metrics["auc"].difference, gate(result, "live_auc")
    assert found.low < -0.01 < found.high
    assert judged.verdict == result.verdict == "cannot_tell"
    assert judged.passed == (cannot_tell == "push")
    # half-width over margin is a half at the rows that are named
    assert judged.rows_needed == pytest.approx(result.live.rows * ((found.high - found.low) / 0.01) ** 2, rel=0.01)
    assert f"{judged.rows_needed:,} rows would tell" in judged.reason


def test_a_gate_can_be_switched_off(simulate):
    table, _ = simulate(users=20)
    every = {
        name: None
        for name in GateConfig.model_fields
        if name not in ("cannot_tell", "slice_features", "min_slice_users", "min_slice_positives", "limits")
    }
    result = evaluate(table, config(**every), live_predictions=table)
    assert result.gates == ()
    assert result.blessed


def test_counts_are_those_of_a_loop(simulate):
    table, _ = simulate(users=30, requests_per_user=2, candidates=3)
    counts = evaluate(table, config()).counts
    labels, users = {}, {}
    for request, user, label in zip(*(table[n].to_pylist() for n in ("request_id", "user_id", "label")), strict=True):
        labels.setdefault(request, []).append(label)
        users.setdefault(user, []).append(label)
    assert (counts.requests, counts.users, counts.rows) == (60, 30, 180)
    assert counts.items == len(set(table["item_id"].to_pylist()))
    assert counts.requests_without_positive == sum(not any(y) for y in labels.values()) > 0
    assert counts.requests_without_both_labels == sum(len(set(y)) == 1 for y in labels.values())
    assert counts.users_without_both_labels == sum(len(set(y)) == 1 for y in users.values()) > 0


def test_wrong_input_is_named(simulate, with_column):
    table, truth = simulate(users=5)
    with pytest.raises(ValueError, match="no column `history_end`"):
        evaluate(table.drop(["history_end"]))
    with pytest.raises(ValueError, match="must not be empty"):
        evaluate(table.slice(0, 0))
    with pytest.raises(ValueError, match="`score` must be a probability"):
        evaluate(with_column(table, "score", truth * 3))
    with pytest.raises(ValueError, match="`user_id` of the predictions must not be null"):
        evaluate(with_column(table, "user_id", pa.nulls(table.num_rows, pa.string())))
    with pytest.raises(ValueError, match="baseline `b` must have a score for each row"):
        evaluate(table, baselines=[Baseline("b", "", truth[:3], True)])
    with pytest.raises(ValidationError, match="must be a range around 1"):
        GateConfig(pcoc=(1.1, 0.9))
    with pytest.raises(ValidationError, match="must hold what the gates judge. Missing: pcoc"):
        EvaluationConfig(metrics=("auc",))
    with pytest.raises(ValidationError, match="`gates.limits` must be among `metrics`. Received: .'mrr@3'"):
        EvaluationConfig(gates=GateConfig(limits={"mrr@3": (0.1, None)}))
    with pytest.raises(ValidationError, match="must be among `slices.features`"):
        EvaluationConfig(gates=GateConfig(slice_features=("city",)))

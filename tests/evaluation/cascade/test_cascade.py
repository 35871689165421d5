"""A cascade beside the ideal: closed forms, a naive reference, monotony, planted losses, a coarse ranker of chance."""

import math

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluation.cascade.config import CascadeConfig, CascadeEvaluationConfig, CascadeGates
from evaluation.cascade.costs import CascadeCosts, StageCost
from evaluation.cascade.evaluate import CascadeEvaluation, evaluate_cascade
from evaluation.cascade.metrics import (
    clicked_ndcg,
    kept_ndcg,
    log_losses,
    sigmoid,
)
from evaluation.cascade.scores import CascadeScores, select


def make_scores(
    retrieval: np.ndarray,
    coarse: np.ndarray | None,
    fine: np.ndarray,
    impressions: list[list[tuple[int, bool]]],
    user=None,
    width: int | None = None,
    top_k: int = 10,
) -> CascadeScores:
    """Scores of stages over the whole catalogue [R, n] as the scoring keeps them: the first `width` retrieved."""
    requests, size = fine.shape
    rows = np.arange(requests)[:, np.newaxis]
    retrieved = np.argsort(-retrieval, axis=1, kind="stable")[:, : width or size]
    ideal = np.argsort(-fine, axis=1, kind="stable")[:, :top_k]
    flat = [(r, item, label) for r, pairs in enumerate(impressions) for item, label in pairs]
    request, item, label = (np.array(column) for column in zip(*flat, strict=True))
    return CascadeScores(
        catalogue_size=size,
        user=np.arange(requests) if user is None else user,
        retrieved=retrieved.astype(np.int32),
        coarse=None if coarse is None else coarse[rows, retrieved],
        fine=fine[rows, retrieved],
        ideal=ideal,
        ideal_logit=fine[rows, ideal],
        request=request,
        item=item,
        label=label.astype(bool),
        logit=fine[request, item],
    )


def random_scores(seed: int, requests=8, size=30, noise=1.0, ties=False, **options) -> CascadeScores:
    rng = np.random.default_rng(seed)
    fine = rng.normal(size=(requests, size)).astype(np.float32)
    coarse, retrieval = (fine + noise * rng.normal(size=fine.shape).astype(np.float32) for _ in range(2))
    if ties:
        fine, coarse, retrieval = (np.round(a) for a in (fine, coarse, retrieval))
    impressions = []
    for logits in fine:
        shown = rng.choice(size, rng.integers(1, 9), replace=False)
        impressions.append([(int(i), bool(rng.random() < sigmoid(logits[i]))) for i in shown])
    return make_scores(retrieval, coarse, fine, impressions, rng.integers(0, 4, requests), **options)


def evaluate(scores, retrieve, coarse, top_k=5, **config):
    gates = CascadeGates(min_requests=None, min_ndcg_kept=None, max_cost_share=None)
    config = CascadeEvaluationConfig(**{"retrieve_grid": (10,), "coarse_grid": (5,), "gates": gates} | config)
    return evaluate_cascade(scores, CascadeConfig(retrieve=retrieve, coarse=coarse, top_k=top_k), config)


def values(point) -> dict:
    return {name: estimate.value for name, estimate in point.metrics.items()}


def test_closed_form_of_one_request():
    """Four items; the coarse ranker drops the best of them, which was clicked."""
    logit = {p: math.log(p / (1 - p)) for p in (0.5, 0.4, 0.2, 0.1)}
    fine = np.array([[logit[0.5], logit[0.4], logit[0.2], logit[0.1]]])
    retrieval, coarse = np.array([[3.0, 2.0, 1.0, 0.0]]), np.array([[0.0, 3.0, 2.0, 9.0]])
    scores = make_scores(retrieval, coarse, fine, [[(0, True), (1, False), (3, False)]], top_k=2)
    found = values(evaluate(scores, retrieve=3, coarse=2, top_k=2).chosen)
    second = 1 / math.log2(3)
    assert found["ndcg"] == pytest.approx((0.4 + 0.2 * second) / (0.5 + 0.4 * second))
    assert found["clicked_ndcg"] == 0 and found["clicked_ndcg_kept"] == 0
    # Of the impressions only item 1 reaches the fine ranker; 0 was dropped by the coarse one, 3 never retrieved.
    assert found["logged_ndcg"] == pytest.approx(second) and found["logged_ndcg_kept"] == pytest.approx(second)
    dropped = (0.5 + 0.1) / 2
    loss = -(math.log(dropped) + math.log(0.6) + math.log(1 - dropped)) / 3
    assert found["log_loss"] == pytest.approx(loss)
    assert found["log_loss_increase"] == pytest.approx(loss + (math.log(0.5) + math.log(0.6) + math.log(0.9)) / 3)
    assert [found[f"click_recall_{stage}"] for stage in ("retrieve", "coarse", "list")] == [1, 0, 0]
    assert [found[f"ideal_recall_{stage}"] for stage in ("retrieve", "coarse", "list")] == [1, 0.5, 0.5]


@given(seed=st.integers(0, 10**6), ties=st.booleans())
@settings(max_examples=30, deadline=None)
def test_passing_everything_is_the_ideal(seed, ties):
    scores = random_scores(seed, ties=ties)
    result = evaluate(scores, retrieve=30, coarse=30)
    found = values(result.chosen)
    kept = result.chosen.metrics["ndcg"]
    assert all(end is None or end == pytest.approx(1.0, abs=1e-12) for end in (kept.value, kept.low, kept.high))
    assert found["log_loss_increase"] == pytest.approx(0.0, abs=1e-12)
    assert found["logged_ndcg"] == pytest.approx(result.ideal["logged_ndcg"].value)
    assert found["clicked_ndcg"] == pytest.approx(result.ideal["clicked_ndcg"].value)
    assert found["ideal_recall_list"] == pytest.approx(1.0)
    assert found["click_recall_coarse"] == (pytest.approx(1.0) if scores.label.any() else None)


@given(seed=st.integers(0, 10**6))
@settings(max_examples=30, deadline=None)
def test_a_wider_stage_never_loses_what_a_narrower_one_kept(seed):
    scores = random_scores(seed)
    last = None
    for retrieve in (5, 10, 20, 30):
        found = values(evaluate(scores, retrieve=retrieve, coarse=retrieve).chosen)
        now = [found["ndcg"], found["click_recall_retrieve"], found["ideal_recall_retrieve"]]
        assert last is None or all(a is None or a <= b + 1e-12 for a, b in zip(last, now, strict=True))
        last = now
    kept = [values(evaluate(scores, retrieve=30, coarse=n).chosen)["ndcg"] for n in (5, 10, 20, 30)]
    assert (np.diff(kept) >= -1e-12).all()  # the fine ranker picks from a larger set
    assert kept[0] >= 0 and kept[-1] <= 1 + 1e-12


def naive(scores, retrieval, coarse, fine, retrieve, n2, k):
    """The same cascade item by item."""

    def best(values, items):
        return sorted(items, key=lambda item: (-values[item], item))

    def gain(gains):
        return sum(gain / math.log2(2 + place) for place, gain in enumerate(gains))

    kept, clicked = [], []
    for r, logits in enumerate(fine):
        first = best(retrieval[r], range(len(logits)))[:retrieve]
        listed = best(logits, best(coarse[r], first)[:n2])[:k]
        ideal = best(logits, range(len(logits)))[:k]
        kept.append(gain(sigmoid(logits[listed])) / gain(sigmoid(logits[ideal])))
        clicks = {int(i) for i, of, y in zip(scores.item, scores.request, scores.label, strict=True) if y and of == r}
        possible = gain([1.0] * min(len(clicks), k))
        clicked.append(gain([float(i in clicks) for i in listed]) / possible if clicks else np.nan)
    return np.array(kept), np.array(clicked)


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("n1, n2", [(7, 5), (12, 5), (12, 12), (20, 6), (30, 11)])
def test_a_naive_cascade_agrees(n1, n2, ties):
    rng = np.random.default_rng(n1 + n2)
    fine, coarse, retrieval = (rng.normal(size=(6, 30)).astype(np.float32) for _ in range(3))
    if ties:
        fine, coarse, retrieval = (np.round(a) for a in (fine, coarse, retrieval))
    impressions = [[(int(i), bool(rng.random() < 0.4)) for i in rng.choice(30, 6, replace=False)] for _ in range(6)]
    scores = make_scores(retrieval, coarse, fine, impressions, width=max(n1, 20))
    selection = select(scores, n1, n2, 5)
    kept, clicked = naive(scores, retrieval, coarse, fine, n1, n2, 5)
    np.testing.assert_allclose(kept_ndcg(scores, selection.listed_logit, 5), kept, rtol=1e-12)
    np.testing.assert_allclose(clicked_ndcg(scores, selection.listed), clicked, rtol=1e-12)


def test_a_coarse_ranker_of_chance_keeps_what_chance_keeps():
    """Null control: recall after a random coarse stage is n2 / n1, and a good one keeps clearly more."""
    rng = np.random.default_rng(0)
    fine = rng.normal(size=(400, 60)).astype(np.float32)
    impressions = [[(0, True)]] * 400
    found = {}
    for name, coarse in (("chance", rng.normal(size=fine.shape)), ("good", fine + 0.3 * rng.normal(size=fine.shape))):
        scores = make_scores(fine, coarse, fine, impressions)
        found[name] = evaluate(scores, retrieve=60, coarse=15).chosen.metrics
    recall = found["chance"]["ideal_recall_coarse"]
    assert recall.low < 15 / 60 < recall.high
    assert found["good"]["ideal_recall_coarse"].low > 0.9
    assert found["good"]["ndcg"].low > found["chance"]["ndcg"].high


def test_without_a_coarse_ranker_the_fine_one_scores_all_retrieved():
    scores = random_scores(3)
    without = CascadeScores(**{**scores.__dict__, "coarse": None})
    point = evaluate(without, retrieve=12, coarse=5).chosen
    assert point.coarse is None
    assert values(point) == pytest.approx(values(evaluate(scores, retrieve=12, coarse=12).chosen))
    with pytest.raises(ValueError, match="no coarse scores"):
        select(without, 12, 5, 5)


def test_beyond_what_was_scored_is_refused():
    scores = random_scores(3, width=20)
    with pytest.raises(ValueError, match="`retrieve` must be at most 20, the items scored. Received: 25"):
        evaluate(scores, retrieve=25, coarse=5)
    assert [point.retrieve for point in evaluate(scores, 20, 5, retrieve_grid=(10, 20, 25)).curves] == [10, 10, 20, 20]


def test_pads_are_never_listed():
    scores = random_scores(5)
    short = {**scores.__dict__, "retrieved": scores.retrieved.copy()}
    short["retrieved"][:, 8:] = -1
    for name in ("fine", "coarse"):
        short[name] = np.where(short["retrieved"] < 0, -np.inf, getattr(scores, name))
    padded = select(CascadeScores(**short), 30, 20, 10)
    assert ((padded.listed >= 0).sum(axis=1) == 8).all() and np.isfinite(
        kept_ndcg(scores, padded.listed_logit, 10)
    ).all()
    np.testing.assert_array_equal(padded.listed[:, :8], select(scores, 8, 8, 8).listed)


def test_dropped_impressions_share_the_mean_probability():
    scores = random_scores(8, requests=40)
    selection = select(scores, 10, 5, 5)
    losses, dropped = log_losses(scores, selection), ~selection.reached_fine
    mean = sigmoid(scores.logit)[dropped].mean()
    expected = -np.where(scores.label, np.log(mean), np.log(1 - mean))
    np.testing.assert_allclose(losses[dropped], expected[dropped])
    reached = sigmoid(scores.logit)
    np.testing.assert_allclose(
        losses[~dropped], -np.where(scores.label, np.log(reached), np.log(1 - reached))[~dropped], rtol=1e-9
    )


def test_intervals_are_of_users():
    """Copies of a request under one user carry no news; under users of their own they do."""
    one = random_scores(1, requests=12)
    rows = np.repeat(np.arange(12), 6)
    many = {name: getattr(one, name)[rows] for name in ("retrieved", "coarse", "fine", "ideal", "ideal_logit")}
    picks = [np.flatnonzero(one.request == r) for r in rows]
    flat = np.concatenate(picks)
    many |= {name: getattr(one, name)[flat] for name in ("item", "label", "logit")}
    many["request"] = np.repeat(np.arange(len(rows)), [len(pick) for pick in picks])
    width = {}
    for name, user in (("same", rows), ("own", np.arange(len(rows)))):
        found = evaluate(CascadeScores(catalogue_size=30, user=user, **many), 12, 5).chosen.metrics["ndcg"]
        width[name] = found.high - found.low
    assert width["same"] > 1.8 * width["own"]


def test_costs_and_gates(tmp_path):
    retrieve, coarse = StageCost(fixed=0.002, per_item=1e-6), StageCost(fixed=0.001, per_item=2e-6)
    costs = CascadeCosts(retrieve=retrieve, coarse=coarse, fine=StageCost(fixed=0.01, per_item=1e-4), ideal_seconds=0.5)
    assert costs.seconds(20, 10) == pytest.approx({"retrieve": 0.00202, "coarse": 0.00104, "fine": 0.011})
    assert costs.seconds(20, None) == pytest.approx({"retrieve": 0.00202, "fine": 0.012})
    scores = random_scores(2, requests=60, noise=0.25)

    def judged(**gates):
        config = CascadeEvaluationConfig(retrieve_grid=(20,), coarse_grid=(10,), gates=CascadeGates(**gates))
        return evaluate_cascade(scores, CascadeConfig(retrieve=20, coarse=10, top_k=5), config, costs, "autoint")

    result = judged(max_cost_share=0.05)
    assert result.chosen.cost_share == pytest.approx(0.01406 / 0.5)
    assert result.blessed and result.ranker == "autoint" and len(result.gates) == 3
    kept = f"{result.chosen.metrics['ndcg'].value:.1%}"
    expected = f"cascade 30 → 20 → 10 → 5: keeps {kept} of the NDCG of autoint over everything"
    assert result.headline == f"{expected}, at 2.8% of its cost"
    result.save(tmp_path)
    assert CascadeEvaluation.load(tmp_path) == result
    failed = judged(max_cost_share=0.02, min_requests=61, min_ndcg_kept=1.0)
    assert [gate.name for gate in failed.failed_gates] == ["min_requests", "ndcg_kept", "cost_share"]
    assert "of the ideal's cost" in failed.failed_gates[2].reason
    with pytest.raises(ValueError, match="a cascade narrows.*`coarse`=30, `retrieve`=20"):
        CascadeConfig(retrieve=20, coarse=30)


def test_a_line_through_measured_seconds():
    items = np.array([100, 1000, 5000])
    fitted = StageCost.fit(items, 0.003 + 2e-5 * items)
    assert fitted.fixed == pytest.approx(0.003) and fitted.per_item == pytest.approx(2e-5)
    assert StageCost.fit(items, np.array([0.01, 0.009, 0.008])).per_item == 0.0
    assert StageCost.fit(items, 2e-5 * items - 0.001).fixed == 0.0


def test_a_table_of_scores_is_read_back():
    scores = random_scores(4)
    splits = np.searchsorted(scores.request, np.arange(len(scores) + 1))
    columns = {name: list(getattr(scores, name)) for name in ("retrieved", "coarse", "fine", "ideal", "ideal_logit")}
    columns |= {
        name: [getattr(scores, name)[a:b] for a, b in zip(splits[:-1], splits[1:], strict=True)]
        for name in ("item", "label", "logit")
    }
    table = pa.table({"user_id": [f"u{u}" for u in scores.user], "unknown_items": [1] * len(scores), **columns})
    read = CascadeScores.from_table(table, 30)
    assert read.unknown_items == len(scores)
    # Sums are of other memory: on some processors their last bit is another.
    assert values(evaluate(read, 12, 5).chosen) == pytest.approx(values(evaluate(scores, 12, 5).chosen))
    for name in ("retrieved", "coarse", "fine", "request", "item", "label", "logit"):
        np.testing.assert_array_equal(getattr(read, name), getattr(scores, name))

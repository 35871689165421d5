"""Lists beside a cascade: closed forms against enumeration, the best single list, planted and null cases."""

import dataclasses
import itertools

import numpy as np
import pytest

from evaluation.cascade.config import CascadeConfig, CascadeEvaluationConfig, CascadeGates
from evaluation.cascade.evaluate import evaluate_cascade
from evaluation.cascade.metrics import dcg, sigmoid
from evaluation.cascade.scores import CascadeScores, ReferenceScores

SIZE, K, REQUESTS = 6, 2, 5


def make(seed=0, draw=3, coarse=True, personal=1.0, popularity=None):
    """A cascade of five requests over six items, with its references; `personal` is how much requests differ."""
    rng = np.random.default_rng(seed)
    fine = (rng.normal(size=SIZE) + personal * rng.normal(size=(REQUESTS, SIZE))).astype(np.float32)
    retrieved = np.argsort(-(fine + rng.normal(size=fine.shape)), axis=1)
    ideal = np.argsort(-fine, axis=1)[:, :K]
    rows, request = np.arange(REQUESTS)[:, np.newaxis], np.repeat(np.arange(REQUESTS), 3)
    item = np.concatenate([rng.choice(SIZE, 3, replace=False) for _ in range(REQUESTS)])
    worth = (sigmoid(fine) / dcg(sigmoid(fine[rows, ideal]))[:, np.newaxis]).sum(axis=0)
    popularity = rng.normal(size=SIZE) if popularity is None else popularity(fine)
    random = np.stack([rng.choice(SIZE, draw, replace=False) for _ in range(REQUESTS)])
    lists = {"popular": popularity, "single": worth}
    lists = {name: np.broadcast_to(np.argsort(-by)[:K], ideal.shape) for name, by in lists.items()}
    references = ReferenceScores(
        mean_probability=sigmoid(fine).mean(axis=1),
        random=random,
        random_logit=fine[rows, random],
        **lists,
        **{f"{name}_logit": fine[rows, listed] for name, listed in lists.items()},
        popularity=popularity[item],
        single_score=worth[item],
    )
    label = rng.random(len(item)) < 0.5
    label[:3] = [True, False, False]
    scores = CascadeScores(
        catalogue_size=SIZE,
        user=np.arange(REQUESTS),
        retrieved=retrieved,
        coarse=(fine + 0.3 * rng.normal(size=fine.shape))[rows, retrieved] if coarse else None,
        fine=fine[rows, retrieved],
        ideal=ideal,
        ideal_logit=fine[rows, ideal],
        request=request,
        item=item,
        label=label,
        logit=fine[request, item],
        references=references,
    )
    return scores, fine


def evaluate(scores, retrieve=4, coarse=3):
    gates = CascadeGates(min_requests=None, min_ndcg_kept=None, max_cost_share=None)
    config = CascadeEvaluationConfig(retrieve_grid=(retrieve,), coarse_grid=(coarse,), gates=gates)
    return evaluate_cascade(scores, CascadeConfig(retrieve=retrieve, coarse=coarse, top_k=K), config)


def kept(fine, listed):
    """Mean NDCG kept of one list, or of one list a request [R, k]."""
    rows = np.arange(len(fine))[:, np.newaxis]
    ideal = -np.sort(-fine, axis=1)[:, :K]
    return (dcg(sigmoid(fine[rows, np.broadcast_to(listed, (len(fine), K))])) / dcg(sigmoid(ideal))).mean()


def clicked(scores, listed):
    """Mean NDCG with clicks as gains of one list, over requests with a click."""
    found = []
    for r in range(REQUESTS):
        rows = zip(scores.item, scores.request, scores.label, strict=True)
        mine = {int(item) for item, of, label in rows if label and of == r}
        if mine:
            gains = np.array([[float(i in mine) for i in listed]])
            found.append(dcg(gains)[0] / dcg(np.ones((1, min(len(mine), K))))[0])
    return np.mean(found)


@pytest.mark.parametrize("seed", range(4))
def test_a_random_list_is_the_mean_over_all_lists(seed):
    scores, fine = make(seed)
    found = evaluate(scores).references["random_list"]
    every = list(itertools.permutations(range(SIZE), K))
    assert found["ndcg"].value == pytest.approx(np.mean([kept(fine, each) for each in every]))
    assert found["clicked_ndcg"].value == pytest.approx(np.mean([clicked(scores, each) for each in every]))


@pytest.mark.parametrize("seed", range(4))
def test_one_list_is_the_best_that_is_the_same_for_all(seed):
    scores, fine = make(seed)
    found = evaluate(scores).references["one_list"]["ndcg"].value
    assert found == pytest.approx(max(kept(fine, each) for each in itertools.permutations(range(SIZE), K)))


def test_popularity_is_its_list_and_orders_what_was_shown():
    scores, fine = make(1)
    found = evaluate(scores).references["popularity"]
    assert found["ndcg"].value == pytest.approx(kept(fine, scores.references.popular[0]))
    # Ordered by what the fine ranker thinks itself, the items that were shown stand as the ideal has them.
    own = dataclasses.replace(scores.references, popularity=scores.logit)
    result = evaluate(dataclasses.replace(scores, references=own))
    assert result.references["popularity"]["logged_ndcg"].value == pytest.approx(result.ideal["logged_ndcg"].value)
    assert result.references["popularity"]["logged_ndcg_kept"].value == pytest.approx(1.0)


def test_without_personal_taste_one_list_and_popularity_keep_everything():
    """Null control: where all requests are alike, no stage earns anything."""
    scores, _ = make(2, personal=0.0, popularity=lambda fine: fine[0])
    found = evaluate(scores, retrieve=6, coarse=6)
    for name in ("one_list", "popularity"):
        assert found.references[name]["ndcg"].value == pytest.approx(1.0)
    assert found.references["random_list"]["ndcg"].value < 1.0
    personal = evaluate(make(2, personal=3.0)[0], retrieve=6, coarse=6)
    assert personal.references["one_list"]["ndcg"].value < 0.95 < personal.chosen.metrics["ndcg"].value


def test_random_items_under_the_fine_ranker():
    scores, fine = make(3)
    found = evaluate(scores).references["random_fine"]["ndcg"].value
    best = [sorted(drawn, key=lambda item: -fine[r, item])[:K] for r, drawn in enumerate(scores.references.random)]
    assert found == pytest.approx(kept(fine, np.array(best)))
    whole = evaluate(make(3, draw=SIZE)[0]).references["random_fine"]
    assert whole["ndcg"].value == pytest.approx(1.0) and whole["logged_ndcg_kept"].value == pytest.approx(1.0)


def test_the_early_stages_alone():
    scores, fine = make(4)
    found = evaluate(scores, retrieve=4, coarse=3).references
    assert found["retrieval_alone"]["ndcg"].value == pytest.approx(kept(fine, scores.retrieved[:, :K]))
    order = np.argsort(-scores.coarse[:, :4], axis=1)[:, :K]
    by_coarse = np.take_along_axis(scores.retrieved, order, axis=1)
    assert found["coarse_alone"]["ndcg"].value == pytest.approx(kept(fine, by_coarse))
    assert "coarse_alone" not in evaluate(make(4, coarse=False)[0]).references


def test_references_have_intervals_by_the_same_users():
    """The ideal, drawn as a random retrieval of everything, is the cascade of everything: to the last digit."""
    scores, _ = make(5, draw=SIZE)
    result = evaluate(scores, retrieve=6, coarse=6)
    for metric in ("logged_ndcg", "clicked_ndcg"):
        same = result.references["random_fine"][metric], result.chosen.metrics[metric]
        assert same[0].low < same[0].high and same[0] == same[1]
    assert evaluate(dataclasses.replace(scores, references=None)).references == {}

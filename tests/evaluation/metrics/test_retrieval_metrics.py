"""Recall@k and MAP@k against a naive reference, TFRS, chance, and slices that are fixed beforehand."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import models  # noqa: F401  sets the Keras that TFRS needs
from evaluation.metrics import ranks as retrieval_ranks
from evaluation.metrics.ranks import (
    count_above,
    exact_top_k,
    expected_hits,
    expected_reciprocal_rank,
)
from evaluation.metrics.retrieval import (
    SLICES,
    RetrievalMetrics,
    item_slices,
)


def naive(queries, items, truth, k):
    """Mean hit and mean 1 / rank over all pairs, each the mean over every place among the ties."""
    hits, precision = [], []
    for query, own in zip(queries, truth, strict=True):
        scores = [float(np.float32(query @ item)) for item in items]
        above = sum(score > scores[own] for score in scores)
        tied = sum(score == scores[own] for score in scores)
        ranks = range(above + 1, above + tied + 1)
        hits.append(np.mean([rank <= k for rank in ranks]))
        precision.append(np.mean([1 / rank if rank <= k else 0 for rank in ranks]))
    return np.mean(hits), np.mean(precision)


def small_integers(rng, rows, dim=3):
    """Inner products of small integers are exact and often tied."""
    return rng.integers(-1, 2, (rows, dim)).astype(np.float32)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 30), st.integers(1, 40), st.integers(1, 12))
def test_against_the_naive_reference(seed, pairs, items, k):
    rng = np.random.default_rng(seed)
    queries, corpus, truth = small_integers(rng, pairs), small_integers(rng, items), rng.integers(0, items, pairs)
    state = RetrievalMetrics(ks=(k,))
    state.update(*count_above(queries, corpus, truth), np.zeros(pairs, np.int8))
    found = state.result()["all"]
    assert (found[f"recall@{k}"], found[f"map@{k}"]) == pytest.approx(naive(queries, corpus, truth, k))
    assert found == pytest.approx(state.result()["head"]) and np.isnan(state.result()["tail"][f"recall@{k}"])


def test_agrees_with_tfrs_factorized_top_k():
    import tensorflow as tf
    import tensorflow_recommenders as tfrs

    rng = np.random.default_rng(0)
    queries, items = rng.normal(size=(200, 8)).astype(np.float32), rng.normal(size=(500, 8)).astype(np.float32)
    truth = rng.integers(0, 500, 200)
    metric = tfrs.metrics.FactorizedTopK(tf.data.Dataset.from_tensor_slices(items).batch(64), ks=(1, 10, 50))
    metric.update_state(tf.constant(queries), tf.constant(items[truth]))
    above, tied = count_above(queries, items, truth)
    assert [expected_hits(above, tied, k).mean() for k in (1, 10, 50)] == pytest.approx(
        [float(value) for value in metric.result()]
    )


def test_equal_scores_earn_what_chance_earns():
    above, tied = count_above(np.zeros((7, 4), np.float32), np.ones((50, 4), np.float32), np.arange(7))
    np.testing.assert_array_equal(tied, 49)
    np.testing.assert_allclose(expected_hits(above, tied, 10), 0.2)
    np.testing.assert_allclose(expected_reciprocal_rank(above, tied, 10), sum(1 / r for r in range(1, 11)) / 50)


def test_chunks_and_parts_give_the_whole(monkeypatch):
    rng = np.random.default_rng(1)
    queries, items, truth = small_integers(rng, 90), small_integers(rng, 70), rng.integers(0, 70, 90)
    slices = item_slices(rng.integers(0, 5, 70))[truth]
    whole, parts = RetrievalMetrics(), RetrievalMetrics()
    whole.update(*count_above(queries, items, truth), slices)
    top = exact_top_k(queries, items, 9)
    monkeypatch.setattr(retrieval_ranks, "_CHUNK_SCORES", 7 * 70)
    for rows in (slice(40, 90), slice(0, 40)):
        part = RetrievalMetrics()
        part.update(*count_above(queries[rows], items, truth[rows]), slices[rows])
        parts.merge(part)
    assert whole.result()["all"] == pytest.approx(parts.result()["all"])
    assert whole.result()["tail"] == pytest.approx(parts.result()["tail"])
    for one, other in zip(top, exact_top_k(queries, items, 9), strict=True):
        np.testing.assert_array_equal(one, other)
    with pytest.raises(ValueError, match="ks"):
        whole.merge(RetrievalMetrics(ks=(3,)))


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 30))
def test_exact_top_k_is_a_stable_sort(seed, k):
    rng = np.random.default_rng(seed)
    queries, items = small_integers(rng, 5), small_integers(rng, 30)
    indices, scores = exact_top_k(queries, items, k)
    expected = np.argsort(-(queries @ items.T), axis=1, kind="stable")[:, :k]
    np.testing.assert_array_equal(indices, expected)
    np.testing.assert_array_equal(scores, np.take_along_axis(queries @ items.T, expected, axis=1))


def test_slices_are_by_items_and_fixed_by_train_counts():
    counts = np.array([5, 0, 9, 1, 1, 1, 1, 1, 1, 1, 2, 0])  # ten items were taken: one is head
    names = [SLICES[i] for i in item_slices(counts)]
    assert names[2] == "head" and names.count("head") == 1
    assert [i for i, name in enumerate(names) if name == "unseen"] == [1, 11]
    assert [SLICES[i] for i in item_slices(counts, head_share=0.2)].count("head") == 2
    with pytest.raises(ValueError, match="head_share"):
        item_slices(counts, head_share=1.5)


def test_wrong_arguments_are_named():
    with pytest.raises(ValueError, match="`truth` must lie in 0 to 3"):
        count_above(np.zeros((1, 2)), np.zeros((4, 2)), np.array([4]))
    with pytest.raises(ValueError, match="`k`=0"):
        exact_top_k(np.zeros((1, 2)), np.zeros((4, 2)), 0)
    with pytest.raises(ValueError, match="ks"):
        RetrievalMetrics(ks=(0,))

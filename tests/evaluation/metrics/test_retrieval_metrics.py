"""Recall@k and MAP@k against a naive reference, TFRS, chance, and slices that are fixed beforehand."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import models  # noqa: F401  sets the Keras that TFRS needs
from evaluation.metrics import ranks as retrieval_ranks
from evaluation.metrics.ranks import (
    count_above,
    expected_hits,
    expected_reciprocal_rank,
)
from evaluation.metrics.retrieval import (
    SLICES,
    item_slices,
    retrieval_metrics,
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
    table = retrieval_metrics(*count_above(queries, corpus, truth), np.zeros(pairs, np.int8), ks=(k,))
    found = table["all"]
    assert (found[f"recall@{k}"], found[f"map@{k}"]) == pytest.approx(naive(queries, corpus, truth, k))
    assert found == pytest.approx(table["head"]) and np.isnan(table["tail"][f"recall@{k}"])


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


def test_slices_are_of_their_own_pairs_and_chunks_change_nothing(monkeypatch):
    rng = np.random.default_rng(1)
    queries, items, truth = small_integers(rng, 90), small_integers(rng, 70), rng.integers(0, 70, 90)
    slices = item_slices(rng.integers(0, 5, 70))[truth]
    above, tied = count_above(queries, items, truth)
    whole = retrieval_metrics(above, tied, slices)
    for index, name in enumerate(SLICES):
        rows = slices == index
        assert whole[name] == pytest.approx(retrieval_metrics(above[rows], tied[rows], slices[rows])["all"])
        assert whole[name]["pairs"] == rows.sum() > 0
    monkeypatch.setattr(retrieval_ranks, "_CHUNK_SCORES", 7 * 70)
    for one, other in zip((above, tied), count_above(queries, items, truth), strict=True):
        np.testing.assert_array_equal(one, other)


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
    with pytest.raises(ValueError, match="ks"):
        retrieval_metrics(np.zeros(1), np.zeros(1), np.zeros(1, np.int8), ks=(0,))

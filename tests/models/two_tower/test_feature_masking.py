"""Masking and dropout of item features: every trap of SSL's two-stage augmentation is a test."""

import logging

import numpy as np
import pytest
import tensorflow as tf

from models.inputs.item_corpus import ItemCorpus
from models.masked_embedding import MaskedFeatureEmbedding, drop_values
from models.two_tower.contrastive_loss import info_nce, spread_out
from models.two_tower.feature_masking import correlated_masks, draw_correlated_mask, draw_random_mask, num_correlated
from tests.features.items.test_mutual_information import NAMES as ITEM_FEATURES
from tests.features.items.test_mutual_information import catalogue, estimate

NAMES = ("item_id", "category", "title", "price")  # single values, lists, numbers: the order of the fields


@pytest.fixture(scope="module")
def corpus(small_log) -> ItemCorpus:
    directory, encoding = small_log
    return ItemCorpus.load(directory, encoding)


@pytest.fixture()
def embedding(small_log) -> MaskedFeatureEmbedding:
    tf.keras.utils.set_random_seed(3)
    layer = MaskedFeatureEmbedding(small_log[1])
    layer.build(None)
    assert layer.item_features == NAMES
    return layer


@pytest.mark.parametrize("k, size", [(2, 1), (3, 2), (4, 3), (5, 3), (6, 4), (7, 4), (8, 5), (9, 5)])
def test_size_of_the_masked_set(k, size, caplog):
    """|F_m| = 1 + floor(k/2), capped so that view h keeps a feature: k = 2 would mask everything, and says so."""
    with caplog.at_level(logging.WARNING):
        assert 1 + num_correlated(k) == size
    assert bool(caplog.records) == (k == 2)
    mutual_information = np.random.default_rng(k).random((k, k))
    masks = correlated_masks(mutual_information + mutual_information.T)
    assert masks.sum(axis=1).tolist() == [size] * k
    assert masks.diagonal().all()  # the seed is in F_m
    assert (~masks).sum(axis=1).min() >= 1


def test_one_feature_cannot_be_masked():
    with pytest.raises(ValueError, match="two item features.*Received: 1"):
        num_correlated(1)


def test_relatives_are_those_of_largest_mutual_information():
    found = np.array([[9.0, 0.1, 0.5, 0.2], [0.1, 9.0, 0.3, 0.4], [0.5, 0.3, 9.0, 0.6], [0.2, 0.4, 0.6, 9.0]])
    expected = [[1, 0, 1, 1], [0, 1, 1, 1], [1, 0, 1, 1], [0, 1, 1, 1]]
    np.testing.assert_array_equal(correlated_masks(found), np.array(expected, bool))


def test_the_item_id_is_masked_with_every_seed_by_plug_in_and_not_without_bias():
    """The id's trap, shown: by plug-in mutual information view h never sees the id."""
    found = estimate(catalogue(2000))
    of_id = {e: correlated_masks(found.matrix(e))[:, 0] for e in ("plug_in", "minus_null")}
    assert of_id["plug_in"].all()
    related = [ITEM_FEATURES.index(name) for name in ("category", "brand", "words", "price")]
    assert not of_id["minus_null"][related].any()


def test_the_seed_is_uniform_and_redrawn():
    masks = tf.constant(np.eye(5, dtype=bool))
    draw = tf.function(draw_correlated_mask, autograph=False)
    tf.random.set_seed(1)
    counts = sum(draw(masks).numpy().astype(int) for _ in range(2000))
    assert ((counts - 400) ** 2 / 400).sum() < 18.5  # χ²(4) at 0.1 %


def test_random_masks_have_the_size_of_correlated_ones_and_reach_every_feature():
    tf.random.set_seed(1)
    drawn = np.stack([draw_random_mask(7).numpy() for _ in range(300)])
    assert set(drawn.sum(axis=1)) == {4}
    assert (abs(drawn.mean(axis=0) - 4 / 7) < 4.5 * np.sqrt(12 / 49 / 300)).all()


def test_a_masked_field_is_its_own_trained_default(embedding, corpus):
    """Not zero (a missing value), not another feature's; and the gradient reaches it."""
    features = corpus.gather(tf.range(10))
    masked = tf.constant([True, False, True, True])
    with tf.GradientTape() as tape:
        fields = embedding.item_fields(features, masked)
        loss = tf.reduce_sum(fields * tf.random.stateless_normal(tf.shape(fields), [1, 2]))
    defaults = embedding.defaults.numpy()
    for field in (0, 2, 3):
        np.testing.assert_array_equal(fields[:, field], np.tile(defaults[field], (10, 1)))
    np.testing.assert_array_equal(fields[:, 1], embedding.item_fields(features)[:, 1])
    assert (np.linalg.norm(defaults, axis=1) > 0).all()
    assert len(np.unique(defaults.round(7), axis=0)) == len(NAMES)
    gradient = tf.convert_to_tensor(tape.gradient(loss, embedding.defaults)).numpy()
    assert (np.abs(gradient).sum(axis=1) > 0).tolist() == [True, False, True, True]


def test_nothing_of_a_masked_feature_is_left(embedding, corpus):
    """Two different items are one when all is masked, numbers too; with one field left, only that one tells them."""
    fields = embedding.item_fields(corpus.gather(tf.constant([1, 2, 5])), tf.ones([4], tf.bool)).numpy()
    np.testing.assert_array_equal(fields, np.broadcast_to(fields[:1], fields.shape))
    for kept in range(4):
        fields = embedding.item_fields(corpus.gather(tf.constant([1, 2, 5])), tf.range(4) != kept).numpy()
        differs = np.abs(fields - fields[:1]).max(axis=(0, 2)) > 0
        assert differs.tolist() == [field == kept for field in range(4)]


def test_dropout_spares_single_values_and_divides_by_the_kept_count(embedding, corpus):
    features = corpus.gather(tf.range(len(corpus)))
    tf.random.set_seed(4)
    whole = embedding.item_fields(features).numpy()
    dropped = embedding.item_fields(features, dropout_rate=0.5).numpy()
    np.testing.assert_array_equal(dropped[:, [0, 1, 3]], whole[:, [0, 1, 3]])
    table, offset = embedding.table.numpy(), embedding._offsets["title"]
    default = embedding.defaults.numpy()[2]
    partly = 0
    for values, field in zip(features["title"].to_list(), dropped[:, 2], strict=True):
        subsets = [[v for i, v in enumerate(values) if mask >> i & 1] for mask in range(1, 2 ** len(values))]
        means = [table[np.array(subset) + offset].mean(axis=0) for subset in subsets]
        # A missing list stays missing (0); one that lost everything is masked.
        candidates = [*means, default] if values else [np.zeros_like(default)]
        distances = [np.abs(field - candidate).max() for candidate in candidates]
        assert min(distances) < 1e-7
        partly += bool(values) and int(np.argmin(distances)) < len(means) - 1
    assert partly


def test_dropped_values():
    values = tf.ragged.constant([[1] * 400, [], [2], [3] * 4], dtype=tf.int32, row_splits_dtype=tf.int64)
    tf.random.set_seed(0)
    kept, lost = drop_values(values, 0.3)
    assert abs(int(kept.row_lengths()[0]) - 280) < 4.5 * np.sqrt(400 * 0.21)
    everything, lost = drop_values(values, 0.999999)
    assert lost.numpy().tolist() == [True, False, True, True] and everything.row_lengths().numpy().sum() == 0
    nothing, lost = drop_values(values, 0.0)
    assert nothing.to_list() == values.to_list() and not lost.numpy().any()


def test_identical_views_of_orthogonal_items_lose_log_one_plus_n_minus_one():
    """log(1 + (N-1) e^{-1/τ}): N - 1 negatives, of the other view; SimCLR's 2N - 2 would give another number."""
    n, tau = 8, 0.5
    views = tf.eye(n)
    expected = np.log(1 + (n - 1) * np.exp(-1 / tau))
    assert float(info_nce(views, views, tau)) == pytest.approx(expected, rel=1e-6)
    assert float(spread_out(views, tau)) == pytest.approx(expected, rel=1e-6)
    assert expected != pytest.approx(np.log(1 + (2 * n - 2) * np.exp(-1 / tau)), rel=1e-2)


def test_info_nce_is_one_directional_and_divides_inside_the_exponent():
    first = tf.math.l2_normalize(tf.constant([[1.0, 2.0], [3.0, -1.0], [0.5, 0.5]]), axis=1)
    second = tf.math.l2_normalize(tf.constant([[2.0, 2.0], [1.0, -1.0], [-1.0, 0.5]]), axis=1)
    cosines = first.numpy() @ second.numpy().T / 0.07
    expected = np.mean(np.log(np.exp(cosines).sum(axis=1)) - np.diag(cosines))
    assert float(info_nce(first, second, 0.07)) == pytest.approx(expected, rel=1e-5)
    assert float(info_nce(second, first, 0.07)) != pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("size", [40, 5000])
def test_samples_are_uniform_without_replacement(small_log, size):
    """Both ways of sampling; and the control: samples by popularity fail the same test."""
    corpus = ItemCorpus.load(*small_log)
    corpus.item_ids = range(size)  # only its length counts here
    draw = tf.function(lambda: corpus.sample(30), autograph=False)
    tf.random.set_seed(2)
    draws = [draw().numpy() for _ in range(3000)]
    assert all(len(np.unique(d)) == len(d) == 30 for d in draws)

    def chi_squared(samples) -> float:
        counts = np.bincount(samples % 40, minlength=40)
        return float(((counts - counts.mean()) ** 2 / counts.mean()).sum())

    limit = 72.1  # χ²(39) at 0.1 %
    assert chi_squared(np.concatenate(draws)) < limit
    popular = np.random.default_rng(0).zipf(1.5, 90_000)
    assert chi_squared(popular[popular < size]) > limit


def test_a_small_corpus_is_sampled_whole(corpus):
    assert sorted(corpus.sample(1000).numpy().tolist()) == list(range(len(corpus)))

"""HCN trained on planted interests: centres of their own, less alike than ComiRec-SA's, soft and max, and a null."""

import numpy as np
import pytest
import tensorflow as tf

from benchmarks.candidates.planted_interests import PlantedInterests, purity, train_on_planted
from models.hcn.config import HcnConfig
from models.hcn.interest_scoring import pairwise_cosines
from models.hcn.model import Hcn

WORLD = {"clusters": 8, "items_per_cluster": 10}
STEPS = 200


def trained(seed=0, world=None, **settings):
    """A model of four interests, in a world of eight clusters of which users have four."""
    world = world or PlantedInterests(**WORLD)
    tf.keras.utils.set_random_seed(seed)
    model = Hcn(world.encoding, HcnConfig(**{"dim": 32, "hidden_units": (32,), **settings}))
    train_on_planted(model, world, STEPS, seed, learning_rate=3e-3)
    return world, model, world.batch(np.random.default_rng(99), 400)


def auc(labels, scores):
    from evaluation.metrics.registry import compute_metrics
    from evaluation.metrics.rows import ScoredRows

    rows = np.arange(len(labels))
    return compute_metrics(ScoredRows(labels, scores, rows, rows), ["auc"])["auc"]


def mean_cosine(model, batch):
    cosines, pairs = pairwise_cosines(*model.user_interests(batch))
    return float(tf.reduce_sum(cosines * pairs) / tf.reduce_sum(pairs))


@pytest.fixture(scope="module")
def planted():
    return trained()


def test_planted_interests_get_centres_of_their_own(planted):
    world, model, batch = planted
    for window in ("short", "long"):
        clusters = world.cluster_of(batch["history"][window]["item_id"])
        assigned = model.extract(batch["history"], window).assignment.numpy().argmax(axis=1)
        assert purity(clusters, assigned) > 0.9
        assert purity(clusters, np.random.default_rng(0).permuted(assigned, axis=1)) < 0.6
    assert auc(batch["label"], model(batch).numpy()) > 0.65


def test_interests_are_less_alike_than_comirec_s(planted):
    _, model, batch = planted
    _, comirec, _ = trained(extractor="comirec_sa", windows="joined", attention_units=200, diversity_weight=0.0)
    assert mean_cosine(model, batch) < mean_cosine(comirec, batch) - 0.1


def test_soft_and_max_rank_alike_but_not_the_same(planted):
    _, model, batch = planted
    soft, most = (model(batch, scoring=scoring).numpy() for scoring in ("soft", "max"))
    ranks = [scores.argsort().argsort() for scores in (soft, most)]
    assert 0.9 < np.corrcoef(*ranks)[0, 1] < 1.0
    assert (most >= soft - 1e-5).all() and abs(auc(batch["label"], soft) - auc(batch["label"], most)) < 0.05


def test_shuffled_labels_teach_nothing():
    _, model, batch = trained(world=PlantedInterests(**WORLD, shuffle_labels=True))
    own = PlantedInterests(**WORLD).batch(np.random.default_rng(98), 400)
    assert abs(auc(own["label"], model(own).numpy()) - 0.5) < 0.04

"""HCN as a model: two sides that never meet, disjoint windows, weights and teachers."""

from itertools import pairwise

import numpy as np
import pytest
import tensorflow as tf

from models.hcn.config import HcnConfig
from models.hcn.interest_scoring import pairwise_cosines
from models.hcn.model import Hcn
from models.inputs.config import InputConfig
from models.inputs.history_windows import BehaviorShards
from models.inputs.input_pipeline import make_dataset
from models.inputs.item_corpus import ItemCorpus

KINDS = {
    "hcn": {},
    "shared_layers": {"share_layers": True},
    "two_extractors": {"share_windows": False, "recency": False, "routing": "learnt"},
    "comirec_sa": {"extractor": "comirec_sa", "windows": "joined"},
    "one_vector": {"extractor": "one_vector", "windows": "joined", "request_features": False},
}


@pytest.fixture(scope="module")
def batch(small_log):
    return next(iter(make_dataset(small_log[0], "eval", small_log[1], InputConfig(batch_size=300), histories=True)))


def make(encoding, **settings) -> Hcn:
    """A model of random weights: new embeddings are so small that all items are alike."""
    tf.keras.utils.set_random_seed(1)
    model = Hcn(encoding, HcnConfig(**{"dim": 16, "hidden_units": (16,), "diversity_weight": 0.0, **settings}))
    model.embedding.table.assign(tf.random.normal(model.embedding.table.shape))
    return model


def twins(encoding, batch, **settings) -> tuple[Hcn, Hcn]:
    """A model, and one of the same weights with other settings."""
    plain, other = make(encoding), make(encoding, **settings)
    plain(batch), other(batch)
    other.set_weights(plain.get_weights())
    return plain, other


def changed(batch, window, change):
    """The batch with other ids in a window, where behaviours stand."""
    history = dict(batch["history"])
    history[window] = {n: tf.where(v > 0, change(n, v), 0) for n, v in history[window].items()}
    return {**batch, "history": history}


@pytest.fixture(params=KINDS)
def model(request, small_log):
    return make(small_log[1], **KINDS[request.param])


def test_shapes_and_finite_for_users_of_every_history(model, batch):
    interests, valid = (values.numpy() for values in model.user_interests(batch))
    requests = len(batch["history"]["short_length"])
    count = 1 if model.config.extractor == "one_vector" else 4
    assert interests.shape == (requests, count, 16) and valid.shape == (requests, count)
    lengths = (batch["history"]["short_length"] + batch["history"]["long_length"]).numpy()
    assert {0, 1} < set(lengths.tolist())
    assert np.isfinite(interests).all() and np.isfinite(model(batch)).all()
    assert (valid.sum(1) >= 1).all() and (valid[lengths == 0].sum(1) == 1).all()
    np.testing.assert_array_equal(interests[~valid], 0)
    if model.config.extractor == "hierarchical":
        assert (valid.sum(1) <= np.maximum(lengths, 1)).all()  # empty centres are flagged


def test_users_without_behaviours_differ_by_their_features(small_log, batch):
    model = make(small_log[1])
    interests, valid = (values.numpy() for values in model.user_interests(batch))
    nobody = np.flatnonzero(batch["history"]["short_length"] == 0)
    assert len(nobody) > 3 and valid[nobody, 0].all()
    assert len(np.unique(interests[nobody, 0].round(5), axis=0)) > 3


def test_empty_centres_are_not_scored(small_log, batch):
    model = make(small_log[1])
    interests, valid = (values.numpy() for values in model.user_interests(batch))
    items = model.embed_items(batch["features"])
    assert (~valid).any()
    wild = np.where(valid[..., np.newaxis], interests, 1e3)
    for scoring in ("soft", "max"):
        found = model.logits_of(interests, valid, items, scoring)
        np.testing.assert_allclose(model.logits_of(wild, valid, items, scoring), found, atol=1e-6)


def test_padding_changes_nothing(model, batch):
    pad = lambda values: tf.pad(values, [[0, 0], [500, 0]])  # noqa: E731
    history = {k: {n: pad(v) for n, v in part.items()} if isinstance(part, dict) else part
               for k, part in batch["history"].items()}  # fmt: skip
    np.testing.assert_allclose(model({**batch, "history": history}), model(batch), atol=1e-5)


def test_user_vectors_do_not_see_the_candidates(model, batch):
    before, _ = model.user_interests(batch)
    features = dict(batch["features"])
    for name in model.item_features:
        features[name] = features[name][::-1]
    other = {**batch, "features": features, "label": 1 - batch["label"], "item_row": batch["item_row"][::-1]}
    np.testing.assert_allclose(model.user_interests(other)[0], before, atol=1e-6)
    assert np.abs(model(other) - model(batch)).max() > 1e-3
    kept = {"features": {n: batch["features"][n] for n in model.request_features}, "history": batch["history"]}
    np.testing.assert_allclose(model.user_interests(kept)[0], before, atol=1e-6)


@pytest.mark.parametrize("scoring", ["soft", "max"])
def test_looked_up_scores_are_the_model_s(model, batch, scoring, small_log):
    corpus = ItemCorpus.load(*small_log)
    table = model.embed_corpus(corpus)
    looked_up = model.logits_of(*model.user_interests(batch), table, scoring).numpy()
    rows = batch["item_row"].numpy()
    known = rows > 0
    corpus_features = corpus.gather(np.maximum(rows, 1) - 1)
    scored = model({**batch, "features": {**batch["features"], **corpus_features}}, scoring=scoring).numpy()
    index = batch["request_index"].numpy()
    np.testing.assert_allclose(looked_up[index, np.maximum(rows, 1) - 1][known], scored[known], atol=2e-5)
    assert known.sum() > 100 and scored.std() > 0.01


def test_windows_are_extracted_apart_and_do_not_overlap(small_log, batch):
    """Each reads its own behaviours alone, and no behaviour of the log lies in both."""
    model = make(small_log[1])
    other = lambda name, values: values % 3 + 1  # noqa: E731
    for own, another in (("short", "long"), ("long", "short")):
        before = model.extract(batch["history"], own).centres
        again = model.extract(changed(batch, another, other)["history"], own).centres
        np.testing.assert_allclose(again, before, atol=1e-6)
        assert np.abs(model.extract(changed(batch, own, other)["history"], own).centres - before).max() > 1e-2
    spec, history = small_log[1].spec.history, batch["history"]
    short, long = history["short_length"].numpy(), history["long_length"].numpy()
    assert (long > 0).any() and (short[long > 0] == spec.short_length).all()
    # Behaviours are numbered by their place in the log: the long window ends just before the short one.
    log = BehaviorShards(
        np.array([0, 30]), {"item_id": np.arange(1, 31), "category": np.ones(30), "item_row": np.ones(30)}
    )
    cut = log.windows(np.zeros(31, int), np.arange(31), spec)
    for end in range(31):
        parts = [cut[w]["item_id"][end][cut[w]["item_id"][end] > 0].tolist() for w in ("long", "short")]
        first = max(0, end - spec.short_length - spec.long_length)
        assert parts[0] + parts[1] == list(range(first + 1, end + 1))


def test_only_the_newest_of_the_long_window_are_read(small_log, batch):
    model = make(small_log[1], long_length=2)
    assert (batch["history"]["long_length"] > 2).numpy().any()
    history = dict(batch["history"])
    history["long"] = {name: values[:, -2:] for name, values in history["long"].items()}
    history["long_length"] = tf.minimum(history["long_length"], 2)
    np.testing.assert_allclose(model(batch), model({**batch, "history": history}), atol=1e-5)


def test_every_layer_moves_the_centres_and_one_layer_is_another_model(small_log, batch):
    one, three = (make(small_log[1], num_layers=t, share_layers=True) for t in (1, 3))
    steps = three.trace(batch["history"], "short")
    some = batch["history"]["short_length"] > 0
    moved = [float(tf.reduce_mean(tf.norm(b.centres - a.centres, axis=-1)[some])) for a, b in pairwise(steps)]
    assert len(moved) == 3 and min(moved) > 0.1
    assert np.abs(one(batch) - three(batch)).max() > 1e-3
    count = lambda model: sum(int(np.prod(v.shape)) for v in model.trainable_variables)  # noqa: E731
    assert count(one) == count(three)


def test_weights_of_one_change_nothing_and_weights_of_zero_leave_out(small_log, batch):
    model = make(small_log[1])
    loss = model.compute_loss(batch)
    ones = tf.ones_like(batch["label"])
    np.testing.assert_allclose(model.compute_loss({**batch, "weight": ones}), loss, rtol=1e-6)
    alike = {**batch, "weight": 7 * ones, "source": 0 * batch["position"]}
    np.testing.assert_allclose(model.compute_loss(alike), loss, rtol=1e-6)
    few = tf.cast(batch["position"] == 0, tf.float32)
    losses = tf.nn.sigmoid_cross_entropy_with_logits(batch["label"], model(batch)).numpy()
    np.testing.assert_allclose(model.compute_loss({**batch, "weight": few}), losses[few.numpy() > 0].mean(), rtol=1e-5)


def test_unshown_items_have_an_intercept_of_their_own(small_log, batch):
    """Pseudo-negatives move the order, not the level: logits stay those of impressions."""
    source = tf.cast(batch["position"] > 1, tf.int32)
    given = {**batch, "source": source, "weight": tf.where(source > 0, 50.0, 1.0)}
    model = make(small_log[1], unshown_weight=0.02)
    with tf.GradientTape() as tape:
        loss = model.compute_loss(given)
    gradient = tape.gradient(loss, model.unshown_shift.kernel)
    probability = tf.sigmoid(model(batch)).numpy()
    unshown = source.numpy() > 0
    expected = (probability - batch["label"].numpy())[unshown].sum() / len(unshown)
    np.testing.assert_allclose(gradient, expected, rtol=1e-3)
    model.unshown_shift.kernel.assign([[-5.0]])
    np.testing.assert_allclose(tf.sigmoid(model(given)), probability, atol=1e-6)


def test_distillation_pulls_towards_the_teacher(small_log, batch):
    with pytest.raises(ValueError, match="`distillation` needs `teacher_logit`"):
        make(small_log[1], distillation=1.0).compute_loss(batch)
    plain, taught = twins(small_log[1], batch, distillation=2.0)
    given = {**batch, "teacher_logit": tf.random.normal(batch["label"].shape, seed=1)}
    own = tf.nn.sigmoid_cross_entropy_with_logits(tf.sigmoid(given["teacher_logit"]), plain(batch))
    expected = plain.compute_loss(batch) + 2.0 * tf.reduce_mean(own)
    np.testing.assert_allclose(taught.compute_loss(given), expected, rtol=1e-5)
    # Unshown items can learn from the teacher alone: their label is then not read.
    source = tf.cast(batch["position"] > 1, tf.int32)
    alone = make(small_log[1], distillation=1.0, unshown_labels="teacher", unshown_weight=1.0)
    losses = [alone.compute_loss({**given, "source": source, "label": tf.where(source > 0, x, batch["label"])})
              for x in (0.0, 1.0)]  # fmt: skip
    np.testing.assert_allclose(*losses, rtol=1e-6)


def test_the_diversity_term_is_added_as_weighed(small_log, batch):
    plain, diverse = twins(small_log[1], batch, diversity_weight=0.5)
    interests, valid = plain.history_interests(batch["history"])
    cosines, pairs = pairwise_cosines(interests, valid)
    expected = tf.reduce_sum(tf.nn.relu(cosines) * pairs) / tf.reduce_sum(pairs)
    assert expected > 0
    np.testing.assert_allclose(diverse.compute_loss(batch), plain.compute_loss(batch) + 0.5 * expected, rtol=1e-5)


def test_it_says_what_is_missing(small_log):
    encoding = small_log[1]
    with pytest.raises(ValueError, match="history feature `price`"):
        make(encoding, features=("price",))
    with pytest.raises(ValueError, match="excludes every history feature"):
        make(encoding, exclude_features=("item_id", "category"))

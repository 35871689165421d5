"""The penalty of looked-up rows by the dense formula, one step in closed form, and what weight decay leaves alone."""

import numpy as np
import pytest
import tensorflow as tf

from models.autoint.config import AutoIntConfig
from models.autoint.model import AutoInt
from models.embedding import FeatureEmbedding
from models.inputs.config import InputConfig
from models.inputs.input_pipeline import make_dataset
from models.training.config import RegularizationConfig
from models.training.loop import build_variables, step_runner
from models.training.regularization import Regularizer

RATE = 0.25


@pytest.fixture(scope="module")
def batch(small_log):
    return next(iter(make_dataset(small_log[0], "train", small_log[1], InputConfig(batch_size=64))))


def embedding_of(small_log, batch) -> FeatureEmbedding:
    """An embedding whose rows are large enough to tell apart."""
    tf.keras.utils.set_random_seed(3)
    layer = FeatureEmbedding(small_log[1])
    layer(batch)
    layer.table.assign(tf.random.normal(layer.table.shape))
    return layer


def by_hand(layer: FeatureEmbedding, encoding, batch) -> np.ndarray:
    """`[total ids]`: of how many of a candidate's fields each row is, in the mean over candidates; a loop."""
    found, index = np.zeros(layer.table.shape[0]), batch["request_index"].numpy()
    for candidate, request in enumerate(index):
        for name, offset in layer._offsets.items():
            place = request if encoding.spec[name].scope == "request" else candidate
            ids = np.atleast_1d(batch["features"][name][int(place)].numpy())
            ids = ids[ids > 0]
            for row in ids:
                found[offset + row] += 1 / len(ids)
    return found / len(index)


def test_the_penalty_is_the_mean_over_candidates_of_their_rows_squares(small_log, batch):
    """Sparse against dense: value and gradient of the whole table weighed by how often each row is read."""
    layer = embedding_of(small_log, batch)
    share = by_hand(layer, small_log[1], batch)
    assert share[share > 0].min() < 0.05 and share.max() > 0.3  # an item of one candidate; an age
    factors = np.random.default_rng(0).random(len(share)).astype(np.float32)
    with tf.GradientTape() as tape:
        found = layer.squared_norm(batch, tf.constant(factors))
    table = layer.table.numpy()
    np.testing.assert_allclose(found, np.sum(factors * share * np.sum(table**2, axis=1)), rtol=1e-5)
    gradient = tape.gradient(found, layer.table)
    assert isinstance(gradient, tf.IndexedSlices)
    expected = 2 * (factors * share)[:, None] * table
    np.testing.assert_allclose(tf.convert_to_tensor(gradient), expected, rtol=1e-4, atol=1e-8)
    np.testing.assert_allclose(layer.squared_norm(batch), np.sum(share * np.sum(table**2, axis=1)), rtol=1e-5)


def test_the_penalty_is_the_square_of_what_is_embedded(small_log, batch):
    """Of single values it is the squared norm of the layer's own output."""
    several = ("interests", "title", "hour", "price")
    layer = FeatureEmbedding(small_log[1], exclude=several)
    fields = layer(batch).numpy()
    np.testing.assert_allclose(layer.squared_norm(batch), np.mean(np.sum(fields**2, axis=(1, 2))), rtol=1e-5)


class Still(AutoInt):
    """An AutoInt whose loss moves nothing: every step is the regularisation's."""

    def compute_loss(self, inputs, training=False):
        return 0.0 * super().compute_loss(inputs, training)


def one_step(small_log, batch, **config) -> tuple[AutoInt, dict[str, np.ndarray]]:
    """A model after a step of gradient descent, and its variables before it."""
    tf.keras.utils.set_random_seed(3)
    model = Still(small_log[1], AutoIntConfig(variant="reference", deep_layers=(4,)))
    model.compile(optimizer=tf.keras.optimizers.legacy.SGD(RATE))
    build_variables(model, batch)
    for variable in model.trainable_variables:
        variable.assign(tf.random.normal(variable.shape))
    before = {variable.name: variable.numpy() for variable in model.trainable_variables}
    regularizer = Regularizer(model, RegularizationConfig(**config))
    done, finite = step_runner(model, regularizer)(iter(tf.data.Dataset.from_tensors(batch)), 5)
    assert (int(done), bool(finite)) == (1, True)
    return model, before


@pytest.mark.parametrize("power", [0.0, 0.5, 1.0])
def test_a_step_shrinks_each_row_as_often_as_it_was_read(small_log, batch, power):
    """`e ← e (1 - 2 η λ (100/c)^p share)`; everything else stays."""
    model, before = one_step(small_log, batch, embedding_l2=0.1, frequency_power=power)
    layer, encoding = model.embedding, small_log[1]
    share = by_hand(layer, encoding, batch)
    counts = np.ones(len(share))
    for name, offset in layer._offsets.items():
        terms = encoding.counts(name)
        size = encoding.vocabulary_size(name)
        counts[offset + size - len(terms) : offset + size] = terms
    seen = share > 0
    expected = before[layer.table.name] * (1 - 2 * RATE * 0.1 * (100 / counts) ** power * share)[:, None]
    np.testing.assert_allclose(layer.table.numpy()[seen], expected[seen], rtol=1e-4)
    np.testing.assert_array_equal(layer.table.numpy()[~seen], before[layer.table.name][~seen])
    for variable in model.trainable_variables:
        if variable is not layer.table:
            np.testing.assert_array_equal(variable.numpy(), before[variable.name], err_msg=variable.name)


def test_weight_decay_is_of_the_dense_matrices_alone(small_log, batch):
    """`W ← W (1 - η wd)`: no embedding, no bias, no normalisation, and no look-up of the whole model's."""
    model, before = one_step(small_log, batch, weight_decay=0.1)
    decayed = set()
    for variable in model.trainable_variables:
        after, old = variable.numpy(), before[variable.name]
        if not np.array_equal(after, old):
            np.testing.assert_allclose(after, old * (1 - RATE * 0.1), rtol=1e-5)
            decayed.add(variable.name)
    assert decayed == {v.name for v in model.trainable_variables if "kernel" in v.name} and len(decayed) > 10


def test_rows_of_no_vocabulary_have_a_count_too(small_log, batch):
    """Out of a vocabulary: as the rarest term; hashed: as if all buckets were seen alike."""
    encoding, layer = small_log[1], embedding_of(small_log, batch)
    counts = layer.row_counts()
    assert len(counts) == layer.table.shape[0] and counts.min() >= 1
    terms = encoding.counts("item_id")
    start, size = layer._offsets["item_id"], encoding.vocabulary_size("item_id")
    np.testing.assert_array_equal(counts[start + size - len(terms) : start + size], terms)
    np.testing.assert_array_equal(counts[start + 1 : start + size - len(terms)], terms.min())

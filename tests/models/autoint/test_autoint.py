"""AutoInt against its equations, its printed parameter counts, and the traps of toy versions (arXiv 1810.11921)."""

import numpy as np
import pytest
import tensorflow as tf

from features.encoding.feature_encoding import FeatureEncoding, Moments
from features.spec import FeatureSpec
from models.autoint.config import AutoIntConfig
from models.autoint.interacting_layer import InteractingLayer
from models.autoint.model import VARIANTS, AutoInt
from models.embedding import FeatureEmbedding
from models.inputs.config import InputConfig
from models.inputs.input_pipeline import make_dataset


@pytest.fixture
def batch(small_log):
    directory, encoding = small_log
    return next(iter(make_dataset(directory, "train", encoding, InputConfig(batch_size=32))))


def _criteo() -> FeatureEncoding:
    """39 numeric fields stand for Criteo's: only their number matters to the attention part."""
    features = [{"name": f"I{i}", "table": "impressions", "kind": "numeric"} for i in range(39)]
    moments = {feature["name"]: Moments() for feature in features}
    return FeatureEncoding(FeatureSpec.model_validate({"name": "criteo", "features": features}), {}, moments, {})


@pytest.mark.parametrize(("variant", "expected"), [("paper", 39_361), ("reference", 40_513)])
def test_parameter_counts_of_paper_and_reference_code(variant, expected):
    model = AutoInt(_criteo(), AutoIntConfig(variant=variant))
    features = {f"I{i}": tf.zeros([2]) for i in range(39)}
    model({"features": features, "request_index": tf.constant([0, 1])})
    embedding = 39 * 16
    assert sum(int(np.prod(v.shape)) for v in model.trainable_variables) - embedding == expected


def _naive(layer: InteractingLayer, fields: np.ndarray) -> np.ndarray:
    """Eq. 5 to 8, one number at a time over samples, heads and fields."""
    relu = lambda x: np.maximum(x, 0)  # noqa: E731
    act = relu if layer.projection_relu else (lambda x: x)

    def project(kind, e):
        bias = getattr(layer, f"{kind}_bias").numpy() if layer.use_bias else 0.0
        return act(e @ getattr(layer, f"{kind}_kernel").numpy() + bias)

    outputs = []
    for sample in fields:
        rows = []
        for m in range(len(sample)):
            heads = []
            for h in range(layer.num_heads):
                part = slice(h * layer.head_dim, (h + 1) * layer.head_dim)
                query = project("query", sample[m])[part]
                scores = np.array([query @ project("key", e)[part] for e in sample])
                scores = scores / np.sqrt(layer.head_dim) if layer.scale else scores
                weights = np.exp(scores - scores.max())
                weights /= weights.sum()
                heads.append(sum(w * project("value", e)[part] for w, e in zip(weights, sample, strict=True)))
            row = np.concatenate(heads) + (project("residual", sample[m]) if layer.residual else 0.0)
            row = relu(row)
            if layer.layer_norm:
                row = (row - row.mean()) / np.sqrt(row.var() + 1e-8) * layer.gamma.numpy() + layer.beta.numpy()
            rows.append(row)
        outputs.append(rows)
    return np.array(outputs)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("residual", [True, False])
def test_layer_equals_the_equations(variant, residual):
    layer = InteractingLayer(3, 5, residual=residual, **VARIANTS[variant])
    fields = np.random.default_rng(0).normal(size=(4, 6, 7)).astype(np.float32)
    layer(fields)
    for variable in layer.weights:  # biases off zero, or leaving them out would not show
        variable.assign_add(tf.random.stateless_normal(variable.shape, [1, 2]) * 0.3)
    output = layer(fields)
    assert output.shape == (4, 6, 15)  # `head_dim` is per head
    np.testing.assert_allclose(output, _naive(layer, fields), atol=2e-5)


@pytest.mark.parametrize("variant", VARIANTS)
def test_layer_is_equivariant_to_the_order_of_fields(variant):
    layer = InteractingLayer(2, 4, **VARIANTS[variant])
    fields = tf.random.stateless_normal([5, 6, 8], [0, 1])
    order = [3, 0, 5, 1, 4, 2]
    np.testing.assert_allclose(
        layer(tf.gather(fields, order, axis=1)), tf.gather(layer(fields), order, axis=1), atol=1e-5
    )


def test_attention_rows_sum_to_one_over_keys(small_log, batch):
    model = AutoInt(small_log[1], AutoIntConfig())
    model(batch)
    model.embedding.table.assign(tf.random.stateless_normal(model.embedding.table.shape, [0, 1]))  # uneven attention
    maps = model.attention_maps(batch)
    assert len(maps) == 3
    fields = len(model.field_names)
    for weights in maps:
        assert weights.shape == (len(batch["label"]), 2, fields, fields)
        np.testing.assert_allclose(tf.reduce_sum(weights, axis=-1), 1.0, atol=1e-5)
        # Over queries they do not: the softmax ran over the right axis.
        assert not np.allclose(tf.reduce_sum(weights, axis=-2), 1.0, atol=1e-3)


def test_without_deep_layers_there_is_no_feed_forward_term(small_log, batch):
    """AutoInt is not AutoInt+: the deep network must change the logit, and be absent by default."""
    plain = AutoInt(small_log[1], AutoIntConfig())
    plain(batch)
    assert plain.deep is None and not [v for v in plain.variables if "deep" in v.name]
    deep = AutoInt(small_log[1], AutoIntConfig(deep_layers=(8, 4)))
    logits = deep(batch)
    for variable in deep.output_layer.variables:
        variable.assign(tf.zeros_like(variable))
    embedded = tf.reshape(deep.embedding(batch), [len(batch["label"]), -1])
    np.testing.assert_allclose(deep(batch), deep.deep(embedded)[:, 0], atol=1e-6)
    assert not np.allclose(deep(batch), logits)


def _embed(encoding, **features):
    names = {feature.name for feature in encoding.spec.features}
    embedding = FeatureEmbedding(encoding, exclude=tuple(names - set(features)))
    return embedding, embedding({"features": features, "request_index": tf.constant([0, 1])})


def test_multi_valued_fields_are_means(small_log):
    """The same value thrice is the value once, and padding does not dilute."""
    ids = tf.ragged.constant([[2, 2, 2], [2]], dtype=tf.int32)
    _, thrice = _embed(small_log[1], title=ids)
    np.testing.assert_allclose(thrice[0], thrice[1], rtol=1e-6)
    embedding, mixed = _embed(small_log[1], title=tf.ragged.constant([[2, 3, 4], [0, 3]], dtype=tf.int32))
    np.testing.assert_allclose(mixed[0, 0], tf.reduce_mean(embedding.table[2:5], axis=0), rtol=1e-5)
    np.testing.assert_allclose(mixed[1, 0], embedding.table[3], rtol=1e-6)


def test_missing_values_embed_as_exact_zeros(small_log):
    ids = tf.constant([0, 1], tf.int32)
    _, fields = _embed(
        small_log[1],
        category=ids,
        title=tf.ragged.constant([[], [1]], dtype=tf.int32, ragged_rank=1),
        price=tf.constant([0.0, 1.5]),
    )
    assert not fields[0].numpy().any()
    assert fields[1].numpy().any(axis=-1).all()


def test_numeric_fields_scale_one_vector(small_log):
    embedding, fields = _embed(small_log[1], price=tf.constant([2.0, -3.0]))
    np.testing.assert_allclose(fields[:, 0], [[2.0], [-3.0]] * embedding.numeric_vectors[0], rtol=1e-6)


@pytest.mark.parametrize("variant", VARIANTS)
def test_extreme_numbers_give_finite_logits_and_gradients(small_log, batch, variant):
    model = AutoInt(small_log[1], AutoIntConfig(variant=variant))
    price = np.full(len(batch["label"]), 3.4e38, np.float32)
    price[::2] *= -1
    extreme = {**batch, "features": {**batch["features"], "price": tf.constant(price)}}
    with tf.GradientTape() as tape:
        loss = model.compute_loss(extreme)
    gradients = tape.gradient(loss, model.trainable_variables)
    assert all(np.isfinite(tf.convert_to_tensor(gradient)).all() for gradient in gradients)


def test_request_features_reach_every_candidate_of_their_request_only(small_log, batch):
    tf.keras.utils.set_random_seed(0)
    model = AutoInt(small_log[1], AutoIntConfig())
    before = model(batch).numpy()
    age = batch["features"]["age"].numpy()
    age[0] = 5 - age[0]
    changed = {**batch, "features": {**batch["features"], "age": tf.constant(age)}}
    after = model(changed).numpy()
    of_first = batch["request_index"].numpy() == 0
    assert (np.abs(before[of_first] - after[of_first]) > 1e-6).all()
    np.testing.assert_allclose(before[~of_first], after[~of_first], atol=1e-6)


def test_embedding_gradients_stay_sparse(small_log, batch):
    model = AutoInt(small_log[1], AutoIntConfig())
    model(batch)
    with tf.GradientTape() as tape:
        loss = model.compute_loss(batch, training=True)
    assert isinstance(tape.gradient(loss, model.embedding.table), tf.IndexedSlices)


def test_dropout_acts_in_training_only(small_log, batch):
    model = AutoInt(small_log[1], AutoIntConfig(attention_dropout=0.4, embedding_dropout=0.1))
    np.testing.assert_array_equal(model(batch), model(batch))
    assert not np.allclose(model(batch, training=True), model(batch, training=True))


def test_unequal_embedding_widths_are_refused():
    features = [{"name": "a", "table": "users"}, {"name": "b", "table": "users", "embedding_dim": 4}]
    features = [{**feature, "hash_buckets": 5} for feature in features]
    spec = FeatureSpec.model_validate({"name": "s", "features": features})
    with pytest.raises(ValueError, match="one `embedding_dim`"):
        FeatureEmbedding(FeatureEncoding(spec, {}, {}, {}))


def test_bad_sizes_are_refused():
    with pytest.raises(ValueError, match="`head_dim` must be positive. Received: `head_dim`=-1"):
        InteractingLayer(2, -1)

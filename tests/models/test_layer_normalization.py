"""Layer normalisation that a server can run from several threads: Keras' values by other operations."""

import numpy as np
import tensorflow as tf

from models.layer_normalization import LayerNormalization


def test_it_is_keras_layer_without_its_fused_operation():
    values = np.random.default_rng(0).normal(size=(3, 5, 8)).astype(np.float32)
    values[1, 2] = 7.0  # of equal values
    ours, theirs = LayerNormalization(), tf.keras.layers.LayerNormalization()
    for layer in (ours, theirs):
        layer.build(values.shape)
        layer.set_weights([np.linspace(0.5, 2, 8), np.linspace(-1, 1, 8)])
    np.testing.assert_allclose(ours(values), theirs(values), atol=1e-4)
    assert [weight.name.rpartition("/")[2] for weight in ours.weights] == ["gamma:0", "beta:0"]
    np.testing.assert_allclose(ours(values)[1, 2], np.linspace(-1, 1, 8), atol=1e-3)
    operations = {
        node.type for node in tf.function(ours).get_concrete_function(tf.constant(values)).graph.get_operations()
    }
    assert not {name for name in operations if name.startswith("FusedBatchNorm")}

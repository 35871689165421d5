"""What a stock TensorFlow Serving could not run is refused when it is exported."""

import numpy as np
import pytest
import tensorflow as tf

from serving.export.graph_check import ExportError, check_graph_def
from serving.export.ranker import export_ranker
from tests.builders.small_ranker import make_small_ranker, random_requests


class Faulty(tf.keras.Model):
    """A ranker with something put over its logits."""

    def __init__(self, ranker, fault):
        super().__init__()
        self.ranker, self.fault = ranker, fault

    def call(self, batch, training=False):
        return self.fault(self.ranker(batch))


def by_python(logits):
    return tf.ensure_shape(tf.py_function(lambda values: values + 1.0, [logits], tf.float32), [None])


def by_xla(logits):
    return tf.function(lambda values: values * 2.0, jit_compile=True)(logits)


def by_constant(logits):
    return logits + tf.reduce_sum(tf.constant(np.random.default_rng(0).normal(size=300_000), tf.float32))


def by_fused_normalisation(logits):
    columns = tf.reshape(logits, [1, -1, 1, 1])
    normed, *_ = tf.raw_ops.FusedBatchNormV3(
        x=columns, scale=[1.0], offset=[0.0], mean=[], variance=[], epsilon=1e-3, is_training=True
    )
    return tf.reshape(normed, [-1])


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (by_python, "calls Python"),
        (by_xla, "XLA.*remove `jit_compile`"),
        (by_constant, "constant of 1,200,0.. bytes"),
        (by_fused_normalisation, "two requests at a time.*`epsilon` of 1e-5"),
    ],
)
def test_an_export_that_a_server_cannot_run_is_refused(encoding, tmp_path, fault, message):
    model = Faulty(make_small_ranker(encoding), fault)
    with pytest.raises(ExportError, match=message):
        export_ranker(model, encoding, tmp_path / "1", random_requests(2))
    assert not list(tmp_path.iterdir())
    export_ranker(Faulty(make_small_ranker(encoding), lambda logits: logits), encoding, tmp_path / "1")


def graph_of(**functions):
    graph = tf.Graph()
    with graph.as_default():
        for function in functions.values():
            function()
    return graph.as_graph_def()


def test_tables_of_constants_and_other_operations_are_refused():
    def table():
        words = tf.lookup.KeyValueTensorInitializer(["a", "b"], [1, 2])
        tf.compat.v1.add_to_collection("tables", tf.lookup.StaticHashTable(words, 0))

    with pytest.raises(ExportError, match="fills a look-up table from constants"):
        check_graph_def(graph_of(table=table))
    plain = graph_of(sum=lambda: tf.add(1, 2))
    check_graph_def(plain)
    plain.node.add(name="found", op="ScannSearch")
    with pytest.raises(ExportError, match="`found` in the graph is the operation `ScannSearch`, which is not"):
        check_graph_def(plain)

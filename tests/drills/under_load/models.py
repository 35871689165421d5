"""Models of one signature each, for the drills under load: saved in a second."""

from __future__ import annotations

from pathlib import Path


def save_spin(folder: Path) -> None:
    """Saves a model whose time grows with its input: `n []` rounds, to `value []`."""
    import tensorflow as tf

    module = tf.Module()

    @tf.function(input_signature=[tf.TensorSpec([], tf.int64, name="n")])
    def spin(n):
        start = (tf.constant(0, tf.int64), tf.constant(0.0))
        _, value = tf.while_loop(lambda i, _: i < n, lambda i, v: (i + 1, tf.sin(v + 1.0)), start)
        return {"value": value}

    tf.saved_model.save(module, str(folder), signatures={"serving_default": spin})


def save_version(folder: Path, version: int) -> None:
    """Saves `y = x / 2 + version`: an answer says which version computed it."""
    import tensorflow as tf

    module = tf.Module()
    module.version = tf.Variable(float(version))

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
    def half_plus(x):
        return {"y": x / 2 + module.version}

    tf.saved_model.save(module, str(folder), signatures={"serving_default": half_plus})

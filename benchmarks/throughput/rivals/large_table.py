"""Training steps on one large embedding table: what an optimiser costs beyond the rows of the batch."""

from __future__ import annotations

import time

from worker import serve

FIELDS = 4


def prepare(settings: dict):
    import models  # noqa: F401  (names the Keras to use: before TensorFlow)

    # isort: split
    import tensorflow as tf

    threads = len(settings["cores"])
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(threads)

    from models.training.optimizers import OptimizerConfig, make_optimizer

    rows, width, batch = settings["rows"], settings["embedding_dim"], settings["batch_size"]
    table = tf.Variable(tf.random.stateless_normal([rows, width], seed=(0, 1), stddev=0.01))
    optimizer = make_optimizer(OptimizerConfig(name=settings["optimizer"]), 1)
    optimizer._create_all_weights([table])

    @tf.function(autograph=False)
    def step(seed):
        ids = tf.random.stateless_uniform([batch, FIELDS], seed=[seed, 2], maxval=rows, dtype=tf.int32)
        labels = tf.cast(ids[:, 0] % 2, tf.float32)
        with tf.GradientTape() as tape:
            vectors = tf.gather(table, ids)
            logits = tf.reduce_sum(tf.reduce_prod(vectors, axis=1) + tf.reduce_sum(vectors, axis=1), axis=-1)
            loss = tf.reduce_mean(tf.nn.sigmoid_cross_entropy_with_logits(labels, logits))
        optimizer.apply_gradients([(tape.gradient(loss, table), table)])

    def steps() -> int:
        end, count = time.perf_counter() + settings["seconds"], 0
        while time.perf_counter() < end or not count:
            step(tf.constant(count))
            count += 1
        return count

    return steps


if __name__ == "__main__":
    serve(prepare)

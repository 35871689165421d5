"""What every ranker of Clickmill is: logits of candidates, trained by log loss."""

from __future__ import annotations

import tensorflow as tf
import tensorflow_recommenders as tfrs

from models.sdim.history_interest import HistoryInterest


class RankingModel(tfrs.Model):
    """A TFRS model whose `call(batch, training)` returns logits `[N]` of the batch's N candidates.

    The loss is the mean binary cross-entropy of the candidates (AutoInt, Eq. 10), computed from logits so that
    confident predictions stay finite. `batch` is described in docs/reference/data_formats.md.

    A ranker whose logit is `wᵀ φ + b` may say so, and can then be drawn from its posterior (`models.last_layer`): by
    `last_hidden(batch)`, φ `[N, h]` of a batch that is not trained on, and `last_weights()`, `[h + 1]` NumPy floats, w
    and at last b.

    Training and prediction trace `call` without AutoGraph: branch on Python values or with `tf.cond`, loop with
    `tf.while_loop`.

    Attributes:
      history_interest: what reads behaviour histories; None: the model's batches need none.
    """

    def __init__(self, name: str):
        super().__init__(name=name)
        # Not a class attribute: Keras does not track what its class has.
        self.history_interest: HistoryInterest | None = None
        self.log_loss = tf.keras.metrics.Mean("log_loss")

    def compute_loss(self, inputs: dict, training: bool = False) -> tf.Tensor:
        """Returns the mean log loss of a batch, a scalar in nats; `log_loss` averages it over candidates."""
        return self.ranking_loss(inputs, self(inputs, training=training))

    def ranking_loss(self, inputs: dict, logits: tf.Tensor) -> tf.Tensor:
        """Returns the mean log loss of logits `[N]` of a batch, weighted by its `weight` `[N]` if there is one."""
        losses = tf.nn.sigmoid_cross_entropy_with_logits(labels=inputs["label"], logits=logits)
        if "weight" not in inputs:
            self.log_loss.update_state(losses)
            return tf.reduce_mean(losses)
        # Divided by the weights, so that their scale, which follows the sampling, is not one of the learning rate.
        mean = tf.math.divide_no_nan(tf.reduce_sum(inputs["weight"] * losses), tf.reduce_sum(inputs["weight"]))
        self.log_loss.update_state(mean, sample_weight=tf.cast(tf.size(losses), mean.dtype))
        return mean

    @tf.function(autograph=False)
    def predict_next(self, batches: tf.data.Iterator) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns labels and logits, both `[N]`, of the next batch. Raises `tf.errors.OutOfRangeError` after the last.

        The iterator, not the batch, goes in: its shapes are open, so that one graph serves batches of every size.
        """
        batch = next(batches)
        return batch["label"], self(batch, training=False)

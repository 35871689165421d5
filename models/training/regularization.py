"""What keeps a model from memorising: an L2 of the rows that examples read, and decay of the dense layers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import tensorflow as tf
import tensorflow_recommenders as tfrs

from models.embedding import FeatureEmbedding
from models.training.config import RegularizationConfig

REFERENCE_COUNT = 100
"""Rows that were seen this often in train have λ itself, whatever `frequency_power`."""


class Regularizer(tf.Module):
    """The regularisation of any model whose features a `FeatureEmbedding` embeds; the training loop applies it.

    Args:
      model: the model; its variables exist.
      config: how it is regularised.
    """

    def __init__(self, model: tfrs.Model, config: RegularizationConfig):
        super().__init__(name="regularizer")
        self._config = config
        self.penalty_mean = tf.keras.metrics.Mean("embedding_l2")
        self._embeddings, self._row_weights = [], []
        if config.embedding_l2:
            self._embeddings = [part for part in model.submodules if isinstance(part, FeatureEmbedding)]
        for embedding in self._embeddings:
            weights = None
            if config.frequency_power:
                found = (REFERENCE_COUNT / embedding.row_counts()) ** config.frequency_power
                # A variable: a graph would copy a constant into itself.
                weights = tf.Variable(found.astype(np.float32), trainable=False, name="row_weights")
            self._row_weights.append(weights)
        self._embedded = {
            id(variable)
            for part in model.submodules
            if isinstance(part, FeatureEmbedding)
            for variable in part.trainable_variables
        }

    def penalty(self, batch: dict) -> tf.Tensor:
        """Returns what is added to the loss of a batch, in its unit; 0 without `embedding_l2`."""
        total = tf.constant(0.0)
        for embedding, weights in zip(self._embeddings, self._row_weights, strict=True):
            total += self._config.embedding_l2 * embedding.squared_norm(batch, weights)
        if self._embeddings:
            self.penalty_mean.update_state(total)
        return total

    def decay(self, variables: Sequence[tf.Variable], gradients: Sequence, learning_rate: tf.Tensor) -> None:
        """Takes `learning_rate · weight_decay` of the dense layers' matrices away from them, before a step.

        A matrix is what has two axes or more, is no bias and no embedding: what is looked up has a sparse gradient.

        Args:
          variables: of the model.
          gradients: theirs.
          learning_rate: of the step.
        """
        if not self._config.weight_decay:
            return
        for variable, gradient in zip(variables, gradients, strict=True):
            looked_up = id(variable) in self._embedded or isinstance(gradient, tf.IndexedSlices)
            if gradient is not None and variable.shape.rank > 1 and "bias" not in variable.name and not looked_up:
                variable.assign_sub(learning_rate * self._config.weight_decay * variable)

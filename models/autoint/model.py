"""AutoInt: automatic feature interaction learning by self-attention."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from features.encoding.feature_encoding import FeatureEncoding
from features.items.signatures import ItemSignatures
from models.autoint.config import AutoIntConfig
from models.autoint.interacting_layer import InteractingLayer
from models.embedding import FeatureEmbedding, flatten_fields
from models.ranking_model import RankingModel
from models.sdim.history_interest import HistoryInterest

VARIANTS = {
    "paper": {"use_bias": False, "projection_relu": False, "scale": False, "layer_norm": False},
    "reference": {"use_bias": True, "projection_relu": True, "scale": True, "layer_norm": True},
}
"""What differs between the paper and its authors' code, as arguments of `InteractingLayer`."""


class AutoInt(RankingModel):
    """AutoInt and, with `deep_layers`, AutoInt+ (Song et al., CIKM 2019, arXiv 1810.11921).

    Embeds the M fields, stacks L interacting layers over them, and reads the logit off all output fields:
    `logit = wᵀ vec(E^(L)) + b` (Eq. 9, before the sigmoid). AutoInt+ adds the logit of a feed-forward network on the
    same embeddings; both are trained together.

    Example:
      model = AutoInt(encoding, AutoIntConfig(variant="reference", deep_layers=(400, 400)))
      logits = model(batch)  # [N]

    Args:
      encoding: the fitted feature encoding.
      config: sizes and regularisation.
      item_signatures: of the catalogue, where `config.history` reads long histories by them.
    """

    def __init__(
        self,
        encoding: FeatureEncoding,
        config: AutoIntConfig,
        item_signatures: ItemSignatures | None = None,
        name: str = "autoint",
    ):
        super().__init__(name=name)
        self.config = config
        self.embedding = FeatureEmbedding(encoding, exclude=config.exclude_features)
        if config.history is not None:
            self.history_interest = HistoryInterest(self.embedding, encoding, config.history, item_signatures)
        self.interacting_layers = [
            InteractingLayer(
                config.num_heads,
                config.head_dim,
                residual=config.residual,
                dropout=config.attention_dropout,
                name=f"interacting_{index}",
                **VARIANTS[config.variant],
            )
            for index in range(config.num_layers)
        ]
        self.output_layer = tf.keras.layers.Dense(1, kernel_initializer="glorot_normal", name="output")
        self.deep = _feed_forward(config) if config.deep_layers else None

    @property
    def field_names(self) -> tuple[str, ...]:
        """Names of the M fields, in the order of the attention maps' rows and columns."""
        return self.embedding.field_names + (self.history_interest.field_names if self.history_interest else ())

    def embed(self, batch: dict, training: bool | None = None) -> tf.Tensor:
        """Returns the embedded fields `[N, M, d]`, features first, then the interests."""
        fields = self.embedding(batch)
        if self.history_interest is None:
            return fields
        return tf.concat([fields, self.history_interest(batch, training=training)], axis=1)

    def call(self, batch: dict, training: bool | None = None, attention_mask: tf.Tensor | None = None) -> tf.Tensor:
        """Returns logits `[N]` of a batch of N candidates; `attention_mask` as in `InteractingLayer`."""
        embedded = self.embed(batch, training)
        if training and self.config.embedding_dropout:
            embedded = tf.nn.dropout(embedded, self.config.embedding_dropout)
        logits = self.output_layer(self._interacted(embedded, training, attention_mask))
        if self.deep is not None:
            logits += self.deep(flatten_fields(embedded), training=training)
        return tf.squeeze(logits, axis=1)

    def last_hidden(self, batch: dict) -> tf.Tensor:
        """Returns what the logit is read off, `[N, h]`: the output fields, and the last hidden layer of AutoInt+."""
        embedded = self.embed(batch, training=False)
        parts = [self._interacted(embedded, training=False)]
        if self.deep is not None:
            hidden = flatten_fields(embedded)
            for layer in self.deep.layers[:-1]:
                hidden = layer(hidden)
            parts.append(hidden)
        return tf.concat(parts, axis=1)

    def last_weights(self) -> np.ndarray:
        """Returns the weights of `last_hidden` and at last the bias, `[h + 1]`."""
        layers = [self.output_layer] + ([] if self.deep is None else [self.deep.layers[-1]])
        kernels = [layer.kernel.numpy()[:, 0] for layer in layers]
        return np.concatenate([*kernels, sum(layer.bias.numpy() for layer in layers)])

    def _interacted(self, embedded: tf.Tensor, training: bool | None, attention_mask=None) -> tf.Tensor:
        """The fields after all interacting layers, side by side."""
        fields = embedded
        for layer in self.interacting_layers:
            fields = layer(fields, training=training, attention_mask=attention_mask)
        return flatten_fields(fields)

    def attention_maps(self, batch: dict) -> list[tf.Tensor]:
        """Returns each layer's attention weights `[N, H, M, M]`: query field by key field, rows sum to 1.

        Read layers and heads apart: their average hides what single heads attend to.
        """
        fields = self.embed(batch)
        maps = []
        for layer in self.interacting_layers:
            fields, weights = layer.attention(fields)
            maps.append(weights)
        return maps

    def pair_effects(self, batch: dict) -> np.ndarray:
        """Returns `[M, M]`: how much the logit changes, on average over candidates, when a pair of fields is cut.

        Attention weights say where a layer looked, not what the prediction owes to it. This cuts the attention between
        two fields, both ways and in every layer, and measures the mean absolute change of the logit. Symmetric; its
        diagonal is a field's attention to itself.
        """
        size = len(self.field_names)
        logits, effects = self(batch, training=False), np.zeros((size, size), np.float32)
        for first in range(size):
            for second in range(first, size):
                mask = np.ones((size, size), np.float32)
                mask[first, second] = mask[second, first] = 0.0
                change = tf.reduce_mean(tf.abs(self(batch, training=False, attention_mask=mask) - logits))
                effects[first, second] = effects[second, first] = float(change)
        return effects


def _feed_forward(config: AutoIntConfig) -> tf.keras.Sequential:
    network = tf.keras.Sequential(name="deep")
    for width in config.deep_layers:
        network.add(tf.keras.layers.Dense(width, activation="relu", kernel_initializer="glorot_normal"))
        if config.deep_dropout:
            network.add(tf.keras.layers.Dropout(config.deep_dropout))
    network.add(tf.keras.layers.Dense(1, kernel_initializer="glorot_normal"))
    return network

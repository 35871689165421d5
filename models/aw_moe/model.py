"""AW-MoE: a mixture of experts whose gate attends over behaviours, and its contrastive loss."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from features.config import nearest
from features.encoding.feature_encoding import FeatureEncoding
from features.items.signatures import ItemSignatures
from models.autoint.interacting_layer import InteractingLayer
from models.autoint.model import VARIANTS
from models.aw_moe.config import AwMoeConfig
from models.aw_moe.experts import Experts
from models.aw_moe.gate import (
    AttentionGate,
    PooledGate,
    keep_some,
)
from models.aw_moe.gate_contrast import (
    Contrast,
    contrast,
    draw_others,
    one_candidate_each,
)
from models.embedding import FeatureEmbedding, flatten_fields
from models.ranking_model import RankingModel
from models.sdim.history_interest import HistoryInterest


class AwMoe(RankingModel):
    """Attention-weighted mixture of experts (AW-MoE, ICDE 2023, arXiv 2306.05011).

    A reconstruction that satisfies the paper's abstract, which is all of it that was at hand: K experts score the
    impression, a gate made of a gate unit and an activation unit attends over the behaviours, which feed both, and an
    auxiliary loss holds the gates of randomly masked histories together:

        v = [embedded features; short interest; long interest (SDIM)]      AutoInt's fields, and maybe its layers
        logit = Σ_k g_k E_k(v) + b,   g by `AttentionGate`

    The gate's masked view enters the contrastive loss alone; the ranking loss sees the whole history. b belongs to the
    reconstruction: without it the gates would have to carry the click rate.

    Example:
      model = AwMoe(encoding, AwMoeConfig(mode="search", query_features=("query",)), item_signatures)
      logits = model(batch)  # [N]

    Args:
      encoding: the fitted feature encoding.
      config: sizes, gate and losses.
      item_signatures: of the catalogue, where `config.history` reads long histories by them.

    Raises:
      ValueError: if a query feature is not a feature of requests that this model embeds.
    """

    def __init__(
        self,
        encoding: FeatureEncoding,
        config: AwMoeConfig,
        item_signatures: ItemSignatures | None = None,
        name: str = "aw_moe",
    ):
        super().__init__(name=name)
        self.config = config
        self.embedding = FeatureEmbedding(encoding, exclude=config.exclude_features)
        self.history_interest = HistoryInterest(self.embedding, encoding, config.history, item_signatures)
        self.interacting_layers = [
            InteractingLayer(2, config.head_dim, name=f"interacting_{index}", **VARIANTS["reference"])
            for index in range(config.interacting_layers)
        ]
        self.experts = Experts(config.num_experts, config.expert_units, config.expert_dropout)
        self.bias = tf.Variable(0.0, name="output_bias")
        self.gate_layer, self.constant_gate, self.query_projection = None, None, None
        if config.gate == "attention":
            self.gate_layer = AttentionGate(
                config.num_experts, config.gate_units, config.gate_normalisation, config.gate_softmax
            )
        elif config.gate == "softmax_pooled":
            self.gate_layer = PooledGate(config.num_experts, config.gate_units)
        elif config.gate == "constant":
            self.constant_gate = tf.Variable([1 / config.num_experts] * config.num_experts, name="constant_gate")
        if config.mode == "search" and self.gate_layer is not None:
            self._query_fields = [self._request_field(feature) for feature in config.query_features]
            self.query_projection = tf.keras.layers.Dense(self.history_interest.dim, name="query_projection")
        if config.contrastive:
            self.contrastive_loss = tf.keras.metrics.Mean("contrastive_loss")
            self.contrastive_chance = tf.keras.metrics.Mean("contrastive_chance")

    def call(self, batch: dict, training: bool | None = None) -> tf.Tensor:
        """Returns logits `[N]` of a batch of N candidates."""
        return self._forward(batch, training)[0]

    def compute_loss(self, inputs: dict, training: bool = False) -> tf.Tensor:
        """Returns `L_rank + λ L_cl` of a batch, a scalar in nats; not in training: `L_rank`.

        Raises:
          ValueError: if the batch does not say whose requests it holds (`user_index`), and the loss needs it.
        """
        logits, gates, views = self._forward(inputs, training)
        loss = self.ranking_loss(inputs, logits)
        if not (training and self.config.contrastive):
            return loss
        found = self._contrast(inputs, gates, views)
        self.contrastive_loss.update_state(found.loss, found.anchors)
        self.contrastive_chance.update_state(found.chance, found.anchors)
        return loss + self.config.contrastive.weight * found.loss

    def expert_scores(self, batch: dict, training: bool | None = None) -> tf.Tensor:
        """Returns every expert's score, `[N, K]`."""
        return self.experts(self._impressions(batch, training), training=training)

    def last_hidden(self, batch: dict) -> tf.Tensor:
        """Returns what the logit is read off, `[N, K (H + 1)]`: the experts' last hidden layers times their gates.

        The gates by themselves are what the experts' biases are weighted by.
        """
        hidden = tf.transpose(self.experts.hidden(self._impressions(batch, training=False)), [1, 0, 2])
        gates = self.gates(batch)
        if self._of_requests:
            gates = tf.gather(gates, batch["request_index"])
        weighted = tf.reshape(hidden * gates[..., tf.newaxis], [-1, hidden.shape[1] * hidden.shape[2]])
        return tf.concat([weighted, gates], axis=1)

    def last_weights(self) -> np.ndarray:
        """Returns the weights of `last_hidden` and at last the bias, `[h + 1]`."""
        parts = (self.experts.kernels[-1], self.experts.biases[-1], self.bias)
        return np.concatenate([part.numpy().reshape(-1) for part in parts])

    def _impressions(self, batch: dict, training: bool | None) -> tf.Tensor:
        """What the experts read, `[N, D]`."""
        fields = tf.concat([self.embedding(batch), self.history_interest(batch, training=training)], axis=1)
        if training and self.config.embedding_dropout:
            fields = tf.nn.dropout(fields, self.config.embedding_dropout)
        for layer in self.interacting_layers:
            fields = layer(fields, training=training)
        return flatten_fields(fields)

    def gates(self, batch: dict) -> tf.Tensor:
        """Returns the experts' weights: `[N, K]` of the candidates, in `search` `[B, K]` of the requests."""
        return self._gates(batch, training=False)[0]

    def _forward(self, batch: dict, training: bool | None) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor | None]:
        """Logits `[N]`, gates and the gates of the masked view (where there is a loss on them)."""
        scores = self.expert_scores(batch, training)
        gates, ranking, views = self._gates(batch, training)
        if self._of_requests:
            ranking = tf.gather(ranking, batch["request_index"])
        return tf.reduce_sum(ranking * scores, axis=1) + self.bias, gates, views

    @property
    def _of_requests(self) -> bool:
        return self.query_projection is not None

    def _gates(self, batch: dict, training: bool | None) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor | None]:
        """Gates of the whole history, those of the ranking loss, and of the masked view or None."""
        if self.gate_layer is None:
            weights = tf.ones([1]) if self.constant_gate is None else self.constant_gate
            gates = tf.tile(weights[tf.newaxis], [tf.size(batch["request_index"]), 1])
            return gates, gates, None
        history = self.history_interest.behaviors(batch["history"], "short")
        behaviors, mask = history.values, history.mask
        weights = [mask]
        if training and self.config.contrastive:
            weights.append(keep_some(mask, self.config.contrastive.mask_rate))
        if training and self.config.gate_dropout:
            kept = keep_some(mask, self.config.gate_dropout)
            scale = tf.math.divide_no_nan(*(tf.reduce_sum(x, axis=1, keepdims=True) for x in (mask, kept)))
            weights.append(kept * scale)
        weights = [view * tf.exp(history.bias) for view in weights]
        if self._of_requests:
            fields = tf.gather(self.embedding.request_fields(batch["features"]), self._query_fields, axis=1)
            flat = tf.reshape(fields, [-1, len(self._query_fields) * self.embedding.embedding_dim])
            contexts, history_of = self.query_projection(flat), tf.range(tf.shape(mask)[0])
        else:
            contexts, history_of = self.history_interest.embed(batch["features"]), batch["request_index"]
        found = self.gate_layer(contexts, history_of, behaviors, *weights)
        return (
            found[0],
            found[-1] if training and self.config.gate_dropout else found[0],
            found[1] if training and self.config.contrastive else None,
        )

    def _contrast(self, batch: dict, gates: tf.Tensor, views: tf.Tensor) -> Contrast:
        if "user_index" not in batch:
            raise ValueError(
                "the contrastive loss needs `user_index` in the batch: negatives are gates of other users."
            )
        settings, index = self.config.contrastive, batch["request_index"]
        negatives, exists = draw_others(batch["user_index"], settings.negatives)
        # Without behaviours there is nothing to mask: such a gate is a negative, and no anchor.
        anchors = batch["history"]["short_length"] > 0
        if not self._of_requests:
            negatives, exists, anchors = (tf.gather(x, index) for x in (negatives, exists, anchors))
            negatives = one_candidate_each(negatives, index, tf.size(batch["user_index"]))
        return contrast(gates, views, negatives, exists, anchors, settings.temperature)

    def _request_field(self, feature: str) -> int:
        known = self.embedding.request_features
        if feature not in known:
            raise ValueError(
                f"query feature `{feature}` must be a feature of scope `request` that is not excluded."
                f"{nearest(feature, known)}"
            )
        return known.index(feature)

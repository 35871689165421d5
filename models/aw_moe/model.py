"""AW-MoE: a mixture of experts whose gate attends over behaviours, and its contrastive loss."""

from __future__ import annotations

from typing import Literal

import tensorflow as tf
from pydantic import Field, model_validator

from features.config import Strict, nearest
from features.encoding.feature_encoding import FeatureEncoding
from features.items.signatures import ItemSignatures
from models.autoint.interacting_layer import InteractingLayer
from models.autoint.model import VARIANTS
from models.aw_moe.experts import Experts
from models.aw_moe.gate import (
    AttentionGate,
    Normalisation,
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
from models.sdim.history_interest import HistoryConfig, HistoryInterest


class ContrastiveConfig(Strict):
    """The auxiliary loss on gates of randomly masked histories. The abstract names no numbers; these are starts.

    Attributes:
      weight: λ; the loss is `L_rank + λ L_cl`.
      mask_rate: p, the probability that a behaviour is missing from the masked view. One always stays.
      negatives: l, gates of other users' requests in the batch.
      temperature: T, of the cosines.
    """

    weight: float = Field(0.05, gt=0.0)
    mask_rate: float = Field(0.1, ge=0.0, lt=1.0)
    negatives: int = Field(3, ge=1)
    temperature: float = Field(0.5, gt=0.0)


class AwMoeConfig(Strict):
    """Sizes, gate and losses of AW-MoE; its baselines are configurations too.

    Attributes:
      num_experts: K. Few: the gates of a batch are to be told apart on a sphere of K dimensions.
      expert_units: widths of an expert's hidden layers; none: an expert is linear in what it is given.
      interacting_layers: layers of AutoInt (its authors' code, two heads) between the fields and the experts. The
        abstract leaves the input network open; experts that share them need not each learn how fields interact.
      head_dim: width of a head of those.
      expert_dropout: rate after each of them.
      embedding_dropout: rate on the experts' input.
      gate: `attention`; `softmax_pooled`, a plain mixture; `constant`, learnt weights that are the same for everybody
        (how much is owed to K experts alone); `none`, a single expert.
      mode: `recommendation`: the gate's context is the candidate; `search`: it is the request's `query_features`, so
        that a request has one gate.
      query_features: of `search`: features of scope `request`.
      gate_units: width of the hidden layer of the gate unit, and of the activation unit.
      gate_normalisation: of `attention`: `none` adds the behaviours' votes up, as the reconstruction has it; `count`
        takes their mean, so that scores do not drift as histories grow longer than those that were trained on.
      gate_softmax: of `attention`: softmax over the experts. Off: an expert may count against an item.
      gate_dropout: rate at which the gate's behaviours are dropped in training, for the ranking loss: the control that
        has the masks and not the contrastive loss. What stays is scaled up, as in dropout.
      contrastive: None: no such loss.
      exclude_features: features of the spec that this model leaves out.
      history: the short window feeds the gate, and both windows the experts.
    """

    num_experts: int = Field(4, ge=1)
    expert_units: tuple[int, ...] = (64, 32)
    interacting_layers: int = Field(0, ge=0)
    head_dim: int = Field(16, ge=1)
    expert_dropout: float = Field(0.0, ge=0.0, lt=1.0)
    embedding_dropout: float = Field(0.0, ge=0.0, lt=1.0)
    gate: Literal["attention", "softmax_pooled", "constant", "none"] = "attention"
    mode: Literal["recommendation", "search"] = "recommendation"
    query_features: tuple[str, ...] = ()
    gate_units: int = Field(32, ge=1)
    gate_normalisation: Normalisation = "none"
    gate_softmax: bool = False
    gate_dropout: float = Field(0.0, ge=0.0, lt=1.0)
    contrastive: ContrastiveConfig | None = ContrastiveConfig()
    exclude_features: tuple[str, ...] = ()
    history: HistoryConfig = HistoryConfig()

    @model_validator(mode="after")
    def _check(self):
        if self.history.short == "none":
            raise ValueError("`history.short` must not be none: the gate reads the short history.")
        if self.gate == "none" and self.num_experts != 1:
            raise ValueError(f"`gate`: none is a single expert: set `num_experts` to 1. Received: {self.num_experts}.")
        if self.gate in ("constant", "none") and (self.contrastive or self.gate_dropout):
            raise ValueError(
                f"`gate`: {self.gate} reads no behaviours: set `contrastive` to null and `gate_dropout` to 0."
            )
        if (self.mode == "search") != bool(self.query_features):
            raise ValueError(
                "`query_features` are the gate's context in `mode`: search, and only there. "
                f"Received: `mode`={self.mode}, `query_features`={self.query_features}."
            )
        return self


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
        fields = tf.concat([self.embedding(batch), self.history_interest(batch)], axis=1)
        if training and self.config.embedding_dropout:
            fields = tf.nn.dropout(fields, self.config.embedding_dropout)
        for layer in self.interacting_layers:
            fields = layer(fields, training=training)
        return self.experts(flatten_fields(fields), training=training)

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
        behaviors, mask, _ = self.history_interest.behaviors(batch["history"], "short")
        weights = [mask]
        if training and self.config.contrastive:
            weights.append(keep_some(mask, self.config.contrastive.mask_rate))
        if training and self.config.gate_dropout:
            kept = keep_some(mask, self.config.gate_dropout)
            scale = tf.math.divide_no_nan(*(tf.reduce_sum(x, axis=1, keepdims=True) for x in (mask, kept)))
            weights.append(kept * scale)
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

"""The configuration of AW-MoE."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from features.config import Strict
from models.sdim.config import HistoryConfig

Normalisation = Literal["none", "count"]


class ContrastiveConfig(Strict):
    """The auxiliary loss on gates of randomly masked histories. The abstract names no numbers.

    Attributes:
      weight: λ; the loss is `L_rank + λ L_cl`. The default is the largest that cost nothing where it was measured
        (docs/models/aw_moe.md); 0.003 costs 0.003 of AUC on MovieLens-1M, 0.05 costs 0.017 on the simulated log.
      mask_rate: p, the probability that a behaviour is missing from the masked view. One always stays.
      negatives: l, gates of other users' requests in the batch.
      temperature: T, of the cosines.
    """

    weight: float = Field(0.001, gt=0.0)
    mask_rate: float = Field(0.3, ge=0.0, lt=1.0)
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
      gate_normalisation: of `attention`: `count` takes the mean of the behaviours' votes, so that scores do not drift
        as histories grow longer than those that were trained on; `none` adds the votes up.
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
    gate_normalisation: Normalisation = "count"
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

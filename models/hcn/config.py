"""The configuration of HCN."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from features.config import Strict

Routing = Literal["k_means", "learnt"]
Scoring = Literal["soft", "max"]


class HcnConfig(Strict):
    """HCN and its baselines.

    Attributes:
      extractor: `hierarchical` is HCN's; `comirec_sa` and `one_vector` (attention pooling) are baselines.
      num_interests: K; `one_vector` has one.
      dim: d, of interests and item vectors.
      num_layers: T of `hierarchical`. One layer is attention with competition, more let a centre follow what it took.
      share_layers: one set of weights for all T layers, so that T alone can be compared; else each layer its own.
      sharpness: of the competition for behaviours; at 1 a new model's belong to all centres alike.
      routing: `k_means`: plain inner products say which centre gets a behaviour; `learnt`: trained ones.
      windows: `apart`: short and long history are extracted apart and meet in the co-interest network (HCN's);
        `joined`: they are one history again, without that network (the baselines').
      share_windows: `apart`: one extractor for both windows, so that centre k means the same in both; or two.
      attention_units: of the baselines' self-attention; what brings them to HCN's number of parameters.
      recency: whether a behaviour also says how long ago it was (by powers of two of its rank from the newest):
        attention knows no order, and the last clicks say what a session is after.
      request_features: whether request features add a vector to every interest: they stand for users without
        behaviours, and say what no history does (the hour, the device).
      long_length: behaviours that are read of the long window, the newest.
      hidden_units: ReLU layers of the item tower and of the tower of request features.
      power: p of the soft score.
      training_scoring: how training scores; the paper's label-aware training is `soft`.
      scoring: how serving scores; another than `training_scoring` ranks and calibrates otherwise.
      diversity_weight: γ of the diversity term; whether HCN has one is not known. Competition alone keeps behaviours
        apart, not what the model makes of them.
      diversity_margin: δ: cosines up to it cost nothing.
      distillation: weight of the cross-entropy to the fine ranker's probabilities (`teacher_logit` in the batch).
      unshown_weight: what a retrieved item that was not shown counts beside an impression, times its `weight`.
      unshown_labels: what such items are trained as: `negative`, with an intercept of their own, so that logits stay
        those of impressions; `teacher`: by distillation alone.
      features: the history features that make up a behaviour; all of the spec's by default, without those
        that the model excludes.
      exclude_features: features that the model does not read.
    """

    extractor: Literal["hierarchical", "comirec_sa", "one_vector"] = "hierarchical"
    num_interests: int = Field(4, ge=1)
    dim: int = Field(64, ge=1)
    num_layers: int = Field(3, ge=1)
    share_layers: bool = False
    sharpness: float = Field(4.0, gt=0)
    routing: Routing = "k_means"
    windows: Literal["apart", "joined"] = "apart"
    share_windows: bool = True
    attention_units: int = Field(128, ge=1)
    recency: bool = True
    request_features: bool = True
    long_length: int = Field(256, ge=1)
    hidden_units: tuple[int, ...] = (128,)
    power: float = Field(1.0, ge=1.0)
    training_scoring: Scoring = "soft"
    scoring: Scoring = "soft"
    diversity_weight: float = Field(0.03, ge=0.0)
    diversity_margin: float = Field(0.0, ge=-1.0, le=1.0)
    distillation: float = Field(0.0, ge=0.0)
    unshown_weight: float = Field(0.01, ge=0.0)
    unshown_labels: Literal["negative", "teacher"] = "negative"
    features: tuple[str, ...] | None = None
    exclude_features: tuple[str, ...] = ()

    @property
    def needs_teacher(self) -> bool:
        """Whether training asks for a fine ranker's logits."""
        return self.distillation > 0 or self.unshown_labels == "teacher"

"""The configuration of the two-tower."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from features.config import Strict
from features.items.config import Estimate


class SslConfig(Strict):
    """The self-supervised task on items, and its controls.

    Attributes:
      method: `none`; `cfm` and `rfm`: contrastive, by correlated or random feature masking; `spread_out`: contrastive
        without masking; `feature_dropout`: no second task, fields of the main task's items are masked one by one
        (DropoutNet, Volkovs et al., 2017).
      alpha: weight of L_self; `feature_dropout` has none.
      items: items that a step samples, uniformly from the corpus.
      dropout_rate: of values of multi-valued features (`cfm`, `rfm`), of fields (`feature_dropout`).
      temperature: of L_self; the main task's by default.
      estimate: which mutual information `cfm` goes by (features/items/mutual_information.py).
      item_id: `feature`: masked like any other; `masked`: in both views, so that contents are matched to contents.
    """

    method: Literal["none", "cfm", "rfm", "feature_dropout", "spread_out"] = "none"
    alpha: float = Field(0.3, ge=0)
    items: int = Field(1024, ge=2)
    dropout_rate: float = Field(0.3, ge=0, lt=1)
    temperature: float | None = Field(None, gt=0)
    estimate: Estimate = "minus_null"
    item_id: Literal["feature", "masked"] = "feature"

    @property
    def masks_features(self) -> bool:
        return self.method in ("cfm", "rfm", "feature_dropout")


class TwoTowerConfig(Strict):
    """The two-tower. Widths and temperature as in the paper's section 4, scaled down.

    Attributes:
      hidden_units: ReLU layers of each tower.
      output_dim: width of the shared space.
      temperature: τ of the softmax over cosines.
      history: how the short history is pooled; `none` leaves it out.
      log_q: correct the softmax for item frequency, counted in train (Yi et al., RecSys 2019); `none` is the paper's.
      exclude_features: features that neither tower reads.
      ssl: the second task.
    """

    hidden_units: tuple[int, ...] = (128,)
    output_dim: int = Field(64, ge=1)
    temperature: float = Field(0.07, gt=0)
    history: Literal["none", "mean", "attention"] = "attention"
    log_q: Literal["none", "counted"] = "counted"
    exclude_features: tuple[str, ...] = ()
    ssl: SslConfig = SslConfig()

    @property
    def needs_mutual_information(self) -> bool:
        """Whether training asks for the mutual information of the item features."""
        return self.ssl.method == "cfm"

    def taught(self) -> TwoTowerConfig:
        """Returns this for a model that learns from teacher lists: without what corrects or joins a loss on takes."""
        return self.model_copy(update={"log_q": "none", "ssl": SslConfig()})

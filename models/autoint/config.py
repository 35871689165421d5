"""The configuration of AutoInt."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from features.config import Strict
from models.sdim.config import HistoryConfig


class AutoIntConfig(Strict):
    """Sizes and regularisation of AutoInt. The defaults are the paper's (section 5.1.4).

    Attributes:
      variant: `paper` or `reference` (the authors' code), see `VARIANTS`.
      num_layers: interacting layers.
      num_heads: heads a layer.
      head_dim: width of one head, d'.
      residual: off only for ablation.
      attention_dropout: rate on attention weights; the reference uses 0.4 on MovieLens-1M.
      embedding_dropout: rate on embeddings; the reference uses 0.1 on MovieLens-1M.
      deep_layers: widths of the feed-forward network; not empty makes it AutoInt+ (reference: 400, 400).
      deep_dropout: rate after each hidden layer of that network.
      exclude_features: features of the spec that this model leaves out.
      history: adds the user's short- and long-term interest in the candidate as fields; None: no histories.
    """

    variant: Literal["paper", "reference"] = "paper"
    num_layers: int = Field(3, ge=1)
    num_heads: int = Field(2, ge=1)
    head_dim: int = Field(32, ge=1)
    residual: bool = True
    attention_dropout: float = Field(0.0, ge=0.0, lt=1.0)
    embedding_dropout: float = Field(0.0, ge=0.0, lt=1.0)
    deep_layers: tuple[int, ...] = ()
    deep_dropout: float = Field(0.0, ge=0.0, lt=1.0)
    exclude_features: tuple[str, ...] = ()
    history: HistoryConfig | None = None

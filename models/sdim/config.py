"""How a model reads behaviour histories."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from features.config import Strict
from features.items.config import SimHashConfig

Attention = Literal["none", "mean", "target_attention", "cosine_attention", "din"]
RecencyKind = Literal["none", "rank", "gap_and_rank"]


class HistoryConfig(Strict):
    """How a ranker reads behaviour histories.

    Attributes:
      features: the history features that make up a behaviour's embedding; all of the spec's by default, without those
        that the model excludes.
      short: attention over the short history. The default's weights add up to 1, so that scores do not drift where
        histories grow longer than those that were trained on, as those of `din` do; `cosine_attention` is
        `target_attention` over unit vectors.
      long: attention over the long history; `sdim` is the one that a server can afford.
      signature_source: of `sdim`: `two_tower` looks item signatures up (made once, by BehaviorSignatures), `end_to_end`
        hashes the ranker's own embeddings as they are now, as in the paper.
      signature_dropout: of `two_tower`: the rate at which candidates lose their signatures in training, and the mean of
        the history stands for their long interest. An item that came after the training has none: without this the
        model would meet that case for the first time when it serves.
      simhash: of `end_to_end`; `two_tower` has its hash from the signatures.
      din_hidden_units: of `din`.
      recency: what models know of how long ago a behaviour was: `gap_and_rank`, buckets of the time before the request
        and of the place from the newest; `rank`, for servers whose requests tell no times; `none`, no order at all.
        `sdim` reads the gap alone: ranks move with every behaviour, and sums in a store would not.
    """

    features: tuple[str, ...] | None = None
    short: Attention = "target_attention"
    long: Attention | Literal["sdim"] = "sdim"
    signature_source: Literal["two_tower", "end_to_end"] = "two_tower"
    signature_dropout: float = Field(0.1, ge=0.0, lt=1.0)
    simhash: SimHashConfig = SimHashConfig()
    din_hidden_units: tuple[int, ...] = (36,)
    recency: RecencyKind = "gap_and_rank"

    @model_validator(mode="after")
    def _reads_something(self) -> HistoryConfig:
        if self.short == self.long == "none":
            raise ValueError(
                "`short` and `long` must not both be none: a ranker without histories leaves `history` out."
            )
        return self


def reads_histories(config: object) -> bool:
    """Whether a model of this configuration reads behaviour histories by a `HistoryConfig`."""
    return isinstance(getattr(config, "history", None), HistoryConfig)


def reads_tables(config: object) -> bool:
    """Whether a ranker of this configuration is served with bucket tables of long histories."""
    return isinstance(history := getattr(config, "history", None), HistoryConfig) and history.long == "sdim"


def reads_long_behaviors(config: object) -> bool:
    """Whether a ranker of this configuration is served with the behaviours of the long history themselves."""
    history = getattr(config, "history", None)
    return isinstance(history, HistoryConfig) and history.long not in ("none", "sdim")


def reads_signatures(config: object) -> bool:
    """Whether a ranker of this configuration looks up item signatures that BehaviorSignatures made."""
    return reads_tables(config) and config.history.signature_source == "two_tower"

"""The configuration of a ranker's Bayesian last layer."""

from __future__ import annotations

from pydantic import Field

from features.config import Strict


class LastLayerConfig(Strict):
    """How the posterior of a trained ranker's last layer is fitted and drawn from, for Thompson sampling.

    Attributes:
      draws: M, of the posterior: the export answers what each adds to the logits, and a request is ranked by one.
      prior_precision: of the Gaussian prior around the trained weights, each by itself: what keeps directions that
        training never saw from being drawn without bounds.
      max_examples: candidates of split `train` that it is fitted on, at most; they count for all.
      seed: of the draws, and of the choice of candidates.
    """

    draws: int = Field(64, ge=2, le=1024)
    prior_precision: float = Field(1.0, gt=0)
    max_examples: int = Field(200_000, ge=1)
    seed: int = 0

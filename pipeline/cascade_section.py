"""The `cascade` section of a pipeline's configuration: which cascade is judged as one, and by what."""

from __future__ import annotations

from pydantic import Field

from evaluation.cascade.config import CascadeConfig, CascadeEvaluationConfig


class CascadeSection(CascadeConfig):
    """The cascade of this pipeline's models: two-tower, HCN where it is on, a fine ranker.

    `retrieve`, `coarse` and `top_k` are what is judged; the grids of `evaluation` are the curves to choose others by.

    Attributes:
      ranker: the fine ranker; the first that is switched on by default.
      sample_requests: held-out requests, drawn uniformly; each is scored over the whole catalogue by the fine ranker.
      timed_requests: of them, how many are timed a size.
      seed: of the sample.
      evaluation: curves, intervals, gates.
    """

    ranker: str | None = None
    sample_requests: int = Field(200, ge=1)
    timed_requests: int = Field(7, ge=1)
    seed: int = 0
    evaluation: CascadeEvaluationConfig = CascadeEvaluationConfig()

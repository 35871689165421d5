"""How many items pass each stage of the cascade, by what it is judged, and the `cascade` section of a pipeline."""

from __future__ import annotations

from pydantic import Field, model_validator

from features.config import Strict


class CascadeConfig(Strict):
    """How many items pass each stage.

    Attributes:
      retrieve: n₁, items that the two-tower finds.
      coarse: n₂, items that the coarse ranker leaves to the fine ranker; without a coarse ranker it has no effect.
      top_k: length of the list.
    """

    retrieve: int = Field(1000, ge=1)
    coarse: int = Field(200, ge=1)
    top_k: int = Field(10, ge=1)

    @model_validator(mode="after")
    def _narrows(self) -> CascadeConfig:
        if not self.top_k <= self.coarse <= self.retrieve:
            raise ValueError(
                "a cascade narrows: `top_k` ≤ `coarse` ≤ `retrieve`. Received: "
                f"`top_k`={self.top_k}, `coarse`={self.coarse}, `retrieve`={self.retrieve}."
            )
        return self


class CascadeGates(Strict):
    """Thresholds of the gates. None switches a gate off."""

    min_requests: int | None = Field(
        50, ge=1, description="Fewer requests cannot tell a good cascade from a lucky one."
    )
    min_ndcg_kept: float | None = Field(
        0.97,
        ge=0,
        le=1,
        description="What the early stages lose, no later one brings back: the lower end of the interval is judged.",
    )
    max_cost_share: float | None = Field(
        1.0,
        gt=0,
        description="A cascade that costs as much as scoring everything has no purpose: rank the whole catalogue.",
    )


class CascadeEvaluationConfig(Strict):
    """What is measured and what a cascade must reach.

    Attributes:
      retrieve_grid: n₁ of the curves; those beyond the catalogue are left out.
      coarse_grid: n₂ of the curves; of each n₁ those that are smaller than it, and n₂ = n₁: no coarse stage's choice.
      interval_level: of the intervals, by user.
      gates: thresholds.
    """

    retrieve_grid: tuple[int, ...] = Field((100, 200, 500, 1000, 2000), min_length=1)
    coarse_grid: tuple[int, ...] = Field((20, 50, 100, 200, 500), min_length=1)
    interval_level: float = Field(0.95, gt=0, lt=1)
    gates: CascadeGates = CascadeGates()


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

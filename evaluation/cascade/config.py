"""How many items pass each stage of the cascade: what serving runs and evaluation judges."""

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
    def _narrows(self):
        if not self.top_k <= self.coarse <= self.retrieve:
            raise ValueError(
                "a cascade narrows: `top_k` ≤ `coarse` ≤ `retrieve`. Received: "
                f"`top_k`={self.top_k}, `coarse`={self.coarse}, `retrieve`={self.retrieve}."
            )
        return self

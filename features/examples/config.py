"""Which items that no impression showed are trained on."""

from __future__ import annotations

from pydantic import Field

from features.config import Strict


class CandidateSetConfig(Strict):
    """Which unshown items join the impressions.

    Attributes:
      retrieve: n₁, how many items the retrieval finds for a request.
      sample: how many of them, not shown, are drawn.
      seed: of the draw.
    """

    retrieve: int = Field(1000, ge=1)
    sample: int = Field(8, ge=0)
    seed: int = 0


class TeacherListsConfig(Strict):
    """Which requests and items the fine ranker scores.

    Attributes:
      requests: of split train, drawn uniformly; split eval gets a tenth as many.
      group: requests that share their items.
      uniform: items of a group that are drawn from the whole catalogue.
      retrieved: items of a group that are drawn from what its requests retrieve: without them few are near the top.
      retrieve: how deep in the retrieved list those may stand.
      seed: of all draws.
    """

    requests: int = Field(4800, ge=1)
    group: int = Field(48, ge=1)
    uniform: int = Field(1000, ge=1)
    retrieved: int = Field(1000, ge=0)
    retrieve: int = Field(3000, ge=1)
    seed: int = 0

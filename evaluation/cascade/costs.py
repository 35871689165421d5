"""What each stage of a cascade costs a request: measured seconds as lines over the number of items."""

from __future__ import annotations

import numpy as np

from evaluation.metrics.rows import Array
from features.config import Strict


class StageCost(Strict):
    """Seconds of a stage as a line: a fixed part, and one that grows with the items it hands on or scores.

    Attributes:
      fixed: seconds a request, whatever the number of items.
      per_item: seconds an item. Of the retrieval by item found, since the scan of all items is in `fixed`; of the
        others by item scored.
    """

    fixed: float
    per_item: float

    @classmethod
    def fit(cls, items: Array, seconds: Array) -> StageCost:
        """Fits measured seconds [n] of calls on numbers of items [n] by least squares; neither part is negative."""
        items, seconds = np.asarray(items, np.float64), np.asarray(seconds, np.float64)
        spread = items - items.mean()
        slope = max(0.0, float(spread @ seconds) / float(spread @ spread)) if np.any(spread) else 0.0
        fixed = seconds.mean() - slope * items.mean()
        if fixed < 0:
            return cls(fixed=0.0, per_item=float(items @ seconds) / float(items @ items))
        return cls(fixed=float(fixed), per_item=slope)

    def of(self, items: int) -> float:
        """Seconds for so many items."""
        return self.fixed + self.per_item * items


class CascadeCosts(Strict):
    """What a request costs, measured one at a time.

    Attributes:
      retrieve: the two-tower.
      coarse: the coarse ranker; None: there is none.
      fine: the fine ranker.
      ideal_seconds: of the fine ranker over the whole catalogue.
    """

    retrieve: StageCost
    coarse: StageCost | None = None
    fine: StageCost
    ideal_seconds: float

    def seconds(self, retrieve: int, coarse: int | None) -> dict[str, float]:
        """Seconds of each stage under n₁ and n₂ (None: no coarse stage)."""
        found = {"retrieve": self.retrieve.of(retrieve)}
        if coarse is not None and self.coarse is not None:
            found["coarse"] = self.coarse.of(retrieve)
        return found | {"fine": self.fine.of(retrieve if coarse is None else coarse)}

"""The coarse ranker beside the fine ranker that it serves: on the impressions that both scored, paired.

A coarse ranker that ranks better than the fine one makes the cascade pointless: what it passes on is then ordered worse
than it ordered it itself. NDCG kept does not show it, for it takes the fine ranker's word for what is relevant.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from evaluation.baselines import match_rows
from evaluation.intervals import MetricStatistics
from evaluation.metrics.registry import make_metric
from evaluation.metrics.rows import ScoredRows
from evaluation.ranking import scored_rows
from evaluation.results import Estimate
from features.config import Strict

METRICS = ("log_loss", "auc")


class StageDifference(Strict):
    """A metric of both rankers on the same rows.

    Attributes:
      coarse, fine: their values; None where undefined.
      difference: coarse − fine; its interval leaves users out of both at once.
    """

    coarse: float | None
    fine: float | None
    difference: Estimate

    def coarse_is_better(self, metric: str) -> bool | None:
        """Whether the whole interval of the difference says so; False: the fine one is; None: it holds 0."""
        low, high = self.difference.low, self.difference.high
        if low is None or high is None or low <= 0 <= high:
            return None
        return (high < 0) is bool(make_metric(metric).lower_is_better)


class StageComparison(Strict):
    """The coarse and the fine ranker of a cascade on the same impressions.

    Attributes:
      coarse, fine: their names.
      rows: impressions that both scored.
      users: of these rows.
      metrics: by name, those of `METRICS`.
      interval_level: of the intervals.
    """

    coarse: str
    fine: str
    rows: int
    users: int
    metrics: dict[str, StageDifference]
    interval_level: float

    def metrics_where(self, coarse_is_better: bool) -> tuple[str, ...]:
        """The metrics whose interval says that the coarse ranker is better, or that the fine one is."""
        return tuple(name for name, both in self.metrics.items() if both.coarse_is_better(name) is coarse_is_better)


def compare_stages(
    coarse: pa.Table, fine: pa.Table, names: tuple[str, str], interval_level: float = 0.95
) -> StageComparison:
    """Compares the two rankers on the rows that both scored.

    Args:
      coarse, fine: scored impressions, as the evaluators of both rankers keep them (`predictions.parquet`): the
        columns of `evaluation.config.KEY_COLUMNS`; matched by `request_id` and `item_id`.
      names: of the coarse and of the fine ranker.
      interval_level: of the intervals.

    Raises:
      InputError: for missing columns, or rows that are there twice.
      ValueError: if they have no row in common.
    """
    keys = ["request_id", "item_id"]
    at = match_rows(fine.select(keys), coarse.select(keys), f"the predictions of {names[0]}")
    fine, coarse = fine.filter(pa.array(at >= 0)), coarse.take(pa.array(at[at >= 0]))
    if not fine.num_rows:
        raise ValueError(f"{names[0]} and {names[1]} scored no impression in common: there is nothing to compare.")
    rows = scored_rows(fine)
    other = ScoredRows(rows.label, scored_rows(coarse).score, rows.user, rows.request)
    of_coarse, of_fine = (MetricStatistics(each, METRICS) for each in (other, rows))
    differences = of_coarse.differences(of_fine, interval_level)
    values = {
        name: [float(value) if np.isfinite(value) else None for value in pair]
        for name, *pair in zip(METRICS, of_coarse.values, of_fine.values, strict=True)
    }
    return StageComparison(
        coarse=names[0],
        fine=names[1],
        rows=len(rows),
        users=of_fine.without.shape[1],
        metrics={
            name: StageDifference(coarse=values[name][0], fine=values[name][1], difference=difference)
            for name, difference in differences.items()
        },
        interval_level=interval_level,
    )

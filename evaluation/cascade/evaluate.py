"""Judges a whole cascade against the ideal "the fine ranker scores everything": what it keeps, and at what cost.

The requests are scored once (`evaluation.cascade.scores`); all curves over n₁ and n₂ and all intervals are then NumPy.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import ClassVar

import numpy as np

from evaluation.cascade.config import CascadeConfig, CascadeEvaluationConfig, CascadeGates
from evaluation.cascade.costs import CascadeCosts
from evaluation.cascade.metrics import (
    cascade_order,
    ideal_hits,
    list_columns,
    list_figures,
    log_losses,
    sigmoid,
    stage_hits,
)
from evaluation.cascade.references import ONE_LIST, reference_columns
from evaluation.cascade.scores import CascadeScores, Selection, select
from evaluation.gates import make_gate
from evaluation.intervals import estimate
from evaluation.metrics.pointwise import row_log_loss
from evaluation.metrics.rows import Array
from evaluation.results import Estimate, GateResult, Verdict
from features.config import Strict

CASCADE_EVALUATION_FILE = "cascade_evaluation.json"
STAGES = ("retrieve", "coarse", "list")
"""What an item passes: it is retrieved, it reaches the fine ranker, it is in the list."""


class CascadePoint(Strict):
    """One cascade (n₁, n₂) beside the ideal.

    Attributes:
      retrieve: n₁.
      coarse: n₂; None: no coarse stage, the fine ranker scores all retrieved items.
      metrics: by name, with intervals: `ndcg` (the share of the ideal's that is kept), `clicked_ndcg` and
        `logged_ndcg` with `…_kept`, `log_loss` with `log_loss_increase`, `click_recall_<stage>` and
        `ideal_recall_<stage>` (`evaluation.cascade.metrics`; `STAGES`).
      seconds: a request, by stage; {} where no costs were measured.
      cost_share: of the ideal's seconds.
    """

    retrieve: int
    coarse: int | None
    metrics: dict[str, Estimate]
    seconds: dict[str, float] = {}
    cost_share: float | None = None


class CascadeEvaluation(Verdict):
    """What one evaluation found.

    Attributes:
      ranker: the fine ranker's name.
      requests, users, impressions, clicks: what it rests on.
      unknown_items: impressions of items that are not in the catalogue; no stage can pass them.
      items: size of the catalogue.
      top_k: length of the list.
      chosen: the cascade that was judged by the gates.
      ideal: metrics of the fine ranker over everything: `clicked_ndcg`, `logged_ndcg`, `log_loss`.
      references: by name, metrics of lists that cost little or nothing beside `chosen`, on the same requests: `ndcg`,
        `clicked_ndcg` and `logged_ndcg` with `…_kept` (`evaluation.cascade.references`); {} where they were not scored.
      curves: the cascades of the grids, by n₁, then n₂.
      costs: measured; None: they were not.
      interval_level: of every interval.
    """

    file_name: ClassVar[str] = CASCADE_EVALUATION_FILE
    ranker: str = ""
    requests: int
    users: int
    impressions: int
    clicks: int
    unknown_items: int
    items: int
    top_k: int
    chosen: CascadePoint
    ideal: dict[str, Estimate]
    references: dict[str, dict[str, Estimate]] = {}
    curves: tuple[CascadePoint, ...]
    costs: CascadeCosts | None = None
    interval_level: float

    @property
    def headline(self) -> str:
        """The verdict's figures in one line."""
        chosen = self.chosen
        stages = [self.items, chosen.retrieve, *([chosen.coarse] if chosen.coarse else []), self.top_k]
        line = (
            f"cascade {' → '.join(f'{n:,}' for n in stages)}: keeps {chosen.metrics['ndcg'].value:.1%} of the NDCG of "
            f"{self.ranker} over everything"
        )
        if ONE_LIST in self.references:
            line += f" (the best list for all requests {self.references[ONE_LIST]['ndcg'].value:.1%})"
        return line if chosen.cost_share is None else f"{line}, at {chosen.cost_share:.1%} of its cost"


def evaluate_cascade(
    scores: CascadeScores,
    cascade: CascadeConfig | None = None,
    config: CascadeEvaluationConfig | None = None,
    costs: CascadeCosts | None = None,
    ranker: str = "",
) -> CascadeEvaluation:
    """Measures the cascade and the curves around it, and puts the cascade to the gates.

    Args:
      scores: of the sampled requests.
      cascade: n₁, n₂ and k; n₁ and n₂ are cut to the catalogue.
      config: what to measure and to demand.
      costs: of the stages; without, the cost gate fails unless it is off.
      ranker: name of the fine ranker, for the record.

    Raises:
      ValueError: if there is no request, or n₁ is beyond what was scored.
    """
    cascade, config = cascade or CascadeConfig(), config or CascadeEvaluationConfig()
    if not len(scores):
        raise ValueError("`scores` holds no request: there is nothing to judge a cascade by.")
    chosen = _within(scores, cascade.retrieve, cascade.coarse)
    grid = _grid(scores, config, cascade.top_k)
    points = list(dict.fromkeys([chosen, *grid]))
    found, ideal, references = _measure(scores, points, cascade.top_k, config)
    made = {point: _point(point, found[point], costs) for point in points}
    gates = _judge(config.gates, len(scores), made[chosen])
    return CascadeEvaluation(
        ranker=ranker,
        requests=len(scores),
        users=len(np.unique(scores.user)),
        impressions=len(scores.item),
        clicks=int(scores.label.sum()),
        unknown_items=scores.unknown_items,
        items=scores.catalogue_size,
        top_k=cascade.top_k,
        chosen=made[chosen],
        ideal=ideal,
        references=references,
        curves=tuple(made[point] for point in grid),
        costs=costs,
        interval_level=config.interval_level,
        gates=gates,
        blessed=all(gate.passed for gate in gates),
    )


def _within(scores: CascadeScores, retrieve: int, coarse: int) -> tuple[int, int | None]:
    retrieve = min(retrieve, scores.catalogue_size)
    return retrieve, (min(coarse, retrieve) if scores.coarse is not None else None)


def _grid(scores: CascadeScores, config: CascadeEvaluationConfig, top_k: int) -> list[tuple[int, int | None]]:
    retrieve = sorted({min(n, scores.catalogue_size) for n in config.retrieve_grid if n >= top_k})
    retrieve = [n for n in retrieve if n <= scores.width]
    if scores.coarse is None:
        return [(n, None) for n in retrieve]
    coarse = sorted(n for n in config.coarse_grid if n >= top_k)
    return [(first, second) for first in retrieve for second in [*(n for n in coarse if n < first), first]]


def _columns(scores: CascadeScores, selection: Selection, retrieve: int, k: int) -> dict[str, Array]:
    """Summands [R] by name; every metric is a quotient of their sums over requests."""

    def by_request(values: Array) -> Array:
        return np.bincount(scores.request, values, minlength=len(scores))

    ideal_losses = row_log_loss(scores.label.astype(np.float64), sigmoid(scores.logit))
    order = cascade_order(scores, selection)
    columns = list_columns(scores, selection.listed, selection.listed_logit, order, k) | {
        "impressions": by_request(np.ones(len(scores.item))),
        "loss": by_request(log_losses(scores, selection)),
        "ideal_loss": by_request(ideal_losses),
        "clicks": by_request(scores.label.astype(np.float64)),
    }
    columns |= {f"click_{s}": by_request(hit & scores.label) for s, hit in stage_hits(scores, selection).items()}
    return columns | {f"ideal_{s}": share for s, share in ideal_hits(scores, selection, retrieve).items()}


def _figures(sums: Mapping[str, Array]) -> dict[str, Array]:
    """Metrics from sums of `_columns`, elementwise; NaN where undefined."""
    found = list_figures(sums)
    with np.errstate(invalid="ignore", divide="ignore"):
        loss, ideal_loss = sums["loss"] / sums["impressions"], sums["ideal_loss"] / sums["impressions"]
        found |= {"log_loss": loss, "log_loss_increase": loss - ideal_loss}
        found |= {f"click_recall_{stage}": sums[f"click_{stage}"] / sums["clicks"] for stage in STAGES}
        found |= {f"ideal_recall_{stage}": sums[f"ideal_{stage}"] / sums["requests"] for stage in STAGES}
        found["ideal:clicked_ndcg"] = sums["clicked_ideal"] / sums["with_click"]
        found["ideal:logged_ndcg"] = sums["logged_ideal"] / sums["with_logged"]
        found["ideal:log_loss"] = ideal_loss
    return found


_Point = tuple[int, int | None]
_Finish = Callable[[Mapping[str, Array]], dict[str, Array]]


def _measure(
    scores: CascadeScores, points: list[_Point], k: int, config: CascadeEvaluationConfig
) -> tuple[dict[_Point, dict[str, Estimate]], dict[str, Estimate], dict[str, dict[str, Estimate]]]:
    """Metrics of each point, of the ideal and of the references to the first point, with intervals by user."""
    users, user = np.unique(scores.user, return_inverse=True)

    def estimates(columns: dict[str, Array], finish: _Finish) -> dict[str, Estimate]:
        by_user = {name: np.bincount(user, column, len(users)) for name, column in columns.items()}
        whole = finish({name: sums.sum() for name, sums in by_user.items()})
        without = finish({name: sums.sum() - sums for name, sums in by_user.items()})
        return {name: estimate(float(value), without[name], config.interval_level) for name, value in whole.items()}

    found = [estimates(_columns(scores, select(scores, n, m, k), n, k), _figures) for n, m in points]
    beside: dict[str, dict[str, Array]] = {}
    if scores.references is not None:
        beside = reference_columns(scores, scores.references, *points[0], k)
    by_point = {
        point: {name: each for name, each in row.items() if not name.startswith("ideal:")}
        for point, row in zip(points, found, strict=True)
    }
    ideal = {name.removeprefix("ideal:"): each for name, each in found[0].items() if name.startswith("ideal:")}
    return by_point, ideal, {name: estimates(columns, list_figures) for name, columns in beside.items()}


def _point(point: tuple[int, int | None], metrics: dict[str, Estimate], costs: CascadeCosts | None) -> CascadePoint:
    retrieve, coarse = point
    if costs is None:
        return CascadePoint(retrieve=retrieve, coarse=coarse, metrics=metrics)
    # Where everything passes, the coarse ranker need not be asked.
    seconds = costs.seconds(retrieve, None if coarse == retrieve else coarse)
    share = sum(seconds.values()) / costs.ideal_seconds
    return CascadePoint(retrieve=retrieve, coarse=coarse, metrics=metrics, seconds=seconds, cost_share=share)


def _judge(limits: CascadeGates, requests: int, chosen: CascadePoint) -> tuple[GateResult, ...]:
    gates = []
    if limits.min_requests is not None:
        found = f"{requests} requests."
        gates.append(make_gate(limits, "min_requests", "min_requests", requests, limits.min_requests, None, found))
    if limits.min_ndcg_kept is not None:
        kept = chosen.metrics["ndcg"]
        low = kept.value if kept.low is None else kept.low
        interval = "" if kept.low is None else f" [{kept.low:.4f}, {kept.high:.4f}]"
        found = f"{kept.value:.4f}{interval} is kept."
        gates.append(make_gate(limits, "min_ndcg_kept", "ndcg_kept", low, limits.min_ndcg_kept, None, found))
    if limits.max_cost_share is not None:
        share = chosen.cost_share
        found = "no cost was measured." if share is None else f"{share:.1%} of the ideal's cost."
        gates.append(make_gate(limits, "max_cost_share", "cost_share", share, None, limits.max_cost_share, found))
    return tuple(gates)

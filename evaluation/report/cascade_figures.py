"""Figures of the cascade: curves to choose n₁ and n₂ by, quality against cost, what each stage lets through."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from evaluation.cascade.evaluate import STAGES, CascadeEvaluation, CascadePoint
from evaluation.report import format as fmt
from evaluation.report.plots import Figure, dots

Trace = dict[str, Any]

_LINES = (("@model", "circle"), ("@good", "square"), ("@warning", "diamond"), ("@bad", "cross"), ("@baseline", "x"))
_STAGE_TITLES = {"retrieve": "retrieved", "coarse": "reaches the fine ranker", "list": "in the list"}


def cascade_figures(result: CascadeEvaluation) -> list[Figure]:
    """All figures of a cascade's evaluation; curves need two points at least."""
    figures = [kept_curves(result)] if len(result.curves) > 1 else []
    if result.costs is not None and result.curves:
        figures.append(kept_against_cost(result))
    return [*figures, stage_recall(result)]


def lines_of(result: CascadeEvaluation) -> dict[str, list[CascadePoint]]:
    """Points of the curves by line: one for each n₂, and one without a coarse stage (n₂ = n₁)."""
    lines: dict[str, list[CascadePoint]] = {}
    for point in result.curves:
        plain = point.coarse is None or point.coarse == point.retrieve
        lines.setdefault("no coarse stage" if plain else f"n₂ = {fmt.count(point.coarse)}", []).append(point)
    return lines


def kept_curves(result: CascadeEvaluation) -> Figure:
    """NDCG kept over n₁, a line for each n₂."""
    data = [
        _trace(name, points, number, [point.retrieve for point in points])
        for number, (name, points) in enumerate(lines_of(result).items())
    ]
    xaxis = {"title": {"text": "items retrieved, n₁"}, "type": "log", "zeroline": False, "tickvals": _ticks(result)}
    return _figure("cascade-curves", "NDCG kept by items retrieved", result, data, xaxis)


def kept_against_cost(result: CascadeEvaluation) -> Figure:
    """NDCG kept over the share of the ideal's cost: up and to the left is better."""
    data = [
        _trace(name, points, number, [100 * (point.cost_share or 0) for point in points], mode="markers")
        for number, (name, points) in enumerate(lines_of(result).items())
    ]
    xaxis = {"title": {"text": "share of the ideal’s cost, %"}, "zeroline": False, "rangemode": "tozero"}
    return _figure("cascade-cost", "NDCG kept against cost", result, data, xaxis)


def stage_recall(result: CascadeEvaluation) -> Figure:
    """Share of the ideal's list, and of the clicked items, that passes each stage of the judged cascade."""
    wanted = [
        (f"{what} {_STAGE_TITLES[stage]}", result.chosen.metrics[f"{kind}_recall_{stage}"], color)
        for kind, what, color in (("ideal", "ideal’s list:", "@model"), ("click", "clicked:", "@baseline"))
        for stage in STAGES
        if result.chosen.coarse is not None or stage != "coarse"
    ]
    found = [(label, value, color) for label, value, color in wanted if value.value is not None]
    labels, values, colors = zip(*found, strict=True)
    hover = [f"{label} {fmt.percent(v.value)} {fmt.interval(v)}" for label, v in zip(labels, values, strict=True)]
    alt = "Share that passes each stage: " + "; ".join(hover) + "."
    title = f"What passes each stage ({_numbers(result.chosen)})"
    return dots("cascade-recall", title, alt, list(labels), list(values), list(colors), hover, xrange=[-0.03, 1.03])


def _trace(
    name: str, points: list[CascadePoint], number: int, x: Sequence[float], mode: str = "lines+markers"
) -> Trace:
    color, symbol = _LINES[number % len(_LINES)]
    return {
        "type": "scatter",
        "mode": mode,
        "name": name,
        "x": x,
        "y": [point.metrics["ndcg"].value for point in points],
        "line": {"color": color, "width": 2},
        "marker": {"color": color, "size": 8, "symbol": symbol},
        "hovertext": [_words(point) for point in points],
        "hoverinfo": "text",
    }


def _figure(identifier: str, title: str, result: CascadeEvaluation, data: list[Trace], xaxis: Trace) -> Figure:
    gate = next((gate for gate in result.gates if gate.name == "ndcg_kept"), None)
    layout = {
        "xaxis": xaxis,
        "yaxis": {"title": {"text": "NDCG kept"}, "zeroline": False, "automargin": True, "nticks": 6},
        "margin": {"t": 46, "b": 48},
        "showlegend": len(data) > 1,
        "legend": {"orientation": "h", "x": 1, "xanchor": "right", "y": 1.1, "yanchor": "bottom"},
    }
    if gate is not None:
        line = {"color": "@muted", "dash": "dot", "width": 1.5}
        y = gate.minimum
        layout["shapes"] = [{"type": "line", "xref": "paper", "x0": 0, "x1": 1, "y0": y, "y1": y, "line": line}]
    alt = f"{title}. " + "; ".join(_words(point) for point in result.curves) + "."
    return Figure(identifier, title, alt, data, layout, 320)


def _numbers(point: CascadePoint) -> str:
    coarse = "" if point.coarse is None else f", n₂ {fmt.count(point.coarse)}"
    return f"n₁ {fmt.count(point.retrieve)}{coarse}"


def _words(point: CascadePoint) -> str:
    kept = point.metrics["ndcg"]
    cost = "" if point.cost_share is None else f" at {fmt.percent(point.cost_share)} of the cost"
    return f"{_numbers(point)}: {fmt.metric(kept.value)} {fmt.interval(kept)} kept{cost}"


def _ticks(result: CascadeEvaluation) -> list[int]:
    return sorted({point.retrieve for point in result.curves})

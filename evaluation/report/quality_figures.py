"""Figures of how well the model ranks: metrics beside the baselines, slices, reliability."""

from __future__ import annotations

from collections.abc import Iterable

from evaluation.metrics.registry import make_metric
from evaluation.report import format as fmt
from evaluation.report.plots import (
    Figure,
    defined,
    dots,
    ends,
    label,
    padded,
    slug,
    span,
)
from evaluation.results import Estimate, EvaluationResult, MetricSet, ReliabilityBin, SliceResult

HEADLINE = ("auc", "gauc_user", "gauc_request", "log_loss", "pcoc")


def all_scores(result: EvaluationResult) -> list[MetricSet]:
    """The model, the live model (on the rows that both scored, hence without intervals) and the baselines."""
    scores = [result.model, *result.baselines]
    if result.live is not None and all(known.name != "live" for known in scores):
        values = {name: Estimate(value=both.live) for name, both in result.live.metrics.items()}
        scores.insert(1, MetricSet(name="live", metrics=values))
    return scores


def headline_metrics(names: Iterable[str]) -> list[str]:
    """The metrics worth a plot: one of each kind. The rest stand in the table."""
    names = list(names)
    ndcg = [name for name in names if name.startswith("ndcg@")][-1:]
    return [name for name in names if name in HEADLINE or name in ndcg] or names[:6]


def metrics(result: EvaluationResult) -> list[Figure]:
    """One dot plot a headline metric: the model beside the live model and the baselines."""
    figures = []
    for name in headline_metrics(result.model.metrics):
        shown = [(s.name, s.metrics[name]) for s in all_scores(result) if defined(s.metrics.get(name))]
        if not shown:
            continue
        title = fmt.metric_title(name)
        words = [f"{fmt.scores_title(who)} {fmt.metric(e.value)} {fmt.interval(e)}".strip() for who, e in shown]
        colors = ["@model" if who == "model" else "@oracle" if who == "oracle" else "@baseline" for who, _ in shown]
        figures.append(
            dots(
                f"metric-{slug(name)}",
                title,
                f"{title}, {fmt.better(name)}: " + "; ".join(words) + ".",
                [label(fmt.scores_title(who)) for who, _ in shown],
                [e for _, e in shown],
                colors,
                [label(text, 200) for text in words],
                reference=1.0 if make_metric(name).lower_is_better is None else None,
            )
        )
    return figures


def slices(result: EvaluationResult, metric: str = "auc") -> list[Figure]:
    """One dot plot a feature, on one scale; the dotted line is the model over all rows."""
    overall = result.model.metrics.get(metric)
    reference = overall.value if overall else None
    by_feature: dict[str, list[SliceResult]] = {}
    for part in result.slices:
        if defined(part.metrics.get(metric)):
            by_feature.setdefault(part.feature, []).append(part)
    known = [v for parts in by_feature.values() for p in parts for v in ends(p.metrics[metric])]
    if not known:
        return []
    known += [reference] if reference is not None else []
    xrange = padded(known)
    figures = []
    for feature, parts in by_feature.items():
        words = [
            f"{p.value}: {fmt.metric(p.metrics[metric].value)} {fmt.interval(p.metrics[metric])}".strip()
            + f", {fmt.count(p.rows)} rows"
            for p in parts
        ]
        figures.append(
            dots(
                f"slice-{slug(feature)}",
                feature,
                f"{fmt.metric_title(metric)} by {feature}: " + "; ".join(words) + ".",
                [label(p.value, 20) for p in parts],
                [p.metrics[metric] for p in parts],
                "@model",
                [label(text, 200) for text in words],
                xrange,
                reference,
            )
        )
    return figures


def reliability(bins: tuple[ReliabilityBin, ...]) -> Figure:
    """Observed share over predicted probability, and below it how the rows spread over the scores."""
    predicted = [b.mean_score for b in bins]
    top = max([*predicted, *(v for b in bins for v in ends(b.observed))]) * 1.06 or 1.0
    words = [
        f"predicted {fmt.metric(b.mean_score)}, observed {fmt.metric(b.observed.value)} {fmt.interval(b.observed)}, "
        f"{fmt.count(b.rows)} rows"
        for b in bins
    ]
    diagonal = {
        "type": "scatter",
        "mode": "lines",
        "x": [0, top],
        "y": [0, top],
        "line": {"color": "@muted", "dash": "dot", "width": 1.5},
        "hoverinfo": "skip",
    }
    observed = {
        "type": "scatter",
        "mode": "lines+markers",
        "x": predicted,
        "y": [b.observed.value for b in bins],
        "line": {"color": "@model", "width": 1.5},
        "marker": {"color": "@model", "size": 8},
        "hovertext": words,
        "hoverinfo": "text",
        "error_y": {
            "type": "data",
            "symmetric": False,
            "array": [span(b.observed.value, b.observed.high) for b in bins],
            "arrayminus": [span(b.observed.low, b.observed.value) for b in bins],
            "color": "@text",
            "thickness": 1.4,
            "width": 3,
        },
    }
    rows = {
        "type": "bar",
        "x": [(b.lowest + b.highest) / 2 for b in bins],
        "width": [max(b.highest - b.lowest, top / 400) for b in bins],
        "y": [b.rows for b in bins],
        "yaxis": "y2",
        "marker": {"color": "@fill", "line": {"color": "@surface", "width": 1}},
        "hovertext": words,
        "hoverinfo": "text",
    }
    layout = {
        "xaxis": {"title": {"text": "predicted probability"}, "range": [0, top], "anchor": "y2", "zeroline": False},
        "yaxis": {"title": {"text": "observed share"}, "range": [0, top], "domain": [0.3, 1], "zeroline": False},
        "yaxis2": {"title": {"text": "rows"}, "domain": [0, 0.18], "nticks": 3, "rangemode": "tozero"},
        "margin": {"t": 8, "b": 44, "l": 76},
    }
    alt = f"Reliability diagram of {len(bins)} bins: " + "; ".join(words) + "."
    return Figure("reliability", "Reliability", alt, [diagonal, observed, rows], layout, 430)

"""Figures of how well the model ranks: metrics beside the baselines, slices, reliability."""

from __future__ import annotations

from collections.abc import Iterable

from evaluation.metrics.registry import make_metric
from evaluation.report import format as fmt
from evaluation.report.plots import (
    Bars,
    Figure,
    Panel,
    Points,
    defined,
    dots,
    ends_of,
    label,
    numeric_axis,
    padded,
    slug,
    span,
)
from evaluation.results import Estimate, EvaluationResult, MetricSet, ReliabilityBin, SliceResult

HEADLINE = ("auc", "gauc_user", "gauc_request", "log_loss", "pcoc")


def all_scores(result: EvaluationResult) -> list[MetricSet]:
    """The model, the live model (on the rows that both scored, hence without intervals) and the baselines."""
    scores = [result.model, *result.baselines]
    if result.live is not None and result.live.metrics and all(known.name != "live" for known in scores):
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
        colors = ["model" if who == "model" else "oracle" if who == "oracle" else "baseline" for who, _ in shown]
        figures.append(
            dots(
                f"metric-{slug(name)}",
                title,
                f"{title}, {fmt.better(name)}: " + "; ".join(words) + ".",
                [label(fmt.scores_title(who)) for who, _ in shown],
                [e for _, e in shown],
                colors,
                words,
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
    known = [v for parts in by_feature.values() for p in parts for v in ends_of(p.metrics[metric])]
    if not known:
        return []
    known += [reference] if reference is not None else []
    ends = padded(known)
    figures = []
    for feature, parts in by_feature.items():
        words = [
            f"{p.value}: {fmt.metric(p.metrics[metric].value)} {fmt.interval(p.metrics[metric])}".strip()
            + f", {fmt.count(p.rows)} rows"
            + (", not judged" if p.unjudged else "")
            for p in parts
        ]
        figures.append(
            dots(
                f"slice-{slug(feature)}",
                feature,
                f"{fmt.metric_title(metric)} by {feature}: " + "; ".join(words) + ".",
                [label(p.value, 20) for p in parts],
                [p.metrics[metric] for p in parts],
                ["baseline" if p.unjudged else "model" for p in parts],
                words,
                ends,
                reference,
            )
        )
    return figures


def reliability(bins: tuple[ReliabilityBin, ...]) -> Figure:
    """Observed share over predicted probability, and below it how the rows spread over the scores."""
    predicted = [b.mean_score for b in bins]
    top = max([*predicted, *(v for b in bins for v in ends_of(b.observed))]) * 1.06 or 1.0
    words = [
        f"predicted {fmt.metric(b.mean_score)}, observed {fmt.metric(b.observed.value)} {fmt.interval(b.observed)}, "
        f"{fmt.count(b.rows)} rows"
        for b in bins
    ]
    diagonal = Points([0.0, top], [0.0, top], color="muted", symbol="", joined=True, dashed=True)
    spans = [span(b.observed) for b in bins]
    observed = Points(predicted, [b.observed.value for b in bins], words, joined=True, spans=spans, upright=True)
    x = numeric_axis([0.0, top], title="predicted probability", ends=(0.0, top))
    upper = Panel(280, numeric_axis([0.0, top], title="observed share", ends=(0.0, top)), (diagonal, observed))
    # The last bin reaches to the highest score of all, far beyond where any bin's mean lies.
    ends = [(b.lowest, min(b.highest, top)) for b in bins]
    widths = [max(high - low, top / 400) for low, high in ends]
    middles = [(low + high) / 2 for low, high in ends]
    most = max(b.rows for b in bins)
    rows = Bars(
        [(middle - width / 2, middle + width / 2) for middle, width in zip(middles, widths, strict=True)],
        [(0, b.rows) for b in bins],
        "fill",
        hover=words,
    )
    counts = numeric_axis([most], title="rows", count=2, ends=(0, most * 1.08), write=lambda v: fmt.count(int(v)))
    lower = Panel(72, counts, (rows,))
    alt = f"Reliability diagram of {len(bins)} bins: " + "; ".join(words) + "."
    return Figure("reliability", "Reliability", alt, x, (upper, lower))

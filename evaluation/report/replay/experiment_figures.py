"""Figures of an experiment: metrics side by side, slices, days."""

from __future__ import annotations

from collections.abc import Sequence

from evaluation.replay.experiment.days import DaysReading
from evaluation.replay.experiment.read import ExperimentReading, MetricReading
from evaluation.replay.experiment.slices import SliceReading, SlicesReading
from evaluation.report import format as fmt
from evaluation.report.plots import (
    Axis,
    Figure,
    Panel,
    Points,
    Rule,
    ends_of,
    label,
    numeric_axis,
    rows_axis,
    slug,
    span,
)
from evaluation.report.replay.replay_figures import COLORS
from evaluation.results import Estimate

_ROW = 34


def effects(reading: ExperimentReading) -> Figure | None:
    """Each metric's difference over the baseline's value, with its interval."""
    shown = [each for each in reading.metrics if each.relative.value is not None]
    if not shown:
        return None
    words = [f"{each.metric} {share(each.relative)}, {fmt.verdict(each.outcome)}" for each in shown]
    title = f"Difference of {reading.candidate} over {reading.baseline}"
    return _forest("effects", title, [each.metric for each in shown], [each.relative for each in shown], shown, words)


def by_slice(reading: SlicesReading) -> list[Figure]:
    """A metric's difference by the values of each feature."""
    by_feature: dict[str, list[SliceReading]] = {}
    for each in reading.slices:
        if each.difference.value is not None:
            by_feature.setdefault(each.feature, []).append(each)
    figures = []
    for feature, parts in by_feature.items():
        words = [
            f"{each.value}: {fmt.signed(each.difference.value)} {fmt.interval(each.difference)}, "
            f"{fmt.count(each.users)} users, {fmt.verdict(each.outcome)}"
            for each in parts
        ]
        title = f"{reading.metric} by {feature}"
        labels, found = [each.value for each in parts], [each.difference for each in parts]
        figures.append(
            _forest(f"slice-{slug(reading.metric)}-{slug(feature)}", title, labels, found, parts, words, False)
        )
    return figures


def by_day(reading: DaysReading) -> Figure | None:
    """A metric's difference day by day."""
    days = [each for each in reading.days if each.difference.value is not None]
    if len(days) < 2:
        return None
    found = [each.difference for each in days]
    words = [
        f"{each.day}: {fmt.signed(estimate.value)} {fmt.interval(estimate)}, {fmt.count(each.users)} users"
        for each, estimate in zip(days, found, strict=True)
    ]
    spans = [span(estimate) for estimate in found]
    places = [float(place) for place in range(len(days))]
    points = Points(places, [estimate.value for estimate in found], words, joined=True, spans=spans, upright=True)
    step = 1 + len(days) // 8
    ticks = tuple((place, each.day[-5:]) for place, each in zip(places, days, strict=True))[::step]
    x = Axis(-0.5, len(days) - 0.5, ticks, "day", grid=False)
    known = [0.0, *(end for estimate in found for end in ends_of(estimate))]
    panel = Panel(200, numeric_axis(known, count=5), (Rule(y=0.0), points))
    alt = f"Difference of {reading.metric} by day: " + "; ".join(words) + "."
    return Figure(f"days-{slug(reading.metric)}", f"{reading.metric} by day", alt, x, (panel,))


def share(estimate: Estimate) -> str:
    """A relative difference with its interval: `+2.10% [+0.40%, +3.80%]`."""
    ends = [estimate.low, estimate.high]
    told = "" if None in ends else f" [{', '.join(signed_percent(end) for end in ends)}]"
    return signed_percent(estimate.value) + told


def signed_percent(value: float | None) -> str:
    """0.021 → `+2.10%`."""
    return ("+" if value is not None and value > 0 else "") + fmt.percent(value)


def _forest(
    identifier: str,
    title: str,
    labels: Sequence[str],
    found: Sequence[Estimate],
    judged: Sequence[MetricReading | SliceReading],
    words: Sequence[str],
    shares: bool = True,
) -> Figure:
    marks: list[Points | Rule] = [Rule(x=0.0)]
    for withheld in (False, True):
        rows = [i for i, each in enumerate(judged) if (each.outcome == "withheld") is withheld]
        if rows:
            colors = "muted" if withheld else [COLORS[judged[i].outcome] for i in rows]
            values, spans = [found[i].value for i in rows], [span(found[i]) for i in rows]
            said, places = [words[i] for i in rows], [float(i) for i in rows]
            marks.append(Points(values, places, said, colors, "diamond", hollow=withheld, spans=spans))
    known = [0.0, *(end for estimate in found for end in ends_of(estimate))]
    x = numeric_axis(known, count=4, write=signed_percent if shares else None)
    panel = Panel(_ROW * len(labels), rows_axis([label(text, 22) for text in labels]), tuple(marks))
    return Figure(identifier, title, f"{title}: " + "; ".join(words) + ".", x, (panel,))

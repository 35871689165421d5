"""Figures of the cascade: what its list is worth, curves to choose n₁ and n₂ by, quality against cost, what passes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from evaluation.cascade.evaluate import STAGES, CascadeEvaluation, CascadePoint
from evaluation.cascade.references import (
    COARSE_ALONE,
    ONE_LIST,
    POPULARITY,
    RANDOM_FINE,
    RANDOM_LIST,
    RETRIEVAL_ALONE,
)
from evaluation.report import format as fmt
from evaluation.report.plots import Axis, Figure, Panel, Points, Rule, dots, label, log_axis, numeric_axis
from evaluation.report.svg import SYMBOLS
from evaluation.results import Estimate

_STAGE_TITLES = {"retrieve": "retrieved", "coarse": "reaches the fine ranker", "list": "in the list"}
_NO_COARSE = "no coarse stage"
_PLAIN = ("text", "hourglass", False)
"""How the line without a coarse stage looks: the colour of text and a symbol that no other line has."""


@dataclass(frozen=True)
class ListRow:
    """One list beside others: what it is, and its metrics."""

    title: str
    note: str
    metrics: dict[str, Estimate]
    own: bool = False


def list_rows(result: CascadeEvaluation) -> list[ListRow]:
    """The judged cascade between the ideal and what costs little or nothing, the strongest in kind first."""
    size, chosen, found = result.top_k, result.chosen, result.references
    ranker = result.ranker or "the fine ranker"
    notes = {
        COARSE_ALONE: ("Retrieval + coarse", f"the first {size} of the coarse ranker, without the fine one"),
        RETRIEVAL_ALONE: ("Retrieval alone", f"the first {size} that are retrieved, without any ranking"),
        RANDOM_FINE: (
            f"Random {fmt.count(chosen.retrieve)} + fine",
            f"{fmt.count(chosen.retrieve)} items of the catalogue at random, ordered by {ranker}",
        ),
        ONE_LIST: ("One list for all", "the best single list for these very requests, chosen knowing them"),
        POPULARITY: ("Popularity", "the items that were clicked most often in train"),
        RANDOM_LIST: ("Random list", f"{size} items of the catalogue at random; the expected value"),
    }
    # The ideal keeps all of itself, whatever is drawn: there is no interval to it.
    ideal = result.ideal | {name: Estimate(value=1.0) for name in ("ndcg", "logged_ndcg_kept", "clicked_ndcg_kept")}
    rows = [
        ListRow("Ideal", f"{ranker} over all {fmt.count(result.items)} items", ideal),
        ListRow("This cascade", _numbers(chosen), chosen.metrics, own=True),
    ]
    return rows + [ListRow(*notes[name], found[name]) for name in notes if name in found]


def cascade_figures(result: CascadeEvaluation) -> list[Figure]:
    """The figures that help to choose n₁ and n₂; curves need two points at least."""
    figures = [kept_curves(result)] if len(result.curves) > 1 else []
    if result.costs is not None and result.curves:
        figures.append(kept_against_cost(result))
    return [*figures, stage_recall(result)]


def list_figures_of(result: CascadeEvaluation) -> list[Figure]:
    """The list by the fine ranker's word and by clicks, each beside its own references; none without references."""
    if not result.references:
        return []
    shown = (
        ("cascade-kept", f"NDCG@{result.top_k} kept, gains are the fine ranker’s probabilities", "ndcg"),
        ("cascade-clicks", f"NDCG@{result.top_k} of the items that were shown, gains are clicks", "logged_ndcg"),
    )
    figures = []
    for identifier, title, metric in shown:
        rows = [row for row in list_rows(result) if metric in row.metrics and row.metrics[metric].value is not None]
        if not rows:  # without a click, nothing is known of clicks
            continue
        values = [row.metrics[metric] for row in rows]
        words = [
            f"{row.title}: {fmt.metric(value.value)} {fmt.interval(value)}".strip()
            for row, value in zip(rows, values, strict=True)
        ]
        colors = ["model" if row.own else "oracle" if row.title == "Ideal" else "baseline" for row in rows]
        alt = f"{title}. " + "; ".join(words) + "."
        figures.append(dots(identifier, title, alt, [label(row.title) for row in rows], values, colors, words))
    return figures


def lines_of(result: CascadeEvaluation) -> dict[str, list[CascadePoint]]:
    """Points of the curves by line: one for each n₂, by rising n₂, and one without a coarse stage (n₂ = n₁), last."""
    lines: dict[int | None, list[CascadePoint]] = {}
    for point in result.curves:
        plain = point.coarse is None or point.coarse == point.retrieve
        lines.setdefault(None if plain else point.coarse, []).append(point)
    ordered = sorted(size for size in lines if size is not None) + [None] * (None in lines)
    return {_NO_COARSE if size is None else f"n₂ = {fmt.count(size)}": lines[size] for size in ordered}


def kept_curves(result: CascadeEvaluation) -> Figure:
    """NDCG kept over n₁, a line for each n₂."""
    x = log_axis([point.retrieve for point in result.curves], "items retrieved, n₁")
    return _curves("cascade-curves", "NDCG kept by items retrieved", result, x, lambda p: p.retrieve, joined=True)


def kept_against_cost(result: CascadeEvaluation) -> Figure:
    """NDCG kept over the share of the ideal's cost: up and to the left is better."""
    shares = [100 * (point.cost_share or 0) for point in result.curves]
    x = numeric_axis(shares, title="share of the ideal’s cost, %", zero=True)
    return _curves("cascade-cost", "NDCG kept against cost", result, x, lambda p: 100 * (p.cost_share or 0))


def stage_recall(result: CascadeEvaluation) -> Figure:
    """Share of the ideal's list, and of the clicked items, that passes each stage of the judged cascade."""
    wanted = [
        (f"{what} {_STAGE_TITLES[stage]}", result.chosen.metrics[f"{kind}_recall_{stage}"], color)
        for kind, what, color in (("ideal", "ideal’s list:", "model"), ("click", "clicked:", "baseline"))
        for stage in STAGES
        if result.chosen.coarse is not None or stage != "coarse"
    ]
    found = [(text, value, color) for text, value, color in wanted if value.value is not None]
    labels, values, colors = zip(*found, strict=True)
    hover = [f"{text} {fmt.percent(v.value)} {fmt.interval(v)}" for text, v in zip(labels, values, strict=True)]
    alt = "Share that passes each stage: " + "; ".join(hover) + "."
    title = f"What passes each stage ({_numbers(result.chosen)})"
    return dots("cascade-recall", title, alt, labels, values, colors, hover, ends=(-0.03, 1.03))


def _curves(
    identifier: str,
    title: str,
    result: CascadeEvaluation,
    x: Axis,
    place: Callable[[CascadePoint], float],
    joined: bool = False,
) -> Figure:
    lines = lines_of(result)
    coarse = [name for name in lines if name != _NO_COARSE]
    marks: list[Points | Rule] = []
    gate = next((gate for gate in result.gates if gate.name == "ndcg_kept"), None)
    values = [point.metrics["ndcg"].value for point in result.curves]
    known = [value for value in values if value is not None]
    if gate is not None and gate.minimum is not None:
        marks.append(Rule(y=gate.minimum, label="gate"))
        known.append(gate.minimum)
    for name, points in lines.items():
        color, symbol, hollow = _look(coarse.index(name), len(coarse)) if name in coarse else _PLAIN
        marks.append(
            Points(
                [place(point) for point in points],
                [point.metrics["ndcg"].value for point in points],
                [_words(point) for point in points],
                color,
                symbol,
                hollow,
                name,
                joined,
            )
        )
    panel = Panel(230, numeric_axis(known, title="NDCG kept"), tuple(marks))
    alt = f"{title}. " + "; ".join(_words(point) for point in result.curves) + "."
    return Figure(identifier, title, alt, x, (panel,), legend=len(lines) > 1)


def _look(number: int, lines: int) -> tuple[int, str, bool]:
    """The hue, the symbol, and whether it is hollow, of one n₂ of several: no two share the hue or the symbol.

    Hues run from blue to red as n₂ rises; where there are more lines than symbols, these come again as outlines.
    """
    symbols = [symbol for symbol in SYMBOLS if symbol != _PLAIN[1]]
    return 255 - round(235 * number / max(lines - 1, 1)), symbols[number % len(symbols)], number // len(symbols) % 2 > 0


def _numbers(point: CascadePoint) -> str:
    coarse = "" if point.coarse is None else f", n₂ {fmt.count(point.coarse)}"
    return f"n₁ {fmt.count(point.retrieve)}{coarse}"


def _words(point: CascadePoint) -> str:
    kept = point.metrics["ndcg"]
    cost = "" if point.cost_share is None else f" at {fmt.percent(point.cost_share)} of the cost"
    return f"{_numbers(point)}: {fmt.metric(kept.value)} {fmt.interval(kept)} kept{cost}"

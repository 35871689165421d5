"""The page's figures, drawn as those of the run report: how items moved, and where the time went."""

from __future__ import annotations

from collections.abc import Sequence

from evaluation.report import format as fmt
from evaluation.report.plots import Axis, Figure, Panel, Points, bars
from serving.gateway.page.words import stage_title

#: Lines of more items than these cannot be told apart.
MOST_LINES = 30


def journeys(columns: Sequence[str], items: Sequence[tuple[str, Sequence[int | None]]]) -> Figure | None:
    """Returns the listed items' ranks from stage to stage; None where there are no two stages.

    Args:
      columns: titles of the stages.
      items: of each item, what it is called and its rank in each stage, from 1.
    """
    drawn = items[:MOST_LINES]
    ranks = [rank for _, each in drawn for rank in each if rank is not None]
    if len(columns) < 2 or not ranks:
        return None
    lines = tuple(_line(name, each, columns) for name, each in drawn)
    worst = max(*ranks, 2)
    steps = [step for power in range(7) for step in (10**power, 3 * 10**power) if step < worst * 0.72]
    y = Axis(worst * 1.12, 0.9, tuple((float(s), fmt.count(s)) for s in (*steps, worst)), "rank", log=True)
    x = Axis(-0.08, len(columns) - 0.92, tuple((float(n), title) for n, title in enumerate(columns)))
    said = (
        f"Ranks of the first {len(drawn)} listed items in {', '.join(columns)}; the list’s table has them in numbers."
    )
    return Figure("journeys", "How the listed items moved", said, x, (Panel(260, y, lines),))


def _line(name: str, ranks: Sequence[int | None], columns: Sequence[str]) -> Points:
    known = [rank for rank in ranks if rank is not None]
    color = "good" if known[-1] < known[0] else "baseline"
    said = ", ".join(f"{title} {fmt.count(rank)}" for title, rank in zip(columns, ranks, strict=True) if rank)
    hover = [f"{name}: {said}"] * len(ranks)
    places = [None if rank is None else float(rank) for rank in ranks]
    return Points([float(n) for n in range(len(ranks))], places, hover, color, joined=True)


def times(stage_ms: Sequence[tuple[str, float]]) -> Figure | None:
    """Returns milliseconds by stage as bars; None where nothing was timed."""
    if not stage_ms:
        return None
    texts = [fmt.milliseconds(value / 1000) for _, value in stage_ms]
    titles = [stage_title(name) for name, _ in stage_ms]
    said = "Time by stage: " + "; ".join(f"{title} {text}" for title, text in zip(titles, texts, strict=True)) + "."
    colors = ["baseline" if name == "total" else "model" for name, _ in stage_ms]
    return bars("times", "Where the time went", said, titles, [value for _, value in stage_ms], texts, colors)

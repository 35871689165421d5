"""What the report's figures are made of: axes, points, bars and rules, without a word of how they are drawn (`svg`).

Colours are roles (`model`, `muted` …) that the page's style sheet knows, so that a figure follows light, dark and
print. Categories are placed by number with tick labels, so that `1`, `2024-01-01` or two labels cut to the same letters
stay what they are.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from evaluation.report import format as fmt
from evaluation.results import Estimate

ROW_HEIGHT = 30


@dataclass(frozen=True)
class Axis:
    """One direction of a panel.

    Attributes:
      low, high: the values at its two ends: left and right, bottom and top.
      ticks: (value, text).
      title: what it counts; '' where the figure's title says it.
      log: whether equal factors are equally long.
      grid: whether the ticks have lines across the panel.
    """

    low: float
    high: float
    ticks: tuple[tuple[float, str], ...] = ()
    title: str = ""
    log: bool = False
    grid: bool = True

    def place(self, value: float) -> float:
        """Where a value lies, from 0 (`low`) to 1 (`high`)."""
        low, high = (math.log(end) if self.log else end for end in (self.low, self.high))
        return ((math.log(value) if self.log else value) - low) / (high - low)


@dataclass(frozen=True)
class Points:
    """One series: a symbol for each point, joined by lines where they have an order.

    Attributes:
      x, y: where they lie; a point with None is left out.
      hover: what each says when it is pointed at.
      color: a role, or one for each point, or a hue in degrees.
      symbol: one of `svg.SYMBOLS`.
      hollow: whether only the symbol's outline is drawn.
      name: in the legend.
      joined: whether a line runs through them.
      dashed: whether that line is dotted.
      spans: the interval around each, or None; along x, or along y where `upright`.
    """

    x: Sequence[float | None]
    y: Sequence[float | None]
    hover: Sequence[str] = ()
    color: str | int | Sequence[str] = "model"
    symbol: str = "circle"
    hollow: bool = False
    name: str = ""
    joined: bool = False
    dashed: bool = False
    spans: Sequence[tuple[float, float] | None] = ()
    upright: bool = False

    def color_of(self, index: int) -> str | int:
        """The colour of one point."""
        return self.color if isinstance(self.color, (str, int)) else self.color[index]


@dataclass(frozen=True)
class Bars:
    """Rectangles: from x[0] to x[1] and from y[0] to y[1] each, with `texts` beside their right ends."""

    x: Sequence[tuple[float, float]]
    y: Sequence[tuple[float, float]]
    colors: str | Sequence[str] = "model"
    texts: Sequence[str] = ()
    hover: Sequence[str] = ()

    def color_of(self, index: int) -> str:
        """The colour of one bar."""
        return self.colors if isinstance(self.colors, str) else self.colors[index]


@dataclass(frozen=True)
class Rule:
    """A dotted line across the panel at one x or one y, with a label at its end."""

    x: float | None = None
    y: float | None = None
    color: str = "muted"
    label: str = ""


@dataclass(frozen=True)
class Panel:
    """One plane of a figure; the panels of a figure share the x axis and lie one below the other.

    Attributes:
      height: pixels.
      y: its vertical axis.
      marks: drawn in this order.
    """

    height: int
    y: Axis
    marks: tuple[Points | Bars | Rule, ...]


@dataclass(frozen=True)
class Figure:
    """One plot; `alt` says in words what it shows. `legend` tells whether the series are named above it."""

    id: str
    title: str
    alt: str
    x: Axis
    panels: tuple[Panel, ...]
    legend: bool = False

    @property
    def marks(self) -> list[Points | Bars | Rule]:
        """What is drawn in all panels."""
        return [mark for panel in self.panels for mark in panel.marks]


def label(text: Any, width: int = 28) -> str:
    """A text from the data, cut to the room that a label has."""
    return fmt.shortened(str(text), width)


def numeric_axis(
    values: Sequence[float],
    *,
    title: str = "",
    count: int = 5,
    zero: bool = False,
    ends: tuple[float, float] | None = None,
    write: Callable[[float], str] | None = None,
) -> Axis:
    """An axis that holds the values with a margin, with about `count` ticks at round numbers.

    Args:
      values: what must fit on it.
      title: what it counts.
      count: how many ticks are wanted.
      zero: whether it begins at 0.
      ends: takes the place of the ends that fit the values.
      write: how ticks read; with as many decimals as tell them apart by default.
    """
    low, high = ends or padded(list(values))
    low = 0.0 if zero else low
    high = high if high > low else low + 1.0
    raw = (high - low) / count
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= raw * 0.999)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    ticks = [n * step for n in range(first, last + 1)]
    return Axis(low, high, tuple((tick, write(tick) if write else fmt.tick(tick, step)) for tick in ticks), title)


def log_axis(values: Sequence[float], title: str) -> Axis:
    """A logarithmic axis of positive values, with a tick at each; of two that lie too close the larger has no text."""
    low, high = min(values), max(values)
    pad = (high / low) ** 0.04 if high > low else 1.5
    axis, kept, last = Axis(low / pad, high * pad, (), title, log=True), [], -1.0
    for value in sorted(set(values)):
        if axis.place(value) - last >= 0.09:
            kept.append((value, fmt.limit(value)))
            last = axis.place(value)
    return Axis(axis.low, axis.high, tuple(kept), title, log=True)


def rows_axis(labels: Sequence[str]) -> Axis:
    """A y axis with one row for each label, the first on top."""
    size = len(labels)
    return Axis(size - 0.5, -0.5, tuple((float(row), text) for row, text in enumerate(labels)), grid=False)


def bars(
    identifier: str,
    title: str,
    alt: str,
    labels: Sequence[str],
    values: Sequence[float | None],
    texts: Sequence[str],
    colors: str | Sequence[str] = "model",
    starts: Sequence[float] | None = None,
) -> Figure:
    """Horizontal bars with their exact figure beside them; they begin at 0, or at `starts`."""
    known = [value or 0.0 for value in values]
    starts = starts or [0.0] * len(known)
    reach = max((start + value for start, value in zip(starts, known, strict=True)), default=0) or 1.0
    spans = [(start, start + value) for start, value in zip(starts, known, strict=True)]
    rows = [(row - 0.31, row + 0.31) for row in range(len(known))]
    # Room on the right for the longest text outside the longest bar.
    x = Axis(0, reach * 1.9, grid=False)
    panel = Panel(ROW_HEIGHT * len(known), rows_axis(labels), (Bars(spans, rows, colors, texts),))
    return Figure(identifier, title, alt, x, (panel,))


def dots(
    identifier: str,
    title: str,
    alt: str,
    labels: Sequence[str],
    estimates: Sequence[Estimate],
    colors: str | Sequence[str],
    hover: Sequence[str],
    ends: tuple[float, float] | None = None,
    reference: float | None = None,
) -> Figure:
    """A dot and its interval a row; `reference` is a vertical line, `ends` are those of the x axis."""
    values = [estimate.value for estimate in estimates]
    known = [v for estimate in estimates for v in ends_of(estimate)] + [v for v in [reference] if v is not None]
    points = Points(values, list(range(len(values))), hover, colors, spans=[span(estimate) for estimate in estimates])
    marks = (points,) if reference is None else (Rule(x=reference), points)
    panel = Panel(ROW_HEIGHT * len(values), rows_axis(labels), marks)
    return Figure(identifier, title, alt, numeric_axis(known, ends=ends, count=4), (panel,))


def span(estimate: Estimate) -> tuple[float, float] | None:
    """The interval of an estimate; None where there is none."""
    return None if estimate.low is None or estimate.high is None else (estimate.low, estimate.high)


def slug(text: str) -> str:
    """Letters for an id; a number from the text keeps two texts of the same letters apart."""
    kept = "".join(c if c.isascii() and c.isalnum() else "-" for c in text.lower())
    return kept if kept == text else f"{kept}-{sum(map(ord, text))}"


def defined(estimate: Estimate | None) -> bool:
    return estimate is not None and estimate.value is not None


def ends_of(estimate: Estimate) -> list[float]:
    return [v for v in (estimate.low, estimate.value, estimate.high) if v is not None]


def padded(values: list[float]) -> tuple[float, float]:
    """The range of the values with a margin on both sides."""
    pad = (max(values) - min(values)) * 0.06 or 0.01
    return min(values) - pad, max(values) + pad

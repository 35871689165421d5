"""Draws the report's figures as SVG that needs no script and no library.

Across, everything is placed in percent of the panel and down in pixels, so that a figure takes the width that the page
has and its text keeps its size. Colours are classes of the style sheet. What a point says is its `<title>`: a browser
shows it when it is pointed at, and the page's script at once.
"""

from __future__ import annotations

import html
import unicodedata
from collections.abc import Callable, Iterator, Sequence

from evaluation.report.plots import Axis, Bars, Figure, Panel, Points, Rule

SYMBOLS = {
    "circle": "M5,0A5,5 0 1 1 -5,0A5,5 0 1 1 5,0Z",
    "square": "M-4.4,-4.4H4.4V4.4H-4.4Z",
    "diamond": "M0,-6.2L6.2,0L0,6.2L-6.2,0Z",
    "triangle-up": "M0,-5.8L5.6,4.2H-5.6Z",
    "triangle-down": "M0,5.8L5.6,-4.2H-5.6Z",
    "cross": "M-2,-6H2V-2H6V2H2V6H-2V2H-6V-2H-2Z",
    "star": "M0,-6.6L1.7,-2.1L6.3,-2L2.6,0.9L3.9,5.3L0,2.7L-3.9,5.3L-2.6,0.9L-6.3,-2L-1.7,-2.1Z",
    "hexagon": "M5.6,0L2.8,4.9H-2.8L-5.6,0L-2.8,-4.9H2.8Z",
    "bowtie": "M-5.6,-5L5.6,5V-5L-5.6,5Z",
    "hourglass": "M-5,-5.6H5L-5,5.6H5Z",
}
"""Outlines around 0, 0, about ten pixels wide; all of them stay apart from one another without colour."""

_Across = Callable[[float], str]
_Down = Callable[[float], float]
_LETTER, _WIDE_LETTER = 7.0, 13.0
_X_TICKS, _X_TITLE, _Y_TITLE, _GAP, _RULE_LABEL = 22, 18, 22, 22, 16


def draw(figure: Figure) -> str:
    """The figure as HTML: a legend where it has one, and one `<svg>`."""
    titled = any(panel.y.title for panel in figure.panels)
    left = 10 + max((_width(text) for panel in figure.panels for _, text in panel.y.ticks), default=0)
    left += _Y_TITLE if titled else 0
    top = 6 + _RULE_LABEL * any(isinstance(mark, Rule) and bool(mark.label) for mark in figure.panels[0].marks)
    parts, down = [], top
    for number, panel in enumerate(figure.panels):
        down += _GAP if number else 0
        parts += list(_panel(figure.x, panel, down, left))
        down += panel.height
    parts += list(_x_axis(figure.x, down))
    down += (_X_TICKS if figure.x.ticks else 4) + (_X_TITLE if figure.x.title else 0)
    right = 14 if figure.x.ticks else 0
    style = f"padding:0 {right}px 0 {left:.0f}px"
    chart = f'<svg class="chart" width="100%" height="{down}">{"".join(parts)}</svg>'
    legend = _legend(figure) if figure.legend else ""
    return f'{legend}<div style="{style}">{chart}</div>'


def _panel(x: Axis, panel: Panel, top: int, left: float) -> Iterator[str]:
    def across(value: float) -> str:
        return f"{100 * x.place(value):.3f}%"

    def down(value: float) -> float:
        return round(top + panel.height * (1 - panel.y.place(value)), 2)

    if panel.y.grid:
        yield from (_line("0", down(value), "100%", down(value), "grid") for value, _ in panel.y.ticks)
    if x.grid:
        yield from (_line(across(v), top, across(v), top + panel.height, "grid") for v, _ in x.ticks)
    for value, text in panel.y.ticks:
        yield f'<text class="tick" x="-8" y="{down(value)}" dy=".35em" text-anchor="end">{_text(text)}</text>'
    if panel.y.title:
        place = f"translate({12 - left:.0f} {top + panel.height / 2}) rotate(-90)"
        yield f'<text class="axis" transform="{place}" text-anchor="middle">{_text(panel.y.title)}</text>'
    for mark in panel.marks:
        if isinstance(mark, Rule):
            yield from _rule(mark, across, down, top, panel.height)
        elif isinstance(mark, Bars):
            yield from _bars(mark, across, down)
        else:
            yield from _points(mark, across, down)


def _x_axis(axis: Axis, top: int) -> Iterator[str]:
    for value, text in axis.ticks:
        place = f'x="{100 * axis.place(value):.3f}%" y="{top + 15}"'
        yield f'<text class="tick" {place} text-anchor="middle">{_text(text)}</text>'
    if axis.title:
        down = top + _X_TICKS + 13
        yield f'<text class="axis" x="50%" y="{down}" text-anchor="middle">{_text(axis.title)}</text>'


def _rule(mark: Rule, across: _Across, down: _Down, top: int, height: int) -> Iterator[str]:
    classes = f"rule c-{mark.color}"
    if mark.x is not None:
        yield _line(across(mark.x), top, across(mark.x), top + height, classes)
        if mark.label:
            place = f'x="{across(mark.x)}" y="{top - 5}" text-anchor="middle"'
            yield f'<text class="tick c-{mark.color}" {place}>{_text(mark.label)}</text>'
    if mark.y is not None:
        yield _line("0", down(mark.y), "100%", down(mark.y), classes)
        if mark.label:
            place = f'x="100%" y="{down(mark.y) - 5}" text-anchor="end"'
            yield f'<text class="tick c-{mark.color}" {place}>{_text(mark.label)}</text>'


def _bars(mark: Bars, across: _Across, down: _Down) -> Iterator[str]:
    for index, ((start, end), (one, other)) in enumerate(zip(mark.x, mark.y, strict=True)):
        upper, lower = sorted((down(one), down(other)))
        share = float(across(end)[:-1]) - float(across(start)[:-1])
        place = f'x="{across(start)}" y="{upper}" width="{share:.3f}%" height="{lower - upper:.2f}"'
        yield f'<g {_color(mark.color_of(index))}><rect class="bar" {place}/>'
        if mark.texts:
            place = f'x="{across(end)}" dx="7" y="{(upper + lower) / 2:.2f}" dy=".35em"'
            yield f'<text class="value" {place}>{_text(mark.texts[index])}</text>'
        yield f"{_title(mark.hover, index)}</g>"


def _points(mark: Points, across: _Across, down: _Down) -> Iterator[str]:
    places = [None if x is None or y is None else (across(x), down(y)) for x, y in zip(mark.x, mark.y, strict=True)]
    if mark.joined:
        color = _color(mark.color_of(0), f"series{' dashed' if mark.dashed else ''}")
        for before, after in zip(places[:-1], places[1:], strict=True):
            if before is not None and after is not None:
                yield f"<g {color}>{_line(*before, *after)}</g>"
    for index, place in enumerate(places):
        if place is None:
            continue
        yield f"<g {_color(mark.color_of(index))}>"
        if mark.spans and (span := mark.spans[index]) is not None:
            if mark.upright:
                yield _line(place[0], down(span[0]), place[0], down(span[1]), "span")
            else:
                yield _line(across(span[0]), place[1], across(span[1]), place[1], "span")
        if mark.symbol:
            yield f'<svg x="{place[0]}" y="{place[1]}" class="at">{_symbol(mark)}</svg>'
        yield f"{_title(mark.hover, index)}</g>"


def _symbol(mark: Points) -> str:
    kind = ' class="hollow"' if mark.hollow else ""
    # The unseen circle is what a pointer has to meet.
    return f'<circle class="reach" r="11"/><path{kind} d="{SYMBOLS[mark.symbol]}"/>'


def _legend(figure: Figure) -> str:
    entries = []
    for mark in figure.marks:
        if isinstance(mark, Points) and mark.name:
            line = '<path class="series" d="M-11,0H11"/>' if mark.joined else ""
            symbol = f'<svg class="key" viewBox="-12 -8 24 16" width="24" height="16">{line}{_symbol(mark)}</svg>'
            entries.append(f"<li {_color(mark.color_of(0))}>{symbol}<span>{_text(mark.name)}</span></li>")
    return f'<ul class="legend">{"".join(entries)}</ul>'


def _line(x1: str, y1: float, x2: str, y2: float, classes: str = "") -> str:
    kind = f' class="{classes}"' if classes else ""
    return f'<line{kind} x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}"/>'


def _color(color: str | int, classes: str = "") -> str:
    """The attributes that give a mark its colour: a role, or a hue."""
    extra = f" {classes}" if classes else ""
    return f'class="c-hue{extra}" style="--hue:{color}"' if isinstance(color, int) else f'class="c-{color}{extra}"'


def _title(hover: Sequence[str], index: int) -> str:
    return f"<title>{_text(hover[index])}</title>" if hover else ""


def _text(text: str) -> str:
    return html.escape(text, quote=True)


def _width(text: str) -> float:
    """About how wide a label is, in pixels."""
    return sum(_WIDE_LETTER if unicodedata.east_asian_width(letter) in "WF" else _LETTER for letter in text)

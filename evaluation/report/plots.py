"""What the report's figures are made of: plain Plotly JSON, without Plotly.

Colours are roles (`@model`, `@text` …) that the page resolves from its style sheet, so a figure follows light, dark
and print. Every text from the data is escaped: Plotly reads a few HTML tags in labels. Categories are placed by number
with tick labels, so that `1`, `2024-01-01` or two labels cut to the same letters stay what they are.
"""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from evaluation.report import format as fmt
from evaluation.results import Estimate

ROW_HEIGHT = 30


@dataclass(frozen=True)
class Figure:
    """One plot: `data` and `layout` as Plotly takes them, `alt` says in words what it shows."""

    id: str
    title: str
    alt: str
    data: list[dict[str, Any]]
    layout: dict[str, Any]
    height: int


def label(text: Any, width: int = 28) -> str:
    """A text from the data as a Plotly label: cut, then escaped."""
    return html.escape(fmt.shortened(str(text), width), quote=False)


def rows_axis(labels: list[str]) -> dict[str, Any]:
    """A y axis with one row for each label, the first on top."""
    size = len(labels)
    return {
        "tickvals": list(range(size)),
        "ticktext": labels,
        "range": [size - 0.5, -0.5],
        "zeroline": False,
        "showgrid": False,
        "automargin": True,
        "fixedrange": True,
        "type": "linear",
    }


def bar_trace(values: Sequence[float | None], texts: Sequence[str], marker: dict[str, Any]) -> dict[str, Any]:
    """Horizontal bars, one a row from the top, each with its text outside."""
    return {
        "type": "bar",
        "orientation": "h",
        "x": values,
        "y": list(range(len(values))),
        "text": [f"\u2002{text}" for text in texts],
        "textposition": "outside",
        "cliponaxis": False,
        "hoverinfo": "skip",
        "width": 0.62,
        "marker": marker,
    }


def bars(
    identifier: str,
    title: str,
    alt: str,
    labels: list[str],
    values: Sequence[float | None],
    texts: Sequence[str],
    color: str = "@model",
) -> Figure:
    """Horizontal bars with their exact figure beside them."""
    top = max([value for value in values if value is not None], default=0) or 1
    data = bar_trace(values, texts, {"color": color})
    # Room on the right for the longest text outside the longest bar.
    layout = {
        "xaxis": {"range": [0, top * 1.75], "showticklabels": False, "showgrid": False, "zeroline": False},
        "yaxis": rows_axis(labels),
        "margin": {"t": 4, "b": 4},
    }
    return Figure(identifier, title, alt, [data], layout, 16 + ROW_HEIGHT * len(values))


def dots(
    identifier: str,
    title: str,
    alt: str,
    labels: list[str],
    estimates: list[Estimate],
    colors: str | list[str],
    hover: list[str],
    xrange: list[float] | None = None,
    reference: float | None = None,
) -> Figure:
    """A dot and its interval a row; `reference` is a vertical line."""
    values = [estimate.value for estimate in estimates]
    data = {
        "type": "scatter",
        "mode": "markers",
        "x": values,
        "y": list(range(len(values))),
        "marker": {"size": 10, "color": colors},
        "hovertext": hover,
        "hoverinfo": "text",
        "error_x": {
            "type": "data",
            "symmetric": False,
            "array": [span(estimate.value, estimate.high) for estimate in estimates],
            "arrayminus": [span(estimate.low, estimate.value) for estimate in estimates],
            "color": "@text",
            "thickness": 1.6,
            "width": 4,
        },
    }
    if xrange is None:
        xrange = padded(
            [v for estimate in estimates for v in ends(estimate)] + [v for v in [reference] if v is not None]
        )
    layout: dict[str, Any] = {
        "xaxis": {"nticks": 5, "zeroline": False, "fixedrange": True, "range": xrange},
        "yaxis": rows_axis(labels),
        "margin": {"t": 4, "b": 30, "r": 22},
    }
    if reference is not None:
        line = {"color": "@muted", "dash": "dot", "width": 1.5}
        layout["shapes"] = [
            {"type": "line", "x0": reference, "x1": reference, "yref": "paper", "y0": 0, "y1": 1, "line": line}
        ]
    return Figure(identifier, title, alt, [data], layout, 44 + ROW_HEIGHT * len(labels))


def span(low: float | None, high: float | None) -> float:
    return 0.0 if low is None or high is None else max(high - low, 0.0)


def slug(text: str) -> str:
    """Letters for an id; a number from the text keeps two texts of the same letters apart."""
    kept = "".join(c if c.isascii() and c.isalnum() else "-" for c in text.lower())
    return kept if kept == text else f"{kept}-{sum(map(ord, text))}"


def defined(estimate: Estimate | None) -> bool:
    return estimate is not None and estimate.value is not None


def ends(estimate: Estimate) -> list[float]:
    return [v for v in (estimate.low, estimate.value, estimate.high) if v is not None]


def padded(values: list[float]) -> list[float]:
    """The range of the values with a margin on both sides."""
    pad = (max(values) - min(values)) * 0.06 or 0.01
    return [min(values) - pad, max(values) + pad]

"""Figures as SVG: where marks lie, in closed form; what is written; that text of the data stays text."""

import re
from xml.etree import ElementTree

import pytest

from evaluation.report.figures import all_figures
from evaluation.report.plots import Axis, Figure, Panel, Points, Rule, bars, dots, log_axis, numeric_axis
from evaluation.report.svg import SYMBOLS, draw
from evaluation.results import Estimate
from tests.builders.report_example import report_data


def drawn(figure):
    """The root of the figure's HTML, which is well-formed XML."""
    return ElementTree.fromstring(f"<figure>{draw(figure)}</figure>")


def points(figure):
    return [(mark.get("x"), float(mark.get("y"))) for mark in drawn(figure).iter("svg") if mark.get("class") == "at"]


def test_axes_place_values():
    assert Axis(2.0, 4.0).place(2.5) == 0.25
    assert Axis(10, 1000, log=True).place(100) == pytest.approx(0.5)
    axis = log_axis([50, 100, 101, 200], "n")
    assert [text for _, text in axis.ticks] == ["50", "100", "200"]  # 101 would be written over 100
    assert axis.place(50) > 0 and axis.place(200) < 1


@pytest.mark.parametrize(
    "values, ticks",
    [
        ([0.71, 0.75], ["0.71", "0.72", "0.73", "0.74", "0.75"]),
        ([0.3, 0.3], ["0.290", "0.295", "0.300", "0.305", "0.310"]),
        ([0.0, 30_000.0], ["0", "10,000", "20,000", "30,000"]),
        ([-0.1, 0.1], ["−0.10", "−0.05", "0.00", "0.05", "0.10"]),
    ],
)
def test_ticks_are_round_and_written_as_they_are(values, ticks):
    axis = numeric_axis(values)
    assert [text for _, text in axis.ticks] == ticks
    assert all(axis.low <= value <= axis.high for value, _ in axis.ticks)


def test_points_lie_where_their_values_are():
    figure = Figure("f", "t", "a", Axis(0, 10), (Panel(100, Axis(0, 1), (Points([2.5, None, 10], [0.25, 0.5, 1.0]),)),))
    assert points(figure) == [("25.000%", 81.0), ("100.000%", 6.0)]  # 6 pixels of room above


def test_intervals_run_from_their_low_to_their_high_end():
    found = drawn(
        dots("d", "t", "a", ["x"], [Estimate(value=0.5, low=0.25, high=1.0)], "model", ["hover"], ends=(0, 1))
    )
    (span,) = (line for line in found.iter("line") if line.get("class") == "span")
    assert (span.get("x1"), span.get("x2")) == ("25.000%", "100.000%") and span.get("y1") == span.get("y2")
    assert [title.text for title in found.iter("title")] == ["hover"]
    bare = drawn(dots("d", "t", "a", ["x"], [Estimate(value=0.5)], "model", ["hover"]))
    assert not [line for line in bare.iter("line") if line.get("class") == "span"]


def test_bars_are_as_long_as_their_values():
    found = drawn(bars("b", "t", "a", ["one", "two"], [10.0, 5.0], ["10", "5"], starts=[0, 5]))
    rows = [(float(r.get("x")[:-1]), float(r.get("width")[:-1])) for r in found.iter("rect")]
    assert rows[0][1] == pytest.approx(2 * rows[1][1], abs=0.01) and rows[1][0] == pytest.approx(rows[1][1], abs=0.01)
    labels = [text.text for text in found.iter("text") if text.get("class") == "tick"]
    assert labels == ["one", "two"] and [t.text for t in found.iter("text") if t.get("class") == "value"] == ["10", "5"]


def test_rules_and_legend_are_named():
    line = Points([0, 1], [0, 1], name="n₂ = 20", joined=True)
    panel = Panel(100, Axis(0, 1), (Rule(x=0.5, label="best"), Rule(y=0.25, label="gate"), line))
    found = draw(Figure("f", "t", "a", Axis(0, 1), (panel,), legend=True))
    for text in ("best", "gate", "n₂ = 20"):
        assert f">{text}<" in found
    assert found.count('class="c-model series"') == 1  # one segment between two points


def test_symbols_differ():
    assert len(set(SYMBOLS.values())) == len(SYMBOLS) == 10


def test_every_figure_of_a_report_is_well_formed_and_within_its_panel():
    for part in all_figures(report_data()).values():
        for figure in part:
            for element in drawn(figure).iter():
                for name in ("x", "x1", "x2", "cx"):
                    value = element.get(name, "0")
                    if value.endswith("%"):
                        assert -0.01 <= float(value[:-1]) <= 100.01, (figure.id, name, value)
            assert not re.search(r"\b(nan|inf|None)\b", draw(figure)), figure.id


def test_text_of_the_data_stays_text():
    hostile = "<script>alert('1')</script>\"&"
    figure = dots("d", "t", "a", [hostile], [Estimate(value=0.5)], "model", [hostile])
    found = drawn(figure)
    assert [text.text for text in found.iter("title")] == [hostile] and not list(found.iter("script"))

"""Figures of a replay: estimates side by side, the weights that they rest on, and what these are worth where."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from evaluation.replay.estimators.registry import make_estimator
from evaluation.replay.verdicts.replay_report import StratumReading, WeightHistogram
from evaluation.replay.verdicts.verdict import Outcome, PolicyComparison
from evaluation.report import format as fmt
from evaluation.report.plots import (
    ROW_HEIGHT,
    Axis,
    Bars,
    Figure,
    Panel,
    Points,
    Rule,
    bars,
    ends_of,
    label,
    numeric_axis,
    rows_axis,
    slug,
    span,
)
from evaluation.results import Estimate

COLORS: dict[Outcome, str] = {"better": "good", "worse": "bad", "cannot_tell": "warning", "withheld": "muted"}
"""The role of a verdict's mark; what is withheld is grey, and hollow."""

_UNITS = {"impression": "an impression", "request": "a request"}
_APART = 0.17

MOST_STRATA = 24
"""Of a kind that are drawn."""


def forests(comparisons: Sequence[PolicyComparison]) -> list[Figure]:
    """For each unit, both policies' values by estimator, and their differences, each with its interval."""
    figures = []
    for unit, of_what in _UNITS.items():
        shown = [each for each in comparisons if make_estimator(each.estimator).unit == unit]
        if shown:
            figures += [_values(shown, unit, of_what), _differences(shown, unit, of_what)]
    return figures


def _values(shown: Sequence[PolicyComparison], unit: str, of_what: str) -> Figure:
    names = shown[0].candidate, shown[0].baseline
    marks: list[Points] = []
    words: list[str] = []
    for name, color, symbol, shift in zip(names, ("model", "baseline"), ("circle", "square"), (-1, 1), strict=True):
        found = [each.candidate_value if name == each.candidate else each.baseline_value for each in shown]
        said = [f"{name} by {each.title}: {_said(value)}" for each, value in zip(shown, found, strict=True)]
        rows = [row + shift * _APART for row in range(len(shown))]
        marks += _split(shown, found, rows, said, [color] * len(shown), symbol, name)
        words += said
    known = [end for each in shown for value in (each.candidate_value, each.baseline_value) for end in ends_of(value)]
    title = f"Value of {of_what}"
    panel = Panel(int(1.3 * ROW_HEIGHT * len(shown)), _titles(shown), tuple(marks))
    x = numeric_axis(known or [0.0], count=4)
    return Figure(f"values-{unit}", title, f"{title}: " + "; ".join(words) + ".", x, (panel,), legend=True)


def _differences(shown: Sequence[PolicyComparison], unit: str, of_what: str) -> Figure:
    found = [each.difference for each in shown]
    words = [f"{each.title}: {_said(each.difference, True)}, {fmt.verdict(each.outcome)}" for each in shown]
    colors = [COLORS[each.outcome] for each in shown]
    rows = [float(row) for row in range(len(shown))]
    marks: list[Points | Bars | Rule] = [Rule(x=0.0), *_split(shown, found, rows, words, colors, "diamond", "")]
    title = f"Difference, {shown[0].candidate} less {shown[0].baseline}"
    known = [end for value in found for end in ends_of(value)]
    panel = Panel(int(1.3 * ROW_HEIGHT * len(shown)), _titles(shown), tuple(marks))
    alt = f"{title}, of {of_what}: " + "; ".join(words) + "."
    return Figure(f"differences-{unit}", title, alt, numeric_axis([0.0, *known], count=4), (panel,))


def _titles(shown: Sequence[PolicyComparison]) -> Axis:
    texts = []
    for each in shown:
        parameter = each.estimator.partition("@")[2]
        texts.append(f"{each.title} {parameter}".strip())
    return rows_axis([label(text) for text in texts])


def _split(
    shown: Sequence[PolicyComparison],
    found: Sequence[Estimate],
    rows: Sequence[float],
    words: Sequence[str],
    colors: Sequence[str],
    symbol: str,
    name: str,
) -> list[Points]:
    """One series of what is judged, and a grey, hollow one of what is withheld."""
    series = []
    for withheld in (False, True):
        chosen = [i for i, each in enumerate(shown) if (each.outcome == "withheld") is withheld]
        if not chosen:
            continue
        series.append(
            Points(
                [found[i].value for i in chosen],
                [rows[i] for i in chosen],
                [words[i] for i in chosen],
                "muted" if withheld else [colors[i] for i in chosen],
                symbol,
                hollow=withheld,
                name=f"{name}, withheld" if name and withheld else name,
                spans=[span(found[i]) for i in chosen],
            )
        )
    return series


def _said(estimate: Estimate, is_difference: bool = False) -> str:
    value = fmt.signed(estimate.value) if is_difference else fmt.metric(estimate.value)
    return f"{value} {fmt.interval(estimate)}".strip()


def histogram(found: WeightHistogram) -> Figure:
    """Users by their largest weight, on a logarithmic axis; 1 is what the policy and the logger show alike."""
    # A logarithmic axis has no 0: the first bin begins an octave below its end.
    edges = (found.edges[1] / 2, *found.edges[1:])
    filled = [i for i, users in enumerate(found.users) if users]
    middle = max(i for i, edge in enumerate(edges) if edge <= 1)
    first, last = min([*filled, middle - 1]), max([*filled, middle])
    bins = list(zip(edges[first : last + 1], edges[first + 1 : last + 2], strict=True))
    users = found.users[first : last + 1]
    words = [
        f"{_weight(low)} to {_weight(high)}: {fmt.count(count)} users"
        for (low, high), count in zip(bins, users, strict=True)
    ]
    most = max(users) or 1
    powers = [low for low, _ in bins] + [bins[-1][1]]
    ticks = tuple((power, _weight(power)) for power in powers)[:: 1 + len(powers) // 9]
    x = Axis(bins[0][0], bins[-1][1], ticks, "largest weight of a user", log=True, grid=False)
    y = numeric_axis([most], title="users", count=3, ends=(0, most * 1.08), write=lambda value: fmt.count(int(value)))
    marks = (Bars(bins, [(0, count) for count in users], "fill", hover=words), Rule(x=1.0))
    shown = "; ".join(each for each, count in zip(words, users, strict=True) if count)
    title = f"Weights of {found.policy}"
    return Figure(f"weights-{slug(found.policy)}", title, f"{title}: {shown}.", x, (Panel(170, y, marks),))


def _weight(value: float) -> str:
    return fmt.limit(value) if value >= 1 else f"1/{1 / value:,.0f}"


def effective(strata: Sequence[StratumReading]) -> list[Figure]:
    """For each policy and kind of stratum, how many rows of equal weight its rows are worth."""
    kinds: dict[tuple[str, str], list[StratumReading]] = {}
    for each in strata:
        kinds.setdefault((each.policy, each.kind), []).append(each)
    return [_effective(policy, kind, _largest(parts)) for (policy, kind), parts in kinds.items()]


def _largest(parts: Sequence[StratumReading]) -> list[StratumReading]:
    """The strata with the most rows, in their order."""
    rows = sorted((each.rows for each in parts), reverse=True)[:MOST_STRATA]
    return [each for each in parts if each.rows >= rows[-1]][:MOST_STRATA]


def _effective(policy: str, kind: str, parts: Sequence[StratumReading]) -> Figure:
    worth = [each.effective_rows or 0.0 for each in parts]
    texts = [f"{fmt.count(round(value))} of {fmt.count(each.rows)}" for value, each in zip(worth, parts, strict=True)]
    names = [_named(kind, each.stratum) for each in parts]
    words = [
        f"{name}: worth {text} rows, mean weight {fmt.metric(each.mean_weight)}"
        for name, each, text in zip(names, parts, texts, strict=True)
    ]
    title = f"Effective rows of {policy} by {kind}"
    labels = [label(name, 20) for name in names]
    return bars(
        f"effective-{slug(policy)}-{slug(kind)}", title, f"{title}: " + "; ".join(words) + ".", labels, worth, texts
    )


def _named(kind: str, stratum: str) -> str:
    if kind == "day" and stratum.lstrip("-").isdigit():  # counted from 1970
        return str(np.datetime64(int(stratum), "D"))
    return f"slot {stratum}" if kind == "slot" else stratum


def mean_weights(strata: Sequence[StratumReading]) -> Figure | None:
    """The mean weight by slot of each policy: 1 in each slot, where propensities are right and cover the policy."""
    slots = [each for each in strata if each.kind == "slot"]
    numbers = sorted({int(each.stratum) for each in slots})
    if len(numbers) < 2:
        return None
    marks: list[Points | Rule] = [Rule(y=1.0)]
    known, words = [1.0], list[str]()
    for number, policy in enumerate(dict.fromkeys(each.policy for each in slots)):
        symbol, color = (("circle", "model"), ("square", "baseline"))[number % 2]
        parts = sorted((each for each in slots if each.policy == policy), key=lambda each: int(each.stratum))
        said = [f"{policy}, slot {each.stratum}: {fmt.metric(each.mean_weight)}" for each in parts]
        places, means = [int(each.stratum) for each in parts], [each.mean_weight for each in parts]
        marks.append(Points(places, means, said, color, symbol, name=policy, joined=True))
        known, words = known + means, words + said
    ticks = tuple((float(slot), str(slot)) for slot in numbers[:: 1 + len(numbers) // 12])
    x = Axis(numbers[0] - 0.5, numbers[-1] + 0.5, ticks, "slot")
    panel = Panel(170, numeric_axis(known, count=4), tuple(marks))
    alt = "Mean weight by slot: " + "; ".join(words) + "."
    return Figure("mean-weight-slots", "Mean weight by slot", alt, x, (panel,), legend=True)

"""Figures of a replay: estimates side by side, the weights that they rest on, and what these are worth where."""

from __future__ import annotations

from collections.abc import Sequence

from evaluation.replay.diagnostics.registry import DIAGNOSTICS
from evaluation.replay.diagnostics.weight_summary import EDGES, SliceWeights, WeightHistogram, WeightSummary
from evaluation.replay.estimators.registry import make_estimator
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
        if not chosen and withheld:
            continue
        series.append(
            Points(
                [found[i].value for i in chosen],
                [rows[i] for i in chosen],
                [words[i] for i in chosen],
                "muted" if withheld else [colors[i] for i in chosen] or (colors[0] if name else "model"),
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
    """Rows by weight, on a logarithmic axis; a weight of 1 is what both policies show alike."""
    filled = [i for i, rows in enumerate(found.rows) if rows]
    first, last = min([*filled, EDGES.index(0.5)]), max([*filled, EDGES.index(2.0) - 1])
    edges = list(zip(EDGES[first : last + 1], EDGES[first + 1 : last + 2], strict=True))
    rows = found.rows[first : last + 1]
    words = [
        f"weight {fmt.limit(low)} to {fmt.limit(high)}: {fmt.count(count)} rows"
        for (low, high), count in zip(edges, rows, strict=True)
    ]
    most = max(rows) or 1
    powers = [2.0**power for power in range(-6, 13) if edges[0][0] <= 2.0**power <= edges[-1][1]]
    ticks = tuple((power, fmt.limit(power) if power >= 1 else f"1/{1 / power:.0f}") for power in powers)
    x = Axis(edges[0][0], edges[-1][1], ticks[:: 1 + len(ticks) // 9], "weight", log=True, grid=False)
    y = numeric_axis([most], title="rows", count=3, ends=(0, most * 1.08), write=lambda value: fmt.count(int(value)))
    marks = (Bars(edges, [(0, count) for count in rows], "fill", hover=words), Rule(x=1.0))
    shown = ", ".join(each for each, count in zip(words, rows, strict=True) if count)
    alt = f"Weights of {found.policy}: {fmt.count(found.zeros)} rows of weight 0; {shown}."
    return Figure(f"weights-{slug(found.policy)}", f"Weights of {found.policy}", alt, x, (Panel(170, y, marks),))


def effective(summary: WeightSummary, policy: str) -> list[Figure]:
    """Effective users by slot and by the values of each feature; grey what is below the bound of a verdict."""
    kinds: dict[str, list[SliceWeights]] = {}
    for each in (*summary.slots, *summary.slices):
        if each.policy == policy:
            kinds.setdefault(each.feature, []).append(each)
    return [_effective(policy, feature, parts) for feature, parts in kinds.items()]


def _effective(policy: str, feature: str, parts: Sequence[SliceWeights]) -> Figure:
    bound = DIAGNOSTICS["effective_sample"].bound
    words = [
        f"{each.value}: worth {fmt.count(round(each.effective))} of {fmt.count(each.users)} users, "
        f"{fmt.count(each.rows)} rows, mean weight {fmt.metric(each.mean_weight)}"
        for each in parts
    ]
    return bars(
        f"effective-{slug(policy)}-{slug(feature)}",
        f"Effective users of {policy} by {feature}",
        f"Effective users of {policy} by {feature}: " + "; ".join(words) + ".",
        [label(f"slot {each.value}" if feature == "slot" else each.value, 20) for each in parts],
        [each.effective for each in parts],
        [f"{fmt.count(round(each.effective))} of {fmt.count(each.users)}" for each in parts],
        ["model" if each.effective >= bound else "baseline" for each in parts],
    )


def mean_weights(summary: WeightSummary) -> Figure | None:
    """The mean weight by slot of each policy: 1 in each slot, where propensities are right."""
    policies = list(dict.fromkeys(each.policy for each in summary.slots))
    slots = sorted({int(each.value) for each in summary.slots})
    if len(slots) < 2:
        return None
    marks: list[Points | Rule] = [Rule(y=1.0)]
    known, words = [1.0], list[str]()
    for number, policy in enumerate(policies):
        symbol, color = (("circle", "model"), ("square", "baseline"), ("diamond", "oracle"))[number % 3]
        parts = sorted((each for each in summary.slots if each.policy == policy), key=lambda each: int(each.value))
        said = [f"{policy}, slot {each.value}: {fmt.metric(each.mean_weight)}" for each in parts]
        means = [each.mean_weight for each in parts]
        marks.append(Points([int(each.value) for each in parts], means, said, color, symbol, name=policy, joined=True))
        known, words = known + means, words + said
    x = Axis(slots[0] - 0.5, slots[-1] + 0.5, tuple((float(s), str(s)) for s in slots[:: 1 + len(slots) // 12]), "slot")
    panel = Panel(170, numeric_axis(known, count=4), tuple(marks))
    alt = "Mean weight by slot: " + "; ".join(words) + "."
    return Figure("mean-weight-slots", "Mean weight by slot", alt, x, (panel,), legend=True)

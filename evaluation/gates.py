"""The conditions a model must meet to be blessed.

A first model has no other beside it: only the absolute gates judge it. Gates that compare give one of four verdicts, by
the interval of the paired difference and a margin (`compare`); the gates over slices fail only on proof that much is
lost, because with dozens of slices some look bad by chance.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from evaluation.config import ComparingGates, GateConfig
from evaluation.results import (
    ComparisonVerdict,
    Counts,
    Estimate,
    GateResult,
    LiveComparison,
    MetricSet,
    SliceDifference,
    SliceResult,
    combine,
)
from features.config import Strict

_WORDS: Mapping[ComparisonVerdict, str] = {
    "better": "it is shown to be better",
    "no_worse": "a loss beyond the margin is ruled out",
    "cannot_tell": "the rows cannot tell",
    "worse": "a loss beyond the margin is shown",
}


def compare(difference: Estimate, margin: float, lower_is_better: bool = False) -> ComparisonVerdict:
    """The verdict on a model beside another, by the paired difference of a metric, model less other.

    - `better`: the whole interval is a gain.
    - `no_worse`: the whole interval lies above a loss of the margin; a loss within the margin may be shown.
    - `worse`: the whole interval lies below it.
    - `cannot_tell`: all else, and where there is no interval.

    Args:
      difference: with its interval.
      margin: the loss that is tolerated, not negative.
      lower_is_better: whether a positive difference is a loss.
    """
    if difference.low is None or difference.high is None:
        return "cannot_tell"
    low, high = (-difference.high, -difference.low) if lower_is_better else (difference.low, difference.high)
    if low > 0:
        return "better"
    if high < -margin:
        return "worse"
    # Equal scores have a difference of 0 with an interval of no width, which a margin of 0 does not refuse.
    return "no_worse" if low > -margin or low == high == 0 else "cannot_tell"


def loses_too_much(difference: Estimate, margin: float, lower_is_better: bool = False) -> bool:
    """Whether a loss is shown whose most likely size is beyond the margin: what the anchor does not let pass.

    Where the rows cannot tell, models pass, and each may lose a little. This stops them on what a single evaluation
    knows. An equal model has so low a value in 2.5% of cases at most, whatever the number of rows. One that loses twice
    the margin m is stopped in 95% as soon as the interval's half-width is below 1.09 m, for then it lies 1.645 standard
    errors beyond both ends. No rule errs less either way on these rows (Neyman and Pearson): a threshold of m lies in
    the middle of 0 and 2 m.

    Args:
      difference: with its interval.
      margin: m.
      lower_is_better: whether a positive difference is a loss.
    """
    if difference.value is None or difference.low is None or difference.high is None:
        return False
    value, high = (-difference.value, -difference.low) if lower_is_better else (difference.value, difference.high)
    return high < 0 and value < -margin


def rows_needed(difference: Estimate, margin: float, rows: int) -> int | None:
    """About how many rows would tell a model that is equal from one that loses twice the margin.

    They make the half-width h of the interval half the margin m. An equal model is then shown to be no worse unless its
    value is below −m + h = −h, and a loss of 2 m is shown to be worse unless its value is above −m − h = −2 m + h: with
    intervals of 95%, both happen in 2.5% of cases. h falls with the square root of the rows.

    Args:
      difference: with its interval.
      margin: m.
      rows: that the difference rests on, of as many users a row as those to come.

    Returns:
      The rows, to three digits; None where that many are there already (the loss is then near the margin itself), where
      there is no interval, or where the margin is 0, which no number of rows can tell from no loss.
    """
    if difference.low is None or difference.high is None or margin <= 0:
        return None
    needed = rows * ((difference.high - difference.low) / margin) ** 2
    if needed <= rows:
        return None
    step = 10 ** max(0, int(np.log10(needed)) - 2)
    return int(np.ceil(needed / step) * step)


def comparison_gate(
    config: ComparingGates,
    field: str,
    name: str,
    difference: Estimate,
    rows: int,
    found: str,
    lower_is_better: bool = False,
    guards: bool = False,
) -> GateResult:
    """Judges the paired difference of a metric; one that does not exist fails.

    Args:
      config: the thresholds; its `cannot_tell` decides where the rows do not.
      field: the margin's, whose description says why the gate exists.
      name: the gate's.
      difference: model less other.
      rows: that both scored.
      found: what the difference is of, as the beginning of a sentence.
      lower_is_better: whether a positive difference is a loss.
      guards: whether the other is the anchor, which does not let pass what `loses_too_much`.
    """
    margin = getattr(config, field)
    verdict = compare(difference, margin, lower_is_better)
    words = f"{found} is {estimate_text(difference)}: {_WORDS[verdict]}."
    passes, needed = verdict in ("better", "no_worse"), None
    if verdict == "cannot_tell" and difference.value is not None:
        needed = rows_needed(difference, margin, rows)
        stopped = guards and loses_too_much(difference, margin, lower_is_better)
        passes = config.cannot_tell == "push" and not stopped
        if needed is not None:
            words += f" About {needed:,} rows would tell an equal model from one that loses twice the margin."
        if stopped:
            words += " A loss is shown whose most likely size is beyond the margin: the anchor does not let it pass."
        else:
            words += " `cannot_tell: push` lets it pass." if passes else " `cannot_tell: hold` holds it back."
    return GateResult(
        name=name,
        value=difference.value,
        minimum=None if lower_is_better else -margin,
        maximum=margin if lower_is_better else None,
        passed=passes,
        reason=f"{_why(config, field)} Found: {words}",
        verdict=verdict,
        rows_needed=needed,
    )


def judge(
    config: GateConfig,
    counts: Counts,
    model: MetricSet,
    slices: Iterable[SliceResult],
    live: LiveComparison | None = None,
    anchor: LiveComparison | None = None,
    lead: tuple[str, Estimate] | None = None,
) -> tuple[GateResult, ...]:
    """Puts every gate to the test. A number that does not exist fails its gate, but for single slices.

    Args:
      config: thresholds.
      counts: of the evaluated rows.
      model: metrics of the model, among them `auc` and `pcoc`.
      slices: metrics of the model by slice; those that are `unjudged` are not judged.
      live: the comparison with the live model; None for a first model.
      anchor: the comparison with the anchor; None where that is the live model, or there is none.
      lead: name of the baseline that ranks best, and the model's AUC less its; None: there is no baseline.
    """
    gates = []
    auc, pcoc = model.metrics["auc"], model.metrics["pcoc"]

    def add(field: str, value: float | None, minimum: float | None, maximum: float | None, found: str) -> None:
        gates.append(make_gate(config, field, field, value, minimum, maximum, found))

    if config.min_rows is not None:
        add("min_rows", counts.rows, config.min_rows, None, f"{counts.rows} rows.")
    if config.min_positives is not None:
        add("min_positives", counts.positives, config.min_positives, None, f"{counts.positives} positives.")
    if config.min_auc is not None:
        add("min_auc", _low(auc), config.min_auc, None, f"AUC is {estimate_text(auc)}.")
    if config.max_baseline_auc_loss is not None and lead is not None:
        found = f"AUC of the model less that of {lead[0]}, the baseline that ranks best,"
        gates.append(comparison_gate(config, "max_baseline_auc_loss", "baseline_auc", lead[1], counts.rows, found))
    if config.pcoc is not None:
        found = f"PCOC is {estimate_text(pcoc)}, judged by the interval's end nearest to 1."
        add("pcoc", _nearest_to_one(pcoc), *config.pcoc, found)
    for name, limits in config.limits.items():
        metric = model.metrics[name]
        gates.append(make_gate(config, "limits", name, metric.value, *limits, f"{name} is {estimate_text(metric)}."))
    judged = [part for part in slices if not part.unjudged]
    gates += _slice_gates(config, judged)
    if live is not None and not live.unscored:
        # Where no other is on record, or none was scored, the live model is the anchor.
        guards = anchor is None or not anchor.metrics
        gates += _comparison_gates(config, counts, live, "live", "the live one", guards)
        gates += _live_slice_gates(config, {(part.feature, part.value) for part in judged}, live)
    if anchor is not None and not anchor.unscored:
        gates += _comparison_gates(config, counts, anchor, "anchor", "the anchor", guards=True)
    return tuple(gates)


def why_unjudged(config: GateConfig, feature: str, positives: int, negatives: int, users: float) -> str:
    """Why no gate judges a slice, as a sentence; '' where they do.

    Args:
      config: thresholds.
      feature: of the slice.
      positives: rows of the slice with label 1.
      negatives: rows with label 0.
      users: how many users of equally many rows say as much (`evaluation.intervals.effective_users`).
    """
    if config.slice_features is not None and feature not in config.slice_features:
        return "`gates.slice_features` does not name its feature."
    if users < config.min_slice_users:
        needed = f"`gates.min_slice_users` is {config.min_slice_users:g}"
        return f"Its rows say as much as those of {users:.1f} users; {needed}."
    rarer, name = min((positives, "positives"), (negatives, "negatives"))
    if rarer < config.min_slice_positives:
        return f"It has {rarer} {name}; `gates.min_slice_positives` is {config.min_slice_positives}."
    return ""


def _comparison_gates(
    config: GateConfig, counts: Counts, beside: LiveComparison, prefix: str, other: str, guards: bool
) -> list[GateResult]:
    """The gates over all rows that both models scored."""
    gates = []
    if config.min_live_share is not None:
        share, found = beside.rows / counts.rows, f"{beside.rows} of {counts.rows} rows were scored by {other} too."
        gates.append(make_gate(config, "min_live_share", f"{prefix}_rows", share, config.min_live_share, None, found))
    for field, metric, title in (("max_auc_loss", "auc", "AUC"), ("max_log_loss_increase", "log_loss", "log loss")):
        is_measured = metric in beside.metrics or metric == "auc"
        if getattr(config, field) is not None and is_measured:
            difference = beside.metrics[metric].difference if metric in beside.metrics else Estimate()
            found = f"{title} of the model less that of {other}"
            name, lower = f"{prefix}_{metric}", metric == "log_loss"
            gates.append(comparison_gate(config, field, name, difference, beside.rows, found, lower, guards))
    return gates


def _live_slice_gates(config: GateConfig, judged: set[tuple[str, str]], live: LiveComparison) -> list[GateResult]:
    if config.max_slice_auc_loss is None:
        return []
    ends = [
        (part, _high(part.metrics["auc"].difference), part.metrics["auc"].difference)
        for part in live.slices
        if (part.feature, part.value) in judged
    ]
    limit = -config.max_slice_auc_loss
    found = "AUC difference to live"
    gates = _worst_by_feature(config, "max_slice_auc_loss", "live_slice_auc", ends, limit, None, found)
    verdicts: dict[str, list[ComparisonVerdict]] = {}
    for part, high, difference in ends:
        if high is not None and difference.low is not None:
            verdict: ComparisonVerdict = "no_worse" if difference.low > limit else "cannot_tell"
            verdicts.setdefault(part.feature, []).append("worse" if high < limit else verdict)
    return [gate.model_copy(update={"verdict": combine(verdicts[gate.name.partition(":")[2]])}) for gate in gates]


def _slice_gates(config: GateConfig, slices: list[SliceResult]) -> list[GateResult]:
    gates = []
    if config.min_slice_auc is not None:
        judged = [(s, _high(s.metrics["auc"]), s.metrics["auc"]) for s in slices]
        gates += _worst_by_feature(config, "min_slice_auc", "slice_auc", judged, config.min_slice_auc, None, "AUC")
    if config.slice_pcoc is not None:
        judged = [(s, _nearest_to_one(s.metrics["pcoc"]), s.metrics["pcoc"]) for s in slices]
        gates += _worst_by_feature(config, "slice_pcoc", "slice_pcoc", judged, *config.slice_pcoc, "PCOC")
    return gates


def _worst_by_feature(
    config: GateConfig,
    field: str,
    name: str,
    judged: Sequence[tuple[SliceResult | SliceDifference, float | None, Estimate]],
    minimum: float | None,
    maximum: float | None,
    what: str,
) -> list[GateResult]:
    """One gate a feature: that of the slice which is furthest beyond, or nearest to, a limit."""
    by_feature: dict[str, list[tuple[SliceResult | SliceDifference, float, Estimate]]] = {}
    for part, value, found in judged:
        if value is not None and found.low is not None:  # the bare value of few users says nothing of the model
            by_feature.setdefault(part.feature, []).append((part, value, found))
    gates = []
    for feature, parts in by_feature.items():
        worst, value, found = min(parts, key=lambda part: _room(part[1], minimum, maximum))
        failed = sum(_room(value, minimum, maximum) < 0 for _, value, _ in parts)
        text = (
            f"{failed} of {len(parts)} slices beyond the limit; worst: `{worst.value}` ({worst.rows} rows), {what} "
            f"{estimate_text(found)}, judged by the interval's end nearest to passing."
        )
        gates.append(make_gate(config, field, f"{name}:{feature}", value, minimum, maximum, text))
    return gates


def make_gate(
    config: Strict,
    field: str,
    name: str,
    value: float | None,
    minimum: float | None,
    maximum: float | None,
    found: str,
) -> GateResult:
    """Puts a number to the test; one that does not exist fails.

    Args:
      config: the thresholds.
      field: the threshold's, whose description says why the gate exists.
      name: the gate's.
      value: what is judged.
      minimum: the smallest value that passes, if there is one.
      maximum: the largest.
      found: what was found, in a sentence.
    """
    passed = value is not None and _room(value, minimum, maximum) >= 0
    reason = f"{_why(config, field)} Found: {found}"
    return GateResult(name=name, value=value, minimum=minimum, maximum=maximum, passed=passed, reason=reason)


def _why(config: Strict, field: str) -> str:
    return str(type(config).model_fields[field].description)


def _room(value: float, minimum: float | None, maximum: float | None) -> float:
    """Distance to the nearer limit; negative beyond it."""
    room = float("inf")
    if minimum is not None:
        room = min(room, value - minimum)
    return min(room, maximum - value) if maximum is not None else room


def _low(estimate: Estimate) -> float | None:
    return estimate.value if estimate.low is None else estimate.low


def _high(estimate: Estimate) -> float | None:
    return estimate.value if estimate.high is None else estimate.high


def _nearest_to_one(estimate: Estimate) -> float | None:
    if estimate.value is None or estimate.low is None or estimate.high is None:
        return estimate.value
    return min(max(1.0, estimate.low), estimate.high)


def estimate_text(estimate: Estimate) -> str:
    """A value with its interval, for messages."""
    if estimate.value is None:
        return "undefined"
    interval = "" if estimate.low is None else f" [{estimate.low:.4f}, {estimate.high:.4f}]"
    return f"{estimate.value:.4f}{interval}"

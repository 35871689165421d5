"""The conditions a model must meet to be blessed.

A first model has no live one beside it: only the absolute gates judge it. The gate over all rows asks for proof that
little is lost (`max_auc_loss`); the gates over slices fail only on proof that much is, because with dozens of slices
some look bad by chance.
"""

from __future__ import annotations

from collections.abc import Iterable

from evaluation.config import GateConfig
from evaluation.results import Counts, Estimate, GateResult, LiveComparison, MetricSet, SliceDifference, SliceResult


def judge(
    config: GateConfig,
    counts: Counts,
    model: MetricSet,
    slices: Iterable[SliceResult],
    live: LiveComparison | None,
) -> tuple[GateResult, ...]:
    """Puts every gate to the test. A number that does not exist fails its gate, but for single slices.

    Args:
      config: thresholds.
      counts: of the evaluated rows.
      model: metrics of the model, among them `auc` and `pcoc`.
      slices: metrics of the model by slice.
      live: the comparison with the live model; None for a first model.
    """
    gates = []
    auc, pcoc = model.metrics["auc"], model.metrics["pcoc"]
    if config.min_rows is not None:
        found = f"{counts.rows} rows."
        gates.append(make_gate("min_rows", counts.rows, config.min_rows, None, config.why("min_rows"), found))
    if config.min_positives is not None:
        found = f"{counts.positives} positives."
        why = config.why("min_positives")
        gates.append(make_gate("min_positives", counts.positives, config.min_positives, None, why, found))
    if config.min_auc is not None:
        found = f"AUC is {_text(auc)}."
        gates.append(make_gate("min_auc", _low(auc), config.min_auc, None, config.why("min_auc"), found))
    if config.pcoc is not None:
        gates.append(make_gate("pcoc", pcoc.value, *config.pcoc, config.why("pcoc"), f"PCOC is {_text(pcoc)}."))
    judged = [s for s in slices if config.slice_features is None or s.feature in config.slice_features]
    gates += _slice_gates(config, judged)
    if live is not None:
        gates += _live_gates(config, counts, live)
    return tuple(gates)


def _live_gates(config: GateConfig, counts: Counts, live: LiveComparison) -> list[GateResult]:
    gates = []
    if config.min_live_share is not None:
        found = f"{live.rows} of {counts.rows} rows were scored by both."
        why = config.why("min_live_share")
        gates.append(make_gate("live_rows", live.rows / counts.rows, config.min_live_share, None, why, found))
    if config.max_auc_loss is not None:
        difference = live.metrics["auc"].difference if "auc" in live.metrics else Estimate()
        value = _low(difference) if config.auc_loss_rule == "ruled_out" else _high(difference)
        end = "lower" if config.auc_loss_rule == "ruled_out" else "upper"
        found = f"AUC of the model less that of the live one is {_text(difference)}; the {end} end is judged."
        gates.append(make_gate("live_auc", value, -config.max_auc_loss, None, config.why("max_auc_loss"), found))
    if config.max_log_loss_increase is not None and "log_loss" in live.metrics:
        difference = live.metrics["log_loss"].difference
        found = f"log loss of the model less that of the live one is {_text(difference)}; the lower end is judged."
        why = config.why("max_log_loss_increase")
        gates.append(make_gate("live_log_loss", _low(difference), None, config.max_log_loss_increase, why, found))
    if config.max_slice_auc_loss is not None:
        judged = [s for s in live.slices if config.slice_features is None or s.feature in config.slice_features]
        gates += _worst_by_feature(
            "live_slice_auc",
            [(s, _high(s.metrics["auc"].difference), s.metrics["auc"].difference) for s in judged],
            -config.max_slice_auc_loss,
            None,
            config.why("max_slice_auc_loss"),
            "AUC difference to live",
        )
    return gates


def _slice_gates(config: GateConfig, slices: list[SliceResult]) -> list[GateResult]:
    gates = []
    if config.min_slice_auc is not None:
        judged = [(s, _high(s.metrics["auc"]), s.metrics["auc"]) for s in slices]
        why = config.why("min_slice_auc")
        gates += _worst_by_feature("slice_auc", judged, config.min_slice_auc, None, why, "AUC")
    if config.slice_pcoc is not None:
        judged = [(s, _nearest_to_one(s.metrics["pcoc"]), s.metrics["pcoc"]) for s in slices]
        gates += _worst_by_feature("slice_pcoc", judged, *config.slice_pcoc, config.why("slice_pcoc"), "PCOC")
    return gates


def _worst_by_feature(
    name: str,
    judged: list[tuple[SliceResult | SliceDifference, float | None, Estimate]],
    minimum: float | None,
    maximum: float | None,
    why: str,
    what: str,
) -> list[GateResult]:
    """One gate a feature: that of the slice which is furthest beyond, or nearest to, a limit."""
    by_feature: dict[str, list] = {}
    for part, value, found in judged:
        if value is not None:  # a slice of one label has no AUC; that is no fault of the model
            by_feature.setdefault(part.feature, []).append((part, value, found))
    gates = []
    for feature, parts in by_feature.items():
        worst, value, found = min(parts, key=lambda part: _room(part[1], minimum, maximum))
        failed = sum(_room(value, minimum, maximum) < 0 for _, value, _ in parts)
        text = (
            f"{failed} of {len(parts)} slices beyond the limit; worst: `{worst.value}` ({worst.rows} rows), {what} "
            f"{_text(found)}, judged by the interval's end nearest to passing."
        )
        gates.append(make_gate(f"{name}:{feature}", value, minimum, maximum, why, text))
    return gates


def make_gate(name, value, minimum, maximum, why: str, found: str) -> GateResult:
    """Puts a number to the test; one that does not exist fails. `why` and `found` are sentences."""
    passed = value is not None and _room(value, minimum, maximum) >= 0
    value = None if value is None else float(value)
    return GateResult(
        name=name, value=value, minimum=minimum, maximum=maximum, passed=passed, reason=f"{why} Found: {found}"
    )


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
    if estimate.value is None or estimate.low is None:
        return estimate.value
    return min(max(1.0, estimate.low), estimate.high)


def _text(estimate: Estimate) -> str:
    if estimate.value is None:
        return "undefined"
    interval = "" if estimate.low is None else f" [{estimate.low:.4f}, {estimate.high:.4f}]"
    return f"{estimate.value:.4f}{interval}"

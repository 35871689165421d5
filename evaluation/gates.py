"""The conditions a model must meet to be blessed.

A first model has no live one beside it: only the absolute gates judge it. The gate over all rows asks for proof that
little is lost (`max_auc_loss`); the gates over slices fail only on proof that much is, because with dozens of slices
some look bad by chance.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from evaluation.config import GateConfig
from evaluation.results import Counts, Estimate, GateResult, LiveComparison, MetricSet, SliceDifference, SliceResult
from features.config import Strict


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

    def add(field: str, value: float | None, minimum: float | None, maximum: float | None, found: str) -> None:
        gates.append(make_gate(config, field, field, value, minimum, maximum, found))

    if config.min_rows is not None:
        add("min_rows", counts.rows, config.min_rows, None, f"{counts.rows} rows.")
    if config.min_positives is not None:
        add("min_positives", counts.positives, config.min_positives, None, f"{counts.positives} positives.")
    if config.min_auc is not None:
        add("min_auc", _low(auc), config.min_auc, None, f"AUC is {_text(auc)}.")
    if config.pcoc is not None:
        add("pcoc", pcoc.value, *config.pcoc, f"PCOC is {_text(pcoc)}.")
    for name, limits in config.limits.items():
        metric = model.metrics[name]
        gates.append(make_gate(config, "limits", name, metric.value, *limits, f"{name} is {_text(metric)}."))
    gates += _slice_gates(config, [s for s in slices if _is_judged(config, s)])
    if live is not None:
        gates += _live_gates(config, counts, live)
    return tuple(gates)


def _live_gates(config: GateConfig, counts: Counts, live: LiveComparison) -> list[GateResult]:
    gates = []
    if config.min_live_share is not None:
        share, found = live.rows / counts.rows, f"{live.rows} of {counts.rows} rows were scored by both."
        gates.append(make_gate(config, "min_live_share", "live_rows", share, config.min_live_share, None, found))
    if config.max_auc_loss is not None:
        difference = live.metrics["auc"].difference if "auc" in live.metrics else Estimate()
        value = _low(difference) if config.auc_loss_rule == "ruled_out" else _high(difference)
        end = "lower" if config.auc_loss_rule == "ruled_out" else "upper"
        found = f"AUC of the model less that of the live one is {_text(difference)}; the {end} end is judged."
        gates.append(make_gate(config, "max_auc_loss", "live_auc", value, -config.max_auc_loss, None, found))
    if config.max_log_loss_increase is not None and "log_loss" in live.metrics:
        difference, limit = live.metrics["log_loss"].difference, config.max_log_loss_increase
        found = f"log loss of the model less that of the live one is {_text(difference)}; the lower end is judged."
        gates.append(make_gate(config, "max_log_loss_increase", "live_log_loss", _low(difference), None, limit, found))
    if config.max_slice_auc_loss is not None:
        judged = [(s, s.metrics["auc"].difference) for s in live.slices if _is_judged(config, s)]
        ends = [(s, _high(found), found) for s, found in judged]
        limits = (-config.max_slice_auc_loss, None)
        gates += _worst_by_feature(
            config, "max_slice_auc_loss", "live_slice_auc", ends, *limits, "AUC difference to live"
        )
    return gates


def _slice_gates(config: GateConfig, slices: list[SliceResult]) -> list[GateResult]:
    gates = []
    if config.min_slice_auc is not None:
        judged = [(s, _high(s.metrics["auc"]), s.metrics["auc"]) for s in slices]
        gates += _worst_by_feature(config, "min_slice_auc", "slice_auc", judged, config.min_slice_auc, None, "AUC")
    if config.slice_pcoc is not None:
        judged = [(s, _nearest_to_one(s.metrics["pcoc"]), s.metrics["pcoc"]) for s in slices]
        gates += _worst_by_feature(config, "slice_pcoc", "slice_pcoc", judged, *config.slice_pcoc, "PCOC")
    return gates


def _is_judged(config: GateConfig, part: SliceResult | SliceDifference) -> bool:
    return config.slice_features is None or part.feature in config.slice_features


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
    reason = f"{type(config).model_fields[field].description} Found: {found}"
    return GateResult(name=name, value=value, minimum=minimum, maximum=maximum, passed=passed, reason=reason)


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


def _text(estimate: Estimate) -> str:
    if estimate.value is None:
        return "undefined"
    interval = "" if estimate.low is None else f" [{estimate.low:.4f}, {estimate.high:.4f}]"
    return f"{estimate.value:.4f}{interval}"

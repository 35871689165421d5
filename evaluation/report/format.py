"""How the run report writes numbers, names and sizes: one place, so that figures and tables read alike."""

from __future__ import annotations

import math

from evaluation.metrics.registry import make_metric
from evaluation.results import Estimate, GateResult
from features.errors import InputError

ABSENT = "–"
"""Stands where a number does not exist."""

_NAMES = {
    "model": "This model",
    "live": "Live model",
    "popularity": "Popularity",
    "item_ctr": "Item CTR",
    "oracle": "Oracle",
    "two_tower": "Two-tower",
}


def metric_title(name: str) -> str:
    """`log_loss` → `Log loss`, `ndcg@5` → `NDCG@5`, `taught_recall@50` → `Recall@50 of the teacher’s lists`.

    What is not in the table of metrics is spelt as it is named.
    """
    if name.startswith("taught_"):
        return f"{metric_title(name.removeprefix('taught_'))} of the teacher’s lists"
    try:
        return make_metric(name).title
    except InputError:
        words = name.replace("_", " ")
        return name.upper() if name.startswith("map@") else words.capitalize().replace("Ndcg", "NDCG")


def scores_title(name: str) -> str:
    """The name of a set of scores for people: `item_ctr` → `Item CTR`."""
    return _NAMES.get(name, name.replace("_", " ").capitalize())


def loss_title(name: str) -> str:
    """The name of a part of the training loss for people: `ssl_loss` → `SSL loss`."""
    words = name.replace("_", " ")
    return f"SSL{words[3:]}" if words.startswith("ssl ") else words.capitalize()


def verdict(name: str) -> str:
    """A verdict of a comparison in words: `cannot_tell` → `cannot tell`."""
    return name.replace("_", " ")


def better(metric: str) -> str:
    """Which way the metric is better, in words."""
    lower = make_metric(metric).lower_is_better
    return "closer to 1 is better" if lower is None else f"{'lower' if lower else 'higher'} is better"


def count(value: int | None) -> str:
    """1234567 → `1,234,567`."""
    return ABSENT if value is None else f"{value:,}"


def metric(value: float | None) -> str:
    """Four decimals; one in ten thousand of AUC is the least that anyone acts on. Large values as `number` has them."""
    if value is None or not math.isfinite(value):
        return ABSENT
    return number(value) if abs(value) >= 100 else _signed(f"{value:.4f}")


def signed(value: float | None) -> str:
    """A difference with its sign: 0.0021 → `+0.0021`."""
    return f"+{metric(value)}" if value is not None and value > 0 else metric(value)


def number(value: float | None) -> str:
    """A value of any kind, a count or a share: 30200.0 → `30,200`, 0.0412 → `0.0412`, 0.00666667 → `0.00667`.

    What is whole and not near 1 is a count; other numbers have four decimals, and three significant digits at least.
    """
    if value is None or not math.isfinite(value):
        return ABSENT
    value += 0.0  # what was negated to −0 is 0
    size = abs(value)
    if size >= 1000 or (value == int(value) and (size >= 10 or not size)):
        return _signed(f"{value:,.0f}")
    if size >= 100:
        return _signed(f"{value:.1f}")
    return _signed(f"{value:.{_decimals(size)}f}")


def _decimals(size: float) -> int:
    """Four, and of numbers below a hundredth as many as show three significant digits; eight at most."""
    return min(8, max(4, 2 - math.floor(math.log10(size))))


def limit(value: float) -> str:
    """A limit that someone set: `number` without zeros that say nothing, 0.1 → `0.1`, 1.0 → `1`."""
    text = number(value)
    return text.rstrip("0").rstrip(".") if "." in text else text


def judged(gate: GateResult) -> str:
    """The value of a gate: a count where its limits are counts, else a `number`."""
    limits = [end for end in (gate.minimum, gate.maximum) if end is not None]
    counts = bool(limits) and max(limits) >= 2 and all(end == int(end) for end in limits)
    if counts and gate.value is not None and math.isfinite(gate.value) and gate.value == int(gate.value):
        return count(int(gate.value))
    return number(gate.value)


def threshold(gate: GateResult) -> str:
    """What passes a gate: `≥ 1,000`, `≤ 3` or `[0.9, 1.1]`."""
    if gate.minimum is not None and gate.maximum is not None:
        return f"[{limit(gate.minimum)}, {limit(gate.maximum)}]"
    if gate.minimum is not None:
        return f"≥ {limit(gate.minimum)}"
    return f"≤ {limit(gate.maximum)}" if gate.maximum is not None else "none"


def tick(value: float, step: float) -> str:
    """A number at an axis whose ticks are `step` apart: as many decimals as tell them apart."""
    decimals = max(0, -math.floor(math.log10(step) + 1e-9))
    decimals += round(step * 10**decimals, 9) % 1 > 0  # 2.5 needs one more than 2
    return _signed(f"{value + 0.0:,.{decimals}f}")


def _signed(text: str) -> str:
    return text.replace("-", "−")


def interval(estimate: Estimate | None) -> str:
    """`[0.7312, 0.7401]`, or nothing where no interval was computed."""
    if estimate is None or estimate.low is None or estimate.high is None:
        return ""
    return f"[{metric(estimate.low)}, {metric(estimate.high)}]"


def percent(value: float | None) -> str:
    """A share, e.g. 0.0312 → `3.12%`. Something that is not nothing never reads 0.00%."""
    if value is None or not math.isfinite(value):
        return ABSENT
    if 0 < abs(value) < 0.0001:
        return "<0.01%"
    return _signed(f"{value:.2%}")


def level(value: float) -> str:
    """The level of an interval: 0.95 → `95%`."""
    return f"{limit(100 * value)}%"


def share(part: int, whole: int) -> str:
    """`part` of `whole` as a percentage."""
    return percent(part / whole) if whole else ABSENT


def seconds(value: float | None) -> str:
    """`0.42 s`, `12.3 s`, `3 min 05 s`, `2 h 07 min`."""
    if value is None or not math.isfinite(value):
        return ABSENT
    if value < 10:
        return f"{value:.2f} s"
    if value < 59.95:
        return f"{value:.1f} s"
    minutes = round(value / 60) if value >= 3600 else int(round(value) // 60)
    if minutes >= 60:
        return f"{minutes // 60} h {minutes % 60:02d} min"
    return f"{minutes} min {round(value) % 60:02d} s"


def milliseconds(seconds: float | None) -> str:
    """Seconds as milliseconds: `0.84 ms`, `26.3 ms`, `1,120 ms`."""
    if seconds is None or not math.isfinite(seconds):
        return ABSENT
    value = 1000 * seconds
    return f"{value:,.{2 if value < 1 else 1 if value < 100 else 0}f} ms"


def tiny(value: float | None) -> str:
    """A difference that should be nothing, with two digits: `0`, `5.9e-08`."""
    return ABSENT if value is None else "0" if value == 0 else _signed(f"{value:.1e}")


def megabytes(value: float | None) -> str:
    """`512 MB`, `1.25 GB` (1 GB = 1024 MB)."""
    if value is None or not math.isfinite(value):
        return ABSENT
    return f"{value:,.0f} MB" if value < 1024 else f"{value / 1024:.2f} GB"


def rate(value: float | None) -> str:
    """Examples a second: whole numbers."""
    return ABSENT if value is None or not math.isfinite(value) else f"{value:,.0f}"


def shortened(text: str, width: int = 28) -> str:
    """At most `width` characters, the cut shown by an ellipsis."""
    return text if len(text) <= width else text[: width - 1] + "…"

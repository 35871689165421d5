"""How the run report writes numbers, names and sizes: one place, so that figures and tables read alike."""

from __future__ import annotations

import math

from evaluation.metrics.registry import make_metric
from evaluation.results import Estimate
from features.errors import InputError

ABSENT = "–"
"""Stands where a number does not exist."""

_NAMES = {
    "model": "This model",
    "live": "Live model",
    "popularity": "Popularity",
    "item_ctr": "Item CTR",
    "oracle": "Oracle",
}


def metric_title(name: str) -> str:
    """`log_loss` → `Log loss`, `ndcg@5` → `NDCG@5`; what is not in the table of metrics is spelt as it is named."""
    try:
        return make_metric(name).title
    except InputError:
        return name.upper() if name.startswith("map@") else name.replace("_", " ").capitalize()


def scores_title(name: str) -> str:
    """The name of a set of scores for people: `item_ctr` → `Item CTR`."""
    return _NAMES.get(name, name.replace("_", " ").capitalize())


def better(metric: str) -> str:
    """Which way the metric is better, in words."""
    lower = make_metric(metric).lower_is_better
    return "closer to 1 is better" if lower is None else f"{'lower' if lower else 'higher'} is better"


def count(value: int | None) -> str:
    """1234567 → `1,234,567`."""
    return ABSENT if value is None else f"{value:,}"


def metric(value: float | None) -> str:
    """Four decimals; one in ten thousand of AUC is the least that anyone acts on."""
    return ABSENT if value is None or not math.isfinite(value) else f"{value:.4f}".replace("-", "−")


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
    return f"{value:.2%}".replace("-", "−")


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

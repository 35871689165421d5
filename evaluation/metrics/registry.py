"""All metrics by name. Definitions and equations: docs/evaluation.md.

```python
states = make_metrics(["auc", "pcoc"])
for part in parts:
    update_metrics(states, part)
values = results(states)  # {"auc": 0.71, "pcoc": 1.02}
```
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from evaluation.metrics.pointwise import (
    PCOC,
    EqualMassECE,
    EqualWidthECE,
    LogLoss,
    NormalizedEntropy,
)
from evaluation.metrics.ranking import (
    AUC,
    GAUC,
    MRR,
    NDCG,
    BinnedAUC,
)
from evaluation.metrics.rows import Metric, ScoredRows
from features.config import nearest

RANKING_METRICS = ("auc", "auc_binned", "gauc_user", "gauc_request", "mrr")
"""They depend on the order of scores only, as does `ndcg@k`: any score has them."""

CALIBRATION_METRICS = ("log_loss", "normalized_entropy", "pcoc", "ece_equal_mass", "ece_equal_width")
"""They need probabilities."""

_FACTORIES = {
    "auc": AUC,
    "auc_binned": BinnedAUC,
    "gauc_user": lambda: GAUC("user"),
    "gauc_request": lambda: GAUC("request"),
    "mrr": MRR,
    "log_loss": LogLoss,
    "normalized_entropy": NormalizedEntropy,
    "pcoc": PCOC,
    "ece_equal_mass": EqualMassECE,
    "ece_equal_width": EqualWidthECE,
}


def ndcg_at(name: str) -> int | None:
    """The k of a metric name: 5 for `ndcg@5`; None for other metrics."""
    head, at, k = name.partition("@")
    return int(k) if head == "ndcg" and at and k.isdigit() and int(k) > 0 else None


def make_metric(name: str) -> Metric:
    """An empty state of the metric. Raises ValueError for an unknown name."""
    if (k := ndcg_at(name)) is not None:
        return NDCG(k)
    if name not in _FACTORIES:
        known = [*_FACTORIES, "ndcg@10"]
        raise ValueError(
            f"`{name}` is not a metric.{nearest(name, known)} Known: {', '.join(known)} (any k after ndcg@)."
        )
    return _FACTORIES[name]()


def is_ranking_metric(name: str) -> bool:
    """Whether the metric depends on the order of scores only."""
    return name in RANKING_METRICS or ndcg_at(name) is not None


def make_metrics(names: Iterable[str]) -> dict[str, Metric]:
    """Empty states by metric name."""
    return {name: make_metric(name) for name in names}


def update_metrics(states: Mapping[str, Metric], rows: ScoredRows) -> None:
    """Adds rows to every state."""
    for state in states.values():
        state.update(rows)


def merge_metrics(states: Mapping[str, Metric], others: Mapping[str, Metric]) -> None:
    """Adds the other states, of the same names, to these."""
    for name, state in states.items():
        state.merge(others[name])


def results(states: Mapping[str, Metric]) -> dict[str, float]:
    """Metric values by name; NaN where undefined."""
    return {name: state.result() for name, state in states.items()}


def compute_metrics(rows: ScoredRows, names: Iterable[str]) -> dict[str, float]:
    """Metric values over rows, by name; NaN where undefined."""
    states = make_metrics(names)
    update_metrics(states, rows)
    return results(states)

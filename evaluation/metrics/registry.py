"""All metrics by name: a new one is a class (`evaluation.metrics.metric`) and a row of `METRICS`."""

from __future__ import annotations

from collections.abc import Iterable

from evaluation.metrics.metric import Metric, Users
from evaluation.metrics.pointwise import PCOC, EqualMassECE, EqualWidthECE, LogLoss, NormalizedEntropy
from evaluation.metrics.ranking import AUC, MRR, NDCG, BinnedAUC, RequestGAUC, UserGAUC
from evaluation.metrics.rows import ScoredRows
from features.config import nearest
from features.errors import InputError

METRICS: dict[str, type[Metric]] = {
    "auc": AUC,
    "auc_binned": BinnedAUC,
    "gauc_user": UserGAUC,
    "gauc_request": RequestGAUC,
    "log_loss": LogLoss,
    "normalized_entropy": NormalizedEntropy,
    "pcoc": PCOC,
    "ece_equal_mass": EqualMassECE,
    "ece_equal_width": EqualWidthECE,
    "ndcg@k": NDCG,
    "mrr": MRR,
}
"""Name → class; the classes of names that end with `@k` take a number."""


def make_metric(name: str) -> Metric:
    """Returns the metric of a name, e.g. `auc` or `ndcg@5`.

    Raises:
      InputError: for a name that is not in the table, with the nearest that is.
    """
    head, at, number = name.partition("@")
    kind = METRICS.get(f"{head}@k" if at else name)
    if kind is None or (at and not number.isdigit()):
        known = ", ".join(METRICS)
        raise InputError(f"`{name}` is not a metric.{nearest(name, METRICS)} Known: {known} (k is a number).")
    return kind(*([int(number)] if at else []))


def compute_metrics(rows: ScoredRows, names: Iterable[str]) -> dict[str, float]:
    """Returns metric values over rows, by name; NaN where undefined."""
    everybody = Users.one(len(rows))
    metrics = {name: make_metric(name) for name in names}
    return {name: metric.value(metric.sums(rows, everybody)) for name, metric in metrics.items()}

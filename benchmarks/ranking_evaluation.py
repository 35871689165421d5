"""Processor seconds of an evaluation: rows a second of every metric, of all of it, and beside scikit-learn.

    python -m benchmarks.ranking_evaluation --rows 1000000

The group metrics are also timed against a plain loop over groups, on a part of the rows (it takes minutes on all), and
compared as rows a second. Values must agree, or the benchmark fails.
"""

from __future__ import annotations

import argparse
import json
import time

import numpy as np
import pyarrow as pa

from evaluation.baselines import Baseline
from evaluation.config import MODEL_METRICS
from evaluation.metrics.registry import compute_metrics
from evaluation.ranking import EvaluationConfig, evaluate, scored_rows
from evaluation.slices import SliceConfig

CANDIDATES = 10


def make_predictions(rows: int, seed: int = 0) -> tuple[pa.Table, np.ndarray]:
    """Predictions of long-tailed users with 10 candidates a request, and the true probabilities."""
    generator = np.random.default_rng(seed)
    requests, users = rows // CANDIDATES, max(10, rows // 50)
    request = np.repeat(np.arange(requests), CANDIDATES)
    user = (users * generator.random(requests) ** 2).astype(np.int64)[request]
    logit = generator.normal(-2, 1, len(user)) + generator.normal(0, 0.5, users)[user]
    truth = 1 / (1 + np.exp(-logit))
    table = pa.table(
        {
            "request_id": pa.array(request).cast(pa.string()),
            "user_id": pa.array(user).cast(pa.string()),
            "item_id": pa.array(np.tile(np.arange(CANDIDATES), requests) + 10 * (request % 1000)).cast(pa.string()),
            "timestamp": pa.array(request),
            "position": pa.array(np.tile(np.arange(CANDIDATES, dtype=np.int32), requests)),
            "label": (generator.random(len(user)) < truth).astype(np.float32),
            "score": 1 / (1 + np.exp(-(logit + generator.normal(0, 0.5, len(user))))),
            "history_end": pa.array(generator.integers(0, 400, requests)[request]),
            "city": pa.array([f"city {i}" for i in range(20)]).take(pa.array(user % 20)),
            "price": generator.random(len(user)),
        }
    )
    return table, truth


def timed(function):
    """The value and the processor seconds it took: the same on a busy machine."""
    start = time.process_time()
    value = function()
    return value, time.process_time() - start


def against_sklearn(rows) -> dict:
    """Log loss and AUC beside scikit-learn's, GAUC per user beside scikit-learn's AUC in a loop over users."""
    from sklearn.metrics import log_loss, roc_auc_score

    part = rows.take(np.arange(min(len(rows), 50_000)))

    def gauc_loop():
        order = np.argsort(part.user, kind="stable")
        groups = np.split(order, np.flatnonzero(np.diff(part.user[order])) + 1)
        kept = [g for g in groups if 0 < part.label[g].sum() < len(g)]
        values = [roc_auc_score(part.label[g], part.score[g]) for g in kept]
        return np.average(values, weights=[len(g) for g in kept])

    found = {}
    for name, of, theirs in (
        ("auc", rows, lambda: roc_auc_score(rows.label, rows.score)),
        ("log_loss", rows, lambda: log_loss(rows.label, rows.score)),
        ("gauc_user", part, gauc_loop),
    ):
        mine, seconds = timed(lambda of=of, name=name: compute_metrics(of, [name])[name])
        expected, their_seconds = timed(theirs)
        if abs(mine - expected) > 1e-9:
            raise AssertionError(f"{name}: {mine} here, {expected} in scikit-learn")
        found[name] = {"times_sklearn": round(their_seconds / seconds, 2), "rows": len(of)}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--replicates", type=int, default=200)
    arguments = parser.parse_args()
    predictions, truth = make_predictions(arguments.rows)
    (rows, _), seconds = timed(lambda: scored_rows(predictions))
    report = {"rows": len(rows), "read_seconds": round(seconds, 2), "metric_rows_per_second": {}}
    for name in MODEL_METRICS:
        _, seconds = timed(lambda name=name: compute_metrics(rows, [name]))
        report["metric_rows_per_second"][name] = int(len(rows) / seconds)
    _, seconds = timed(lambda: compute_metrics(rows, MODEL_METRICS))
    report["all_metrics_seconds"] = round(seconds, 2)
    config = EvaluationConfig(
        slices=SliceConfig(features=("history_length", "city", "price")), bootstrap_replicates=arguments.replicates
    )
    oracle = [Baseline("oracle", "truth", truth, True)]
    result, seconds = timed(lambda: evaluate(predictions, config, baselines=oracle))
    report["evaluation"] = {
        "seconds": round(seconds, 2),
        "slices": len(result.slices),
        "replicates": arguments.replicates,
        "rows_per_second": int(len(rows) / seconds),
    }
    _, seconds = timed(lambda: evaluate(predictions, config, predictions, baselines=oracle))
    report["evaluation_beside_live_seconds"] = round(seconds, 2)
    try:
        report["against_sklearn"] = against_sklearn(rows)
    except ImportError:
        report["against_sklearn"] = "scikit-learn is not installed"
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()

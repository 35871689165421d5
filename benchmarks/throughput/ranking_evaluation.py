"""Processor seconds of an evaluation: rows a second of every metric, and of all of it with slices and intervals."""

from __future__ import annotations

import time

import numpy as np
import pyarrow as pa

from evaluation.baselines import Baseline
from evaluation.config import MODEL_METRICS
from evaluation.metrics.registry import compute_metrics
from evaluation.ranking import EvaluationConfig, evaluate, scored_rows
from evaluation.slices import SliceConfig

CANDIDATES = 10
OPTIONS = {"rows": (1_000_000, "of the predictions"), "replicates": (200, "of the bootstrap")}


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


def run(options) -> dict:
    """Times every metric, then whole evaluations."""
    predictions, truth = make_predictions(options.rows)
    (rows, _), seconds = timed(lambda: scored_rows(predictions))
    report = {"rows": len(rows), "read_seconds": round(seconds, 2), "metric_rows_per_second": {}}
    for name in MODEL_METRICS:
        _, seconds = timed(lambda name=name: compute_metrics(rows, [name]))
        report["metric_rows_per_second"][name] = int(len(rows) / seconds)
    _, seconds = timed(lambda: compute_metrics(rows, MODEL_METRICS))
    report["all_metrics_seconds"] = round(seconds, 2)
    config = EvaluationConfig(
        slices=SliceConfig(features=("history_length", "city", "price")), bootstrap_replicates=options.replicates
    )
    oracle = [Baseline("oracle", "truth", truth, True)]
    result, seconds = timed(lambda: evaluate(predictions, config, baselines=oracle))
    report["evaluation"] = {
        "seconds": round(seconds, 2),
        "slices": len(result.slices),
        "replicates": options.replicates,
        "rows_per_second": int(len(rows) / seconds),
    }
    _, seconds = timed(lambda: evaluate(predictions, config, predictions, baselines=oracle))
    report["evaluation_beside_live_seconds"] = round(seconds, 2)
    return report


def figures(found: dict) -> list[tuple[str, str]]:
    whole = found["evaluation"]
    what = f"evaluation of {found['rows']:,} rows, {whole['slices']} slices, {whole['replicates']} replicates"
    return [(what, f"{whole['seconds']:.0f} processor seconds, all metrics alone {found['all_metrics_seconds']:.1f}")]

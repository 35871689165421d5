"""Seconds and memory of an evaluation: all metrics, slices, baselines, intervals, live model, anchor and gates.

A process of its own judges a million rows of 100,000 requests of long-tailed users. Its memory is what it needs beyond
the predictions, which it is given.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pyarrow as pa

from evaluation.baselines import Baseline
from evaluation.config import MODEL_METRICS
from evaluation.metrics.registry import compute_metrics
from evaluation.ranking import EvaluationConfig, evaluate, scored_rows
from evaluation.slices import SliceConfig

CANDIDATES = 10
LIMITS = {"seconds": 10, "mib": 2048}
OPTIONS = {"rows": (1_000_000, "of the predictions"), "repeats": (3, "whole evaluations; the median is reported")}


def make_predictions(rows: int, seed: int = 0) -> tuple[pa.Table, list[Baseline], list[pa.Table]]:
    """Predictions of long-tailed users, the three baselines, and the predictions of a live model and of an anchor."""
    generator = np.random.default_rng(seed)
    requests, users = rows // CANDIDATES, max(10, rows * 6 // 100)
    request = np.repeat(np.arange(requests), CANDIDATES)
    user = (users * generator.random(requests) ** 1.5).astype(np.int64)[request]
    item = generator.zipf(1.3, len(user)) % 5000
    appeal = generator.normal(0, 0.5, 5000)
    logit = generator.normal(-2.5, 1, len(user)) + generator.normal(0, 0.5, users)[user] + appeal[item]
    truth = 1 / (1 + np.exp(-logit))

    def scored(noise: float) -> pa.Array:
        return pa.array(1 / (1 + np.exp(-(logit + generator.normal(0, noise, len(logit))))))

    table = pa.table(
        {
            "request_id": pa.array(request).cast(pa.string()),
            "user_id": pa.array(user).cast(pa.string()),
            "item_id": pa.array(np.tile(np.arange(CANDIDATES), requests) + 10 * (request % 1000)).cast(pa.string()),
            "timestamp": pa.array(request),
            "position": pa.array(np.tile(np.arange(CANDIDATES, dtype=np.int32), requests)),
            "label": (generator.random(len(user)) < truth).astype(np.float32),
            "score": scored(0.5),
            "history_end": pa.array(generator.integers(0, 400, requests)[request]),
            "city": pa.array([f"city {i}" for i in range(20)]).take(pa.array(user % 20)),
            "price": generator.random(len(user)),
        }
    )
    baselines = [
        Baseline("popularity", "clicks", np.exp(appeal)[item].round(2), False),
        Baseline("item_ctr", "click rate", 1 / (1 + np.exp(2 - appeal[item])), True),
        Baseline("oracle", "truth", truth, True),
    ]
    keys = table.select(["request_id", "item_id"])
    return table, baselines, [keys.append_column("score", scored(0.55)) for _ in range(2)]


class PeakMemory:
    """The process's resident memory while a block runs, its highest and that at the start, in MiB."""

    def __enter__(self) -> PeakMemory:
        self._done = threading.Event()
        self.start = self.highest = self._now()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._done.wait(0.02):
            self.highest = max(self.highest, self._now())

    @staticmethod
    def _now() -> float:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return pages * resource.getpagesize() / 2**20


def measure(rows: int, repeats: int) -> dict:
    """Evaluates in this process; returns the figures."""
    predictions, baselines, (live, anchor) = make_predictions(rows)
    scored = scored_rows(predictions)
    report: dict = {"rows": rows, "metric_seconds": {}}
    for name in MODEL_METRICS:
        start = time.perf_counter()
        compute_metrics(scored_rows(predictions), [name])
        report["metric_seconds"][name] = round(time.perf_counter() - start, 2)
    config = EvaluationConfig(slices=SliceConfig(features=("history_length", "city", "price")))
    seconds, processor = [], []
    with PeakMemory() as memory:
        for _ in range(repeats):
            start, used = time.perf_counter(), time.process_time()
            result = evaluate(predictions, config, live, baselines, anchor)
            seconds.append(time.perf_counter() - start)
            processor.append(time.process_time() - used)
    report |= {
        "users": len(np.unique(scored.user)),
        "slices": len(result.slices),
        "gates": len(result.gates),
        "seconds": round(float(np.median(seconds)), 2),
        "processor_seconds": round(float(np.median(processor)), 2),
        "peak_mib": round(memory.highest),
        "beyond_predictions_mib": round(memory.highest - memory.start),
    }
    return report


def run(options) -> dict:
    """Measures in a fresh process, whose memory is its own."""
    code = f"import json; from {__name__} import measure; print(json.dumps(measure({options.rows}, {options.repeats})))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return {**json.loads(done.stdout.splitlines()[-1]), "limits": LIMITS}


def figures(found: dict) -> list[tuple[str, str]]:
    what = (
        f"evaluation of {found['rows']:,} rows of {found['users']:,} users: all metrics, 3 baselines, "
        f"{found['slices']} slices, live model and anchor, intervals, {found['gates']} gates"
    )
    processor = f"{found['processor_seconds']:.1f} processor seconds"
    measured = f"{found['seconds']:.1f} s, {processor}, {found['peak_mib']:,} MiB at most"
    return [(what, measured)]

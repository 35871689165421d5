"""Finished runs of a benchmark as one JSON file that several processes may add to."""

from __future__ import annotations

import fcntl
import json
import math
import os
import statistics
from collections.abc import Callable
from pathlib import Path


class RunRecords:
    """Runs by key, with a summary that is made anew whenever one is added.

    Args:
      path: the JSON file: `{"summary": …, "runs": […]}`.
      key: of a run; a run of the same key gives way to a newer one.
      summarise: of all runs.
    """

    def __init__(self, path: Path, key: Callable[[dict], object], summarise: Callable[[list[dict]], object]):
        self._path, self._key, self._summarise = path, key, summarise

    def load(self) -> list[dict]:
        return json.loads(self._path.read_text())["runs"] if self._path.exists() else []

    def find(self, wanted: dict) -> dict | None:
        """The finished run of the key of `wanted`."""
        return next((run for run in self.load() if self._key(run) == self._key(wanted)), None)

    def add(self, run: dict) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with open(self._path.with_suffix(".lock"), "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            runs = [other for other in self.load() if self._key(other) != self._key(run)] + [without_nan(run)]
            aside = self._path.with_suffix(".tmp")
            aside.write_text(json.dumps({"summary": self._summarise(runs), "runs": runs}, indent=1) + "\n")
            os.replace(aside, self._path)


def spread(values: list[float | None]) -> dict:
    """Mean and standard deviation of a figure over seeds: no deviation of one value, neither of undefined ones."""
    if None in values:
        return {"mean": None, "std": None}
    return {"mean": statistics.mean(values), "std": statistics.stdev(values) if len(values) > 1 else None}


def without_nan(record):
    """The record with None for NaN, which JSON does not have."""
    if isinstance(record, dict):
        return {name: without_nan(value) for name, value in record.items()}
    if isinstance(record, list):
        return [without_nan(value) for value in record]
    return None if isinstance(record, float) and math.isnan(record) else record


def limit_threads(threads: int | None) -> None:
    """Sets TensorFlow's threads, which it reads when it is imported: call this before."""
    if threads:
        os.environ["TF_NUM_INTRAOP_THREADS"] = os.environ["TF_NUM_INTEROP_THREADS"] = str(threads)

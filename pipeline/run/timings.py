"""Seconds and peak memory of each component, kept as `timings.json`."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Mapping, Sequence

from features import storage
from pipeline.run.lineage import ComponentRun

TIMINGS_FILE = "timings.json"


class MemorySampler:
    """Samples the memory of this process in the background, while it is used as a context manager.

    Several components run in one process, so a component's peak includes what earlier ones left behind.
    """

    def __init__(self, interval: float = 0.05):
        if interval <= 0:
            raise ValueError(f"`interval` must be positive. Received: `interval`={interval}.")
        self._interval = interval
        self._samples: list[tuple[float, int]] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="memory-sampler", daemon=True)

    def __enter__(self) -> MemorySampler:
        self._thread.start()
        return self

    def __exit__(self, *exception) -> None:
        self._stop.set()
        self._thread.join()

    def peak_mb(self, started: float, finished: float) -> float | None:
        """Returns the largest resident size in [started, finished] (seconds since the epoch), in MiB."""
        inside = [rss for moment, rss in self._samples if started <= moment <= finished]
        return round(max(inside) / 2**20, 1) if inside else None

    def sample(self) -> None:
        """Takes a sample now, so that what was shorter than the interval has one."""
        import psutil

        self._samples.append((time.time(), psutil.Process().memory_info().rss))

    def _run(self) -> None:
        while not self._stop.wait(self._interval):
            self.sample()


def write_timings(path: storage.AnyPath, runs: Sequence[ComponentRun], peaks: Mapping[str, float | None]) -> list[dict]:
    """Writes and returns [{component, seconds, peak_rss_mb}], in the order of the run.

    Args:
      path: the file.
      runs: what the run has come to.
      peaks: of the components that were run now, the largest memory of their process in MiB; None where they were too
        quick to be looked at.

    What was measured before is kept of a component that was cached, and so did nothing, or ran in another process.
    """
    earlier = {entry["component"]: entry for entry in read_timings(path)}
    entries = []
    for run in runs:
        if run.cached or run.component not in peaks:
            entry = earlier.get(run.component)
        else:
            entry = {
                "component": run.component,
                "seconds": round(run.seconds, 3),
                "peak_rss_mb": peaks[run.component],
            }
        if entry:
            entries.append(entry)
    storage.write_text(path, json.dumps(entries, indent=2) + "\n")
    return entries


def read_timings(path: storage.AnyPath) -> list[dict]:
    """Returns what `write_timings` wrote, [] where there is nothing yet."""
    return json.loads(storage.read_text(path)) if storage.is_file(path) else []

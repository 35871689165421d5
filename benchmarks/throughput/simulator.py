"""Simulated impressions a second, files written."""

from __future__ import annotations

import tempfile
from pathlib import Path

import clickmill as cm
from benchmarks.processes import Stopwatch, peak_mb

OPTIONS = {"impressions": ([200_000, 1_000_000], "of each log"), "seed": (0, "of the logs")}


def run(options) -> dict:
    """Simulates logs one after the other; memory is the peak until the end of each."""
    found = {}
    with tempfile.TemporaryDirectory() as directory:
        # The first run also pays for imports: it is not measured.
        cm.simulate(cm.SimulatorConfig(impressions=1_000), Path(directory) / "warm_up")
        for impressions in options.impressions:
            clock = Stopwatch()
            cm.simulate(
                cm.SimulatorConfig(impressions=impressions, seed=options.seed), Path(directory, str(impressions))
            )
            seconds = clock.read()["seconds"]
            found[str(impressions)] = {"per_second": impressions / seconds, "seconds": seconds, "peak_mb": peak_mb()}
    return found


def figures(found: dict) -> list[tuple[str, str]]:
    return [
        (f"simulator, {int(size):,} impressions", f"{row['per_second']:,.0f} a second, {row['peak_mb']:,.0f} MB")
        for size, row in found.items()
    ]

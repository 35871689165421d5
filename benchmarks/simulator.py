"""Simulated impressions a second, files written: `python -m benchmarks.simulator [--impressions N …]`."""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from pathlib import Path

from features.datasets.simulator.marketplace import SimulatorConfig, simulate


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--impressions", type=int, nargs="+", default=[200_000, 1_000_000])
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        # The first run also pays for imports: it is not measured.
        simulate(SimulatorConfig(impressions=1_000), Path(directory) / "warm_up")
        for impressions in arguments.impressions:
            begin = time.perf_counter()
            simulate(SimulatorConfig(impressions=impressions, seed=arguments.seed), Path(directory) / str(impressions))
            seconds = time.perf_counter() - begin
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            rate = impressions / seconds
            print(f"{impressions:>10,} impressions: {seconds:6.2f} s, {rate:>9,.0f} a second, {peak:,.0f} MB")


if __name__ == "__main__":
    main()

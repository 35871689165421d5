"""Open Bandit Pipeline on a large catalogue: python obp_memory.py ROWS ITEMS GIB, in its environment.

Makes a log of ROWS impressions of ITEMS items, and the dense array of the policy's probabilities that the package
takes, [rows, items, 1], and estimates by IPS. Data may take GIB. Prints JSON: seconds, peak MiB; `MemoryError` where
it dies.
"""

from __future__ import annotations

import json
import re
import resource
import sys
import time
from pathlib import Path

import numpy as np
from obp import ope


def main(rows: int, items: int, gib: int) -> dict:
    resource.setrlimit(resource.RLIMIT_DATA, (gib << 30, gib << 30))
    rng, begin = np.random.default_rng(0), time.perf_counter()
    weight = 1 / (1.0 + np.arange(items))
    policy = weight / weight.sum()
    try:
        dense = np.empty((rows, items, 1))
        dense[:] = policy[:, None]
        action = rng.integers(0, items, rows)
        reward = (rng.random(rows) < 0.1).astype(float)
        given = {"reward": reward, "action": action, "pscore": np.full(rows, 1 / items), "action_dist": dense}
        value = ope.InverseProbabilityWeighting().estimate_policy_value(**given)
    except MemoryError:
        return {"rows": rows, "died": True}
    peak = re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text(encoding="utf-8"))
    seconds = time.perf_counter() - begin
    return {"rows": rows, "died": False, "seconds": seconds, "mb": int(peak[1]) / 1024, "value": float(value)}


if __name__ == "__main__":
    print(json.dumps(main(*map(int, sys.argv[1:]))))

"""What the JSON step of a request costs: from the parsed request to the tensors of a ranker, with nothing of the model.

One request of the simulated profile's features, 200 candidates, one thread; once without the history, as of a ranker
that reads none, and once with the two windows of a full one.
"""

from __future__ import annotations

import statistics
import time
from typing import Any

import numpy as np

import clickmill as cm
from benchmarks.preparation import CONFIGS

CANDIDATES = 200
OPTIONS = {"rounds": (200, "in which both take turns")}


def make_request(candidates: int, behaviors: int) -> dict[str, Any]:
    """Returns a request as its client would send it; what it holds is drawn at random."""
    rng = np.random.default_rng(0)

    def item() -> dict[str, Any]:
        category = f"category_{rng.integers(20)}"
        return {"item_id": int(rng.integers(1e5)), "category": category, "subcategory": f"{category}_{rng.integers(9)}"}

    def candidate() -> dict[str, Any]:
        words = [f"word{number}" for number in rng.integers(5000, size=rng.integers(3, 9))]
        return item() | {"brand": f"brand_{rng.integers(500)}", "price": round(rng.lognormal(3), 2), "title": words}

    return {
        "user": {"user_id": "u17", "age_band": "25-34", "city": "city_3"},
        "context": {"device": "ios", "hour": 21, "weekday": 4},
        "candidates": [candidate() for _ in range(candidates)],
        "history": [item() for _ in range(behaviors)],
    }


def run(options) -> dict[str, Any]:
    """Returns the median milliseconds of processor time by number of behaviours; the two take turns."""
    from serving.requests.json_request import row_from_request
    from serving.requests.tensors import slate_tensors, window_tensors

    spec = cm.load_spec(CONFIGS / "features_simulated.yaml")
    request = make_request(CANDIDATES, spec.history.short_length + spec.history.long_length)
    taken: dict[int, list[float]] = {0: [], len(request["history"]): []}
    for _ in range(options.rounds):
        for behaviors, times in taken.items():
            started = time.process_time()
            row = row_from_request(spec, request, histories=behaviors > 0)
            slate_tensors(spec, row)
            if behaviors:
                window_tensors(spec, dict.fromkeys(("short", "long"), spec.history.features), row)
            times.append(1e3 * (time.process_time() - started))
    return {"candidates": CANDIDATES, "ms": {number: statistics.median(times) for number, times in taken.items()}}


def figures(found: dict[str, Any]) -> list[tuple[str, str]]:
    """Returns the rows of the figure table."""
    what = f"JSON request to tensors, {found['candidates']} candidates, one thread"
    return [(f"{what}, {int(number):,} behaviours", f"{ms:.1f} ms") for number, ms in found["ms"].items()]

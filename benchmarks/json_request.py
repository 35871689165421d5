"""What the JSON step of a request costs: from the parsed request to the tensors of a ranker, with nothing of the model.

    python -m benchmarks.json_request [--rounds 200]

One request of the simulated profile's features, 200 candidates and a full history, by one thread. `candidates_ms` is
without the history, as of a ranker that reads none; `whole_ms` with both windows.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np

RESULTS = Path(__file__).parent / "results" / "json_request.json"
SPEC = Path(__file__).parents[1] / "tfx_config" / "features_simulated.yaml"
CANDIDATES = 200


def make_request(candidates: int, behaviors: int, seed: int = 0) -> dict[str, Any]:
    """Returns a request as its client would send it; what it holds is drawn at random."""
    rng = np.random.default_rng(seed)

    def item() -> dict[str, Any]:
        category = int(rng.integers(20))
        return {
            "item_id": int(rng.integers(100_000)),
            "category": f"category_{category}",
            "subcategory": f"category_{category}_{rng.integers(9)}",
        }

    def candidate() -> dict[str, Any]:
        words = [f"word{number}" for number in rng.integers(5000, size=rng.integers(3, 9))]
        return item() | {"brand": f"brand_{rng.integers(500)}", "price": round(rng.lognormal(3), 2), "title": words}

    return {
        "request_id": "r1",
        "user": {"user_id": "u17", "age_band": "25-34", "city": "city_3"},
        "context": {"device": "ios", "hour": 21, "weekday": 4},
        "candidates": [candidate() for _ in range(candidates)],
        "history": [item() for _ in range(behaviors)],
    }


def run(rounds: int) -> dict[str, Any]:
    """Measures the step; the two ways take turns."""
    from features.spec import load_spec
    from serving.requests.json_request import row_from_request
    from serving.requests.tensors import single_request_tensors, window_tensors

    spec = load_spec(SPEC)
    windows = {window: spec.history.features for window in ("short", "long")}
    request = make_request(CANDIDATES, spec.history.short_length + spec.history.long_length)

    def candidates() -> None:
        single_request_tensors(spec, row_from_request(spec, request, histories=False))

    def whole() -> None:
        row = row_from_request(spec, request)
        single_request_tensors(spec, row)
        window_tensors(spec, windows, row)

    seconds: dict[str, list[float]] = {"candidates": [], "whole": []}
    for _ in range(rounds):
        for name, step in (("candidates", candidates), ("whole", whole)):
            started = time.perf_counter()
            step()
            seconds[name].append(time.perf_counter() - started)
    taken = {f"{name}_ms": 1e3 * statistics.median(times) for name, times in seconds.items()}
    return {"candidates": CANDIDATES, "behaviors": len(request["history"]), "rounds": rounds, **taken}


def figures(found: dict[str, Any]) -> list[tuple[str, str]]:
    """Returns the rows of the figure table."""
    what = f"JSON request to tensors, {found['candidates']} candidates, one thread"
    history = f", and with a history of {found['behaviors']:,} behaviours {found['whole_ms']:.1f} ms"
    return [(what, f"{found['candidates_ms']:.1f} ms{history}")]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=200)
    found = run(parser.parse_args().rounds)
    RESULTS.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(found, indent=1))

"""Logs with one hot spot against an even log of the same size: seconds of LogIngest, Vocabulary and FeatureEncoder.

Four logs of the same tables and numbers of rows: an even one; one of whose behaviours nearly all are of one user; one
with a request of thousands of candidates; one whose clicks go to a single item in three of ten cases. They run in turn
in one process, after a small one that is not measured; the medians over the rounds are compared.
"""

from __future__ import annotations

import os
import statistics
import tempfile
from pathlib import Path

from benchmarks.processes import Stopwatch, in_own_process

OPTIONS = {
    "impressions": (1_000_000, "of each log"),
    "behaviors": (2_000_000, "of the one user; each log has a tenth more"),
    "candidates": (5_000, "of the one request"),
    "item_share": (0.3, "of the clicks that the one item gets"),
    "rounds": (3, "of which the median counts"),
    "seed": (0, "of the logs"),
}
TARGET = 1.5
LOGS = ("even", "user", "request", "item")
#: What one in ten of the impressions is: clicked.
CLICKED = 10
CANDIDATES, ITEMS, HOUR_MS = 10, 20_000, 3_600_000
START = 1_700_000_000_000
SPEC = {
    "name": "skewed",
    "features": [
        {"name": "hour", "table": "impressions", "dtype": "int64"},
        {"name": "item_id", "table": "items", "dtype": "int64"},
        {"name": "category", "table": "items", "dtype": "int64"},
        {"name": "price", "table": "items", "kind": "numeric"},
    ],
    "history": {"features": ["item_id", "category"]},
}


def write_log(folder: str, skew: str, sizes: dict[str, int | float]) -> dict:
    """Writes the tables of a log.

    Args:
      folder: for the tables.
      skew: one of `LOGS`.
      sizes: `impressions`, `behaviors`, `candidates`, `item_share` and `seed`.
    """
    import numpy as np
    import pyarrow as pa

    rng = np.random.default_rng(int(sizes["seed"]))
    rows, behaviors = int(sizes["impressions"]), int(sizes["behaviors"]) * 11 // 10
    users = max(rows // 100, 10)
    lengths = np.full(rows // CANDIDATES, CANDIDATES)
    if skew == "request":
        wide = min(int(sizes["candidates"]), rows // 2)
        lengths = np.r_[wide, np.full((rows - wide) // CANDIDATES, CANDIDATES)]
    requests = np.repeat(np.arange(len(lengths)), lengths)
    rows = len(requests)
    # Each item at most once in a request: a walk over the catalogue from a random place.
    places = np.arange(rows) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    items = (rng.integers(0, ITEMS, len(lengths))[requests] + places) % ITEMS
    clicked = np.flatnonzero(rng.random(rows) < 1 / CLICKED)
    if skew == "item":
        # One of the clicked rows of a request shows the item, where the request does not show it already.
        first = clicked[np.r_[True, np.diff(requests[clicked]) > 0]]
        first = first[~np.isin(requests[first], requests[items == 0])]
        items[rng.permutation(first)[: int(len(clicked) * sizes["item_share"])]] = 0
    times = START + np.sort(rng.integers(0, 14 * 24 * HOUR_MS, len(lengths)))
    user_of = rng.integers(0, users, len(lengths))
    ids = pa.array([f"r{n}" for n in range(len(lengths))])
    shown = {
        "request_id": ids.take(pa.array(requests)),
        "timestamp": times[requests],
        "user_id": user_of[requests],
        "item_id": items,
        "position": places,
        "hour": times[requests] // HOUR_MS % 24,
    }
    clicks = {
        "request_id": ids.take(pa.array(requests[clicked])),
        "item_id": items[clicked],
        "timestamp": times[requests[clicked]] + rng.integers(0, HOUR_MS, len(clicked)),
    }
    owners = rng.integers(0, users, behaviors)
    if skew == "user":
        owners[rng.permutation(behaviors)[: int(sizes["behaviors"])]] = 0
    done = {
        "user_id": owners,
        "item_id": rng.integers(0, ITEMS, behaviors),
        "timestamp": START + rng.integers(-30 * 24 * HOUR_MS, 14 * 24 * HOUR_MS, behaviors),
    }
    catalogue = {
        "item_id": np.arange(ITEMS),
        "category": rng.integers(0, 50, ITEMS),
        "price": rng.random(ITEMS) * 100,
    }
    for name, columns in (("impressions", shown), ("clicks", clicks), ("behaviors", done), ("items", catalogue)):
        _write_parts(Path(folder, name), pa.table(columns))
    top = int((items[clicked] == 0).sum()) / max(len(clicked), 1)
    return {
        "impressions": rows,
        "clicks": len(clicked),
        "behaviors": behaviors,
        "largest_request": int(lengths.max()),
        "largest_user": int(np.bincount(owners).max()),
        "largest_item_share": top,
    }


def _write_parts(folder: Path, table, parts: int = 4) -> None:
    import pyarrow.parquet as pq

    folder.mkdir(parents=True)
    size = -(-table.num_rows // parts)
    for part in range(parts):
        pq.write_table(table.slice(part * size, size), folder / f"part-{part}.parquet")


def measure(folder: str, rounds: int) -> dict:
    """Runs the components over the logs in turn; returns {log: {component: seconds of each round}}."""
    work = Path(folder)
    prepare(work / "warm_up", work / "out")
    found: dict[str, dict[str, list[float]]] = {log: {} for log in LOGS}
    for _ in range(rounds):
        for log in LOGS:
            for component, seconds in prepare(work / log, work / "out").items():
                found[log].setdefault(component, []).append(seconds)
    return found


def prepare(log: Path, out: Path) -> dict[str, float]:
    """Runs the three components over a log into an empty folder; returns {component: seconds}."""
    import shutil

    import clickmill as cm

    shutil.rmtree(out, ignore_errors=True)
    spec = cm.FeatureSpec.model_validate(SPEC)
    tables = {table: str(log / table) for table in ("impressions", "clicks", "items", "behaviors")}
    config = cm.IngestConfig.model_validate({"tables": tables})
    examples, behaviors, encoding = out / "examples", out / "behaviors", out / "encoding"
    measured = {}
    clock = Stopwatch()
    cm.run_ingest(config, spec, examples, behaviors, out / "dead_letters")
    measured["LogIngest"] = clock.read()["seconds"]
    clock = Stopwatch()
    cm.fit_encoding(examples, spec, encoding)
    measured["Vocabulary"] = clock.read()["seconds"]
    clock = Stopwatch()
    cm.encode_examples(examples, behaviors, encoding, out / "encoded")
    measured["FeatureEncoder"] = clock.read()["seconds"]
    return measured


def run(options) -> dict:
    """Writes the logs, measures, and compares each with the even one."""
    options.work.mkdir(parents=True, exist_ok=True)
    sizes = {name: getattr(options, name) for name in ("impressions", "behaviors", "candidates", "item_share", "seed")}
    few = sizes | {"impressions": 5_000, "behaviors": 5_000}
    with tempfile.TemporaryDirectory(dir=options.work) as folder:
        write_log(str(Path(folder, "warm_up")), "even", few)
        logs = {log: write_log(str(Path(folder, log)), log, sizes) for log in LOGS}
        seconds = in_own_process(measure, folder, options.rounds)
    return report(logs, seconds)


def report(logs: dict, seconds: dict) -> dict:
    """Returns the facts that are kept: medians of the rounds, and each log's against the even one's."""
    medians = {
        log: {component: statistics.median(each) for component, each in components.items()}
        for log, components in seconds.items()
    }
    whole = {log: sum(components.values()) for log, components in medians.items()}
    return {
        "cores": os.cpu_count(),
        "target": TARGET,
        "logs": logs,
        "rounds": seconds,
        "seconds": medians,
        "ratio": {log: whole[log] / whole["even"] for log in LOGS[1:]},
        "ratio_of_ingest": {log: medians[log]["LogIngest"] / medians["even"]["LogIngest"] for log in LOGS[1:]},
    }


def figures(found: dict) -> list[tuple[str, str]]:
    logs = found["logs"]
    what = {
        "user": f"one user has {logs['user']['largest_user']:,} of {logs['user']['behaviors']:,} behaviours",
        "request": f"one request has {logs['request']['largest_request']:,} candidates",
        "item": f"one item has {logs['item']['largest_item_share']:.0%} of the clicks",
    }
    size = f"{logs['even']['impressions']:,} impressions"
    return [
        (
            f"LogIngest + Vocabulary + FeatureEncoder where {what[log]}, against an even log ({size})",
            f"{found['ratio'][log]:.2f} times the time (LogIngest alone {found['ratio_of_ingest'][log]:.2f})",
        )
        for log in LOGS[1:]
    ]

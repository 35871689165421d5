"""Time and memory of a replay of 1, 3 and 10 million impressions of a catalogue of 100,000 items.

The log lies in Parquet, ten slots a request, two requests a user, scattered over the row groups as a log by time has
them. It is read in batches, summed, merged, judged by four estimators and by the diagnostics, on one thread. Open
Bandit Pipeline gets as many impressions as it can take, with its data held to 8 GiB.
"""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.processes import in_own_process, peak_mb
from benchmarks.throughput import environments

OPTIONS = {
    "rows": ([1_000_000, 3_000_000, 10_000_000], "impressions"),
    "rivals_python": ("python3.10", "3.10, of the rival's environment; empty: without it"),
}
ITEMS, CLUSTERS, SEGMENTS, SLOTS, BATCH = 100_000, 100, 50, 10, 250_000
ESTIMATORS = ("snips", "ips", "clipped_ips", "dr")
RIVAL_ROWS, RIVAL_GIB = (1_000, 3_000, 6_000, 9_000, 12_000), 8
WORKER = Path(__file__).parent / "rivals" / "obp_memory.py"


def run(options) -> dict:
    """Makes the logs, and replays each in a process of its own."""
    found = {"rows": [], "rival": []}
    for rows in options.rows:
        path = options.work / f"{rows}.parquet"
        if not path.exists():
            make(path, rows)
        found["rows"].append({"rows": rows, **in_own_process(replayed, path)})
        print(json.dumps(found["rows"][-1]), flush=True)
    for rows in RIVAL_ROWS if options.rivals_python else ():
        python = environments.open_bandit(options.rivals_python)
        call = [str(python), "-W", "ignore", str(WORKER), str(rows), str(ITEMS), str(RIVAL_GIB)]
        done = subprocess.run(call, capture_output=True, text=True, check=True)
        found["rival"].append(json.loads(done.stdout))
        print(done.stdout, end="", flush=True)
        if found["rival"][-1]["died"]:
            break
    return found


def figures(record: dict) -> list[tuple[str, str]]:
    """Seconds, memory, and how far both are from linear."""
    rows = [
        (
            f"replay of {each['rows'] / 1e6:g} million impressions of {ITEMS:,} items, {each['users']:,} users",
            f"{each['seconds']:.1f} s, {each['mb']:.0f} MiB",
        )
        for each in record["rows"]
    ]
    small, large = record["rows"][0], record["rows"][-1]
    ratio = (large["seconds"] / large["rows"]) / (small["seconds"] / small["rows"])
    rows.append((f"time an impression at {large['rows'] / 1e6:g} million over 1 million", f"{ratio:.2f}"))
    alive = [each for each in record["rival"] if not each["died"]]
    dead = [each["rows"] for each in record["rival"] if each["died"]]
    if alive:
        last = alive[-1]
        shown = f"{last['rows']:,} impressions in {last['seconds']:.1f} s, {last['mb']:.0f} MiB"
        shown += f"; out of memory at {dead[0]:,}" if dead else ""
        rows.append((f"Open Bandit Pipeline on {ITEMS:,} items, data held to {RIVAL_GIB} GiB", shown))
    return rows


def make(path: Path, rows: int) -> None:
    """Writes a log; its policies choose a cluster by the user's segment, and an item of it by popularity."""
    rng = np.random.default_rng(rows)
    taste = rng.normal(size=(2, SEGMENTS, CLUSTERS))
    cluster = np.exp(0.5 * taste[0]), np.exp(0.5 * taste[0] + 0.5 * taste[1])
    chance = [each / each.sum(axis=1, keepdims=True) for each in cluster]
    size = ITEMS // CLUSTERS
    popular = 1 / (10.0 + np.arange(size))
    popular /= popular.sum()
    earns = rng.uniform(0.02, 0.3, (SEGMENTS, CLUSTERS))
    path.parent.mkdir(parents=True, exist_ok=True)
    aside, writer = path.with_suffix(".part"), None
    for first in range(0, rows, BATCH):
        requests = np.arange(first, min(first + BATCH, rows), SLOTS) // SLOTS
        user = np.repeat(rng.integers(0, max(1, rows // (2 * SLOTS)), len(requests)), SLOTS)
        table = _batch(rng, np.repeat(requests, SLOTS), user, chance, popular, earns)
        writer = writer or pq.ParquetWriter(aside, table.schema)
        writer.write_table(table)
    writer.close()
    aside.rename(path)


def _batch(rng, request, user, chance, popular, earns) -> pa.Table:
    segment, count, size = user % SEGMENTS, len(user), len(popular)
    cluster = (chance[0].cumsum(axis=1)[segment] < rng.random((count, 1))).sum(axis=1).clip(max=CLUSTERS - 1)
    within = np.searchsorted(popular.cumsum(), rng.random(count)).clip(max=size - 1)
    expected = 0.8 * (chance[1] * earns).sum(axis=1)  # of a model that is a fifth too low
    return pa.table(
        {
            "user_id": user,
            "request_id": request,
            "position": np.tile(np.arange(SLOTS, dtype=np.int32), count // SLOTS),
            "item": (cluster * size + within).astype(np.int32),
            "propensity": chance[0][segment, cluster] * popular[within],
            "candidate": chance[1][segment, cluster] * popular[within],
            "q_logged": 0.8 * earns[segment, cluster],
            "q_expected": expected[segment],
            "q_expected_now": 0.8 * (chance[0] * earns).sum(axis=1)[segment],
            "label": (rng.random(count) < earns[segment, cluster]).astype(np.int8),
        }
    )


def replayed(path: str) -> dict:
    """Replays a log as a user would: batches, sums, diagnostics, verdict."""
    from evaluation.replay.diagnostics.diagnostic import Evidence
    from evaluation.replay.diagnostics.registry import diagnose
    from evaluation.replay.estimators.registry import make_estimator
    from evaluation.replay.intervals.linearised import Linearised
    from evaluation.replay.sums import UserSums
    from evaluation.replay.verdicts.verdict import compare

    begin, strata = time.perf_counter(), []
    estimators = [make_estimator(name) for name in ESTIMATORS]
    sums = UserSums.merged(_parts(path, estimators, strata))
    slots = strata[0].merge(*strata[1:])
    outcomes = {}
    for estimator in estimators:
        evidence = [Evidence(sums.policy(name), estimator, {"slot": slots}) for name in sums.policies]
        found = [each for one in evidence for each in diagnose(one)]
        outcomes[estimator.key] = compare(sums, "candidate", "baseline", estimator, Linearised(), found).outcome
    seconds = time.perf_counter() - begin
    return {"seconds": seconds, "mb": peak_mb(), "users": len(sums.users), "outcomes": outcomes}


def _parts(path: str, estimators: list, strata: list) -> Iterator:
    from evaluation.replay.diagnostics.strata import StrataSums
    from evaluation.replay.log_table import LogColumns, logged_from_table
    from evaluation.replay.sums import UserSums

    columns = LogColumns(
        policies={"candidate": "candidate", "baseline": "propensity"},
        optional={
            "q_logged": {"candidate": "q_logged", "baseline": "q_logged"},
            "q_expected": {"candidate": "q_expected", "baseline": "q_expected_now"},
        },
    )
    for batch in pq.ParquetFile(path).iter_batches(BATCH):
        log = logged_from_table(pa.Table.from_batches([batch]), columns)
        strata.append(StrataSums.of(log, log.slot, np.full(len(log), ITEMS)))
        yield UserSums.of(log, estimators)

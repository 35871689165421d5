"""The BSE store: time of a get among 100,000 users, warm, and bytes a user, by precision.

For each precision a store of random tables (m = 48, tau = 3, width 48) is built, read through once so that it is in
the page cache, and read again by users drawn at random: the record as stored (`read`: LMDB look-up and copy), and the
table that a ranker gets (`get`: the same, checksum and conversion to float32). The bytes stand beside those of the raw
history that they replace. Five passes take turns; a quantile is the median of the passes' quantiles, as a neighbour can
own a whole pass. The timer of a virtual machine costs about one get in a hundred some 20 us: it is in the p99.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from pathlib import Path

import clickmill as cm

TARGETS = {"read_p99_microseconds": 50}
BLOCK = 500
HISTORY = 1000
PASSES = 5
OPTIONS = {
    "users": (100_000, "of a store"),
    "gets": (20_000, "measured reads a precision"),
    "dim": (48, "width of an embedding"),
}


def run(options) -> dict:
    """Measures a store of each precision, one at a time: all must fit in the page cache."""
    from serving.user_stores.bse.record import PRECISIONS

    facts = {
        "cores": os.cpu_count(),
        "load_average": os.getloadavg()[0],
        "users": options.users,
        "dim": options.dim,
        "targets": TARGETS,
        "raw_history_bytes": {"ids": 4 * HISTORY, "embeddings": 4 * HISTORY * options.dim, "behaviors": HISTORY},
        "precisions": {},
    }
    options.work.mkdir(parents=True, exist_ok=True)
    for precision in PRECISIONS:
        with tempfile.TemporaryDirectory(dir=options.work) as root:
            facts["precisions"][precision] = measure(root, precision, options)
            print(precision, json.dumps(facts["precisions"][precision]), flush=True)
    return facts


def measure(root: str, precision: str, options) -> dict:
    import numpy as np
    import pyarrow as pa

    from features.items.config import SimHashConfig
    from serving.user_stores.bse.build import StoreBuilder
    from serving.user_stores.bse.record import RecordLayout

    config = SimHashConfig()
    layout = RecordLayout(config.num_groups, config.num_buckets, options.dim, precision)
    generator = np.random.default_rng(0)
    shape = (BLOCK, config.num_groups, config.num_buckets)
    sums = generator.standard_normal((*shape, options.dim), dtype=np.float32)
    counts = np.full(shape, HISTORY // config.num_buckets, np.int32)
    started = time.perf_counter()
    with StoreBuilder(root, "benchmark", layout) as builder:
        for start in range(0, options.users, BLOCK):
            size = min(BLOCK, options.users - start)
            users = pa.array([f"user {user:08d}" for user in range(start, start + size)])
            builder.writer.write(users, sums[:size], counts[:size])
        builder.publish()
    seconds = time.perf_counter() - started
    with cm.BseStore(root) as store:
        found = store.verify()
        if (found.users, found.num_faults) != (options.users, 0):
            raise AssertionError(f"the store does not hold what was written: {found}")
        drawn = [f"user {user:08d}" for user in generator.integers(0, options.users, options.gets)]
        methods = {"read": store.record, "get": store.get}
        passes = [{name: latencies(method, drawn) for name, method in methods.items()} for _ in range(PASSES)]
        disk = sum(path.stat().st_size for path in Path(root, "current").iterdir())
    timings = {
        name: {key: round(np.median([found[name][key] for found in passes]), 2) for key in passes[0][name]}
        for name in methods
    }
    return {
        **timings,
        "record_bytes": layout.num_bytes,
        "disk_bytes_per_user": round(disk / options.users),
        "writes_per_second": round(options.users / seconds),
        "share_of_raw_embeddings": round(layout.num_bytes / (4 * HISTORY * options.dim), 3),
    }


def latencies(method, users: list[str]) -> dict[str, float]:
    """Microseconds of a call: the median and the 99th percentile."""
    import numpy as np

    clock = time.perf_counter_ns
    for user in users[:1000]:
        method(user)
    taken = np.empty(len(users))
    for index, user in enumerate(users):
        started = clock()
        method(user)
        taken[index] = clock() - started
    return {
        "p50_microseconds": np.median(taken) / 1e3,
        "p99_microseconds": np.quantile(taken, 0.99) / 1e3,
    }


def figures(found: dict) -> list[tuple[str, str]]:
    figure = "; ".join(
        f"{name}: p50 {made['get']['p50_microseconds']:.0f} µs, p99 {made['get']['p99_microseconds']:.0f} µs, "
        f"{made['record_bytes']:,} bytes"
        for name, made in found["precisions"].items()
    )
    return [(f"BSE store, {found['users']:,} users, a warm `get` with decoding", figure)]

"""Whether merging requests pays: answers a second and time of a run, by requests in one run.

What a server's batching could gain at best, without its queue: as many threads as cores run an export, each run with 1
to 32 requests alike along the first dimension. A merged run saves what a call costs beside the model; it has no core
more. "Time" is that of a run: what the first of its requests waits at least. Sizes take turns; medians of rounds, as
shares of unmerged runs in the same process.
"""

from __future__ import annotations

import json
import os
import statistics
from pathlib import Path
from typing import Any

from benchmarks.processes import in_own_process

SIZES = (1, 2, 4, 8, 16, 32)
CANDIDATES = (10, 200)
OPTIONS = {
    "models": (
        ["serving_models/simulated_autoint:serving_default", "serving_models/simulated_two_tower:user_embedding"],
        "pushed models, FOLDER:SIGNATURE",
    ),
    "rounds": (7, "of which medians are taken"),
    "requests": (640, "of a size in a round"),
    "quick": (False, "one round of 64 requests, to see that it runs; nothing is recorded"),
}


def run(options) -> dict[str, Any] | None:
    """Measures each model in a process of its own; returns None where it is only a trial."""
    rounds, requests = (1, 64) if options.quick else (options.rounds, options.requests)
    found: dict[str, Any] = {}
    for each in options.models:
        folder, _, signature = each.rpartition(":")
        for name, sizes in in_own_process(measure, folder, signature, rounds, requests).items():
            found[f"{Path(folder).name} {signature}{name}"] = sizes
            print(each, name, json.dumps(sizes), flush=True)
    record = {"cores": os.cpu_count(), "load_average": os.getloadavg()[0], "rounds": rounds, "cases": found}
    if options.quick:
        print(*(f"{what}: {measured}" for what, measured in figures(record)), sep="\n")
        return None
    return record


def measure(folder: str, signature: str, rounds: int, requests: int) -> dict[str, Any]:
    """Returns for each number of candidates, and each size, `per_second` (requests) and `p50_ms` (of a run)."""
    from benchmarks.serving.in_process import Export, timed
    from benchmarks.serving.slates import merged
    from serving.saved.saved_model import resolve_version

    version = Path(resolve_version(folder))
    export, threads = Export(version, signature), os.cpu_count() or 1
    found = {}
    for name, one in single_requests(version, signature).items():
        calls = {size: export.caller(merged(one, size)) for size in SIZES}
        for call in calls.values():
            timed(call, threads, 2 * threads)
        rows = [
            {size: timed(call, threads, max(threads, requests // size)) for size, call in calls.items()}
            for _ in range(rounds)
        ]
        found[name] = {
            str(size): {
                "per_second": size * statistics.median(row[size]["per_second"] for row in rows),
                "p50_ms": statistics.median(row[size]["p50_ms"] for row in rows),
            }
            for size in SIZES
        }
    return found


def single_requests(version: Path, signature: str) -> dict[str, dict]:
    """Returns requests of one user: of each number of candidates, where the signature takes candidates."""
    from benchmarks.serving import slates
    from serving.saved.saved_model import read_spec

    tensors = slates.read_tensors(slates.warmup_request(version, signature))
    if slates.NUM_CANDIDATES not in tensors:
        return {"": {name: values[:1] for name, values in tensors.items()}}
    names = [feature.name for feature in read_spec(version).of_scope("candidate")]
    of_candidates = {each for name in names for each in (name, f"{name}_num_values")} & set(tensors)
    return {f", {count} candidates": slates.slate(tensors, of_candidates, count) for count in CANDIDATES}


def figures(found: dict[str, Any]) -> list[tuple[str, str]]:
    """Returns the rows of the figure table."""
    rows = []
    for name, sizes in found["cases"].items():
        one = sizes["1"]
        shares = [
            f"{size} merged: {each['per_second'] / one['per_second']:.2f} × the answers, "
            f"{each['p50_ms'] / one['p50_ms']:.1f} × the time"
            for size, each in sizes.items()
            if size in ("4", "32")
        ]
        rows.append(
            (f"Batching, {name}, {found['cores']} cores", f"{'; '.join(shares)} (alone {one['p50_ms']:.1f} ms)")
        )
    return rows

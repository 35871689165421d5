"""One user's list from 100,000 items through the gateway, and where its time goes; the same list as in process.

The cascade retrieves 1,000, passes 200 on and lists 10. The server is `clickmill serve` in a process of its own, on the
machine's own cores; the gateway runs in this one, without HTTP. A stage is its call: from the request's bytes to the
answer's. The gateway's share is what a request takes beside the sum of its stages. "equal" compares ids in their order,
and scores to 1e-6, with `Cascade` in process on the same requests. Shares are of one run on one machine.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.serving import servers
from benchmarks.serving.gateway_models import SIMULATION, SIZES, serving_root

CALLS = ("retrieve", "coarse", "fine")
#: Nothing is cut off: what a stage takes is measured, not what it may take.
PATIENT_MS = 60_000.0
OPTIONS = {
    "requests": (1000, "that are timed, one at a time"),
    "compared": (1000, "that are compared with the cascade in process; 0: none"),
    "callers": (4, "that ask at once, for the throughput"),
}


def run(options) -> dict[str, Any]:
    """Makes the release, and measures."""
    root = serving_root(options.work)
    asked = held_out_requests(root, options.work, max(options.requests, options.compared))
    with servers.clickmill_serve("--root", root, "--label", "latest", "--workers", os.cpu_count() or 1) as addresses:
        found = asyncio.run(_measure(root, addresses.grpc, asked, options))
    return {"cores": os.cpu_count(), "simulation": SIMULATION, "sizes": SIZES, **found}


def held_out_requests(root: Path, work: Path, count: int) -> list[dict[str, Any]]:
    """JSON requests of the test split with their histories, as the gateway takes them."""
    from features.examples.raw_sample import json_request
    from serving.gateway.schema import gateway_form
    from serving.offline.cascade_scoring import sample_requests

    cascade = in_process(root)
    tables = sample_requests(work / "raw" / "examples", work / "raw" / "behaviors", "test", cascade, count)
    rows = [row for table in tables for row in table.to_pylist()]
    return [gateway_form(json_request(row, cascade.ranker.spec)) for row in rows]


def in_process(root: Path):
    """The release's cascade in this process."""
    from serving.cascade import Cascade
    from serving.release.cascade_options import cascade_options
    from serving.release.registry import Releases

    release = Releases(root).labelled("latest")
    options = cascade_options(Releases(root), release)
    places = {name: options[name] for name in ("two_tower", "ranker", "items", "coarse", "tables")}
    return Cascade.load(**places, config=release.cascade)


async def _measure(root: Path, server: str, asked: list[dict], options) -> dict[str, Any]:
    from serving.gateway.config import GatewayConfig
    from serving.gateway.gateway import Gateway
    from serving.gateway.schema import RecommendRequest

    patient = dict.fromkeys(("lookup_ms", "retrieve_ms", "coarse_ms", "fine_ms"), PATIENT_MS)
    config = GatewayConfig(root=str(root), server=server, deadline_ms=4 * PATIENT_MS, deadlines=patient)
    gateway = await Gateway.open(config)
    try:
        if reasons := gateway.ready():
            raise SystemExit(" ".join(reasons))
        requests = [RecommendRequest(**each) for each in asked]
        for request in requests[:50]:
            await gateway.recommend(request)
        found = {"one_at_a_time": await _one_by_one(gateway, requests[: options.requests])}
        print(found, file=sys.stderr, flush=True)
        found["callers"] = options.callers
        found["per_second"] = await _at_once(gateway, requests[: options.requests], options.callers)
        found["event_loop"] = await _loop_delays(gateway, requests[:200])
        if options.compared:
            found["equal"] = await _compare(gateway, root, asked[: options.compared])
        return found
    finally:
        await gateway.close()


async def _one_by_one(gateway, requests: list) -> dict[str, Any]:
    """Percentiles of whole requests and of their parts, in milliseconds, and the gateway's share."""
    parts: dict[str, list[float]] = {name: [] for name in (*CALLS, "lookup", "whole", "gateway")}
    shares = []
    for request in requests:
        begun = time.perf_counter()
        answer = _whole(await gateway.recommend(request))
        whole = 1000 * (time.perf_counter() - begun)
        stages = sum(answer.stage_ms[name] for name in CALLS)
        for name in (*CALLS, "lookup"):
            parts[name].append(answer.stage_ms[name])
        parts["whole"].append(whole)
        parts["gateway"].append(whole - stages)
        shares.append((whole - stages) / stages)
    table = {name: _percentiles(values) for name, values in parts.items()}
    return {"requests": len(requests), "ms": table, "gateway_over_stages": statistics.median(shares)}


def _whole(answer):
    """The answer, if every stage is in it."""
    if set(answer.flags) - {"unknown_user"}:
        raise SystemExit(f"a degraded answer is not to be measured: {answer.flags}, {answer.stage_ms}")
    return answer


def _percentiles(values: list[float]) -> dict[str, float]:
    found = np.percentile(values, [50, 90, 99])
    return {name: round(float(value), 3) for name, value in zip(("p50", "p90", "p99"), found, strict=True)}


async def _at_once(gateway, requests: list, callers: int) -> float:
    """Requests a second of several callers, each of which asks again when it has its answer."""
    waiting = iter(requests)

    async def caller() -> None:
        for request in waiting:
            await gateway.recommend(request)

    begun = time.perf_counter()
    await asyncio.gather(*(caller() for _ in range(callers)))
    return round(len(requests) / (time.perf_counter() - begun), 1)


async def _loop_delays(gateway, requests: list) -> dict[str, float]:
    """By how many milliseconds the event loop comes late while one caller asks: what blocks it shows here."""
    late: list[float] = []

    async def tick() -> None:
        while True:
            begun = time.perf_counter()
            await asyncio.sleep(0.001)
            late.append(1000 * (time.perf_counter() - begun) - 1)

    ticking = asyncio.create_task(tick())
    for request in requests:
        await gateway.recommend(request)
    ticking.cancel()
    return {**_percentiles(late), "max": round(max(late), 3)}


async def _compare(gateway, root: Path, asked: list[dict]) -> dict[str, Any]:
    """How many lists are those of the cascade in process."""
    from serving.gateway.schema import RecommendRequest

    cascade = in_process(root)
    same_ids, furthest = 0, 0.0
    for number, request in enumerate(asked):
        there = _whole(await gateway.recommend(RecommendRequest(**request, k=SIZES["top_k"]))).items
        here = cascade.recommend(cascade_request(request))
        same_ids += [item.item_id for item in there] == [item.item_id for item in here]
        furthest = max(furthest, *(abs(a.score - b.score) for a, b in zip(there, here, strict=True)))
        if number % 100 == 99:
            print(number + 1, "compared", file=sys.stderr, flush=True)
    return {"requests": len(asked), "same_lists": same_ids, "largest_difference_of_scores": furthest}


def cascade_request(request: dict[str, Any]) -> dict[str, Any]:
    """A request of the gateway as one of the cascade in process."""
    return {
        "user": {"user_id": request["user"]},
        **{name: request[name] for name in ("context", "timestamp", "history")},
    }


def figures(found: dict[str, Any]) -> list[tuple[str, str]]:
    """The rows of docs/results.md."""
    ms: Callable[[str], str] = lambda name: "{p50:.1f} / {p99:.1f} ms".format(**timed["ms"][name])  # noqa: E731
    timed = found["one_at_a_time"]
    of = "gateway, 100,000 items, 1,000 → 200 → 10"
    rows = [
        (f"{of}: p50 / p99", f"{ms('whole')}; at {found['callers']} callers {found['per_second']:.0f} lists a second"),
        (f"{of}: where it goes", ", ".join(f"{name} {ms(name)}" for name in (*CALLS, "gateway"))),
        (f"{of}: the gateway over the sum of its stages", f"{timed['gateway_over_stages']:.1%}"),
    ]
    if "equal" in found:
        equal = found["equal"]
        said = (
            f"{equal['same_lists']:,} of {equal['requests']:,}, scores to {equal['largest_difference_of_scores']:.1g}"
        )
        rows.append((f"{of}: lists equal to the cascade in process", said))
    return rows

"""What it takes to take a behaviour in, beside what it takes to read a user's profile and table.

Stores of the gateway benchmark's release are built without the newest behaviours of its log. These are then appended
through a gateway in this process, one or many a request; `clickmill serve` serves the fine ranker in a process of its
own. An append ends when log, profile and table are on disk, each by a commit of its own. A get reads from the stores
that were appended to, users in the order of the events. Once all are appended the stores are compared with those of a
rebuild, record by record and bit by bit.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.serving import servers
from benchmarks.serving.gateway_models import serving_root
from benchmarks.serving.held_back import differences, hold_back

OPTIONS = {
    "singles": (2000, "behaviours that are appended one a request, and timed"),
    "each": (20, "behaviours a request, of the others"),
    "others": (8000, "behaviours that are appended so"),
}


def run(options) -> dict[str, Any]:
    """Makes the stores, appends, reads and compares."""
    root = serving_root(options.work)
    folder = Path(tempfile.mkdtemp(dir=options.work))
    try:
        count = options.singles + options.others
        appended, rebuilt, events = hold_back(root, options.work / "raw", folder, count)
        with servers.clickmill_serve(
            "--root", appended, "--label", "latest", "--workers", os.cpu_count() or 1
        ) as addresses:
            found = asyncio.run(_measure(appended, addresses.grpc, events, options))
        found["compared"] = differences(appended, rebuilt)
    finally:
        shutil.rmtree(folder)
    return {"cores": os.cpu_count(), **found}


async def _measure(root: Path, server: str, events: list, options) -> dict[str, Any]:
    from serving.gateway.config import GatewayConfig
    from serving.gateway.gateway import Gateway
    from serving.gateway.schema import BehaviorEvent, BehaviorsRequest

    posted = [BehaviorEvent(user=user, timestamp=stamp, item_id=item) for user, stamp, item in events]
    gateway = await Gateway.open(GatewayConfig(root=str(root), server=server))
    try:
        if reasons := gateway.ready():
            raise SystemExit(" ".join(reasons))

        async def timed(part: list) -> list[float]:
            taken = []
            for request in part:
                begun = time.perf_counter()
                await gateway.append_behaviors(request)
                taken.append(1000 * (time.perf_counter() - begun))
            return taken

        many = posted[: options.others]
        batches = [many[start : start + options.each] for start in range(0, len(many), options.each)]
        begun = time.perf_counter()
        per_request = await timed([BehaviorsRequest(events=each) for each in batches])
        per_second = len(many) / (time.perf_counter() - begun)
        singles = await timed([BehaviorsRequest(events=[each]) for each in posted[options.others :]])
    finally:
        await gateway.close()
    users = [event.user for event in posted[options.others :]]
    return {
        "append_ms": _percentiles(singles),
        "append_many_ms": {"each": options.each, **_percentiles(per_request)},
        "per_second": round(per_second),
        "get_ms": _reads(root, users),
    }


def _reads(root: Path, users: list) -> dict[str, dict[str, float]]:
    """Percentiles of reading a table and a profile of the users."""
    from serving.release.registry import Releases
    from serving.user_stores.bse.store import BseStore
    from serving.user_stores.profiles.store import open_profiles

    release = Releases(root).labelled("latest")
    (tables,) = release.tables
    found = {}
    stores = {
        "table": BseStore(root / tables.path, tables.version),
        "profile": open_profiles(str(root / release.profiles)),
    }
    for name, store in stores.items():
        taken = []
        with store:
            for user in users:
                begun = time.perf_counter()
                store.get(user)
                taken.append(1000 * (time.perf_counter() - begun))
        found[name] = _percentiles(taken)
    return found


def _percentiles(values: list[float]) -> dict[str, float]:
    found = np.percentile(values, [50, 99])
    return {name: round(float(value), 4) for name, value in zip(("p50", "p99"), found, strict=True)}


def figures(found: dict[str, Any]) -> list[tuple[str, str]]:
    """The rows of docs/results.md."""

    def said(ms: dict[str, float], digits: int) -> str:
        return f"{ms['p50']:.{digits}f} / {ms['p99']:.{digits}f} ms"

    get, many, compared = found["get_ms"], found["append_many_ms"], found["compared"]
    differ = compared["tables_that_differ"] + compared["profiles_that_differ"]
    return [
        (
            "behaviours, one a request, on disk in log, profile and table: p50 / p99",
            f"{said(found['append_ms'], 1)}; a get of the table {said(get['table'], 3)}, of the profile "
            f"{said(get['profile'], 3)}",
        ),
        (
            f"behaviours, {many['each']} a request: p50 / p99",
            f"{said(many, 1)}; {found['per_second']:,} behaviours a second",
        ),
        (
            "behaviours: tables and profiles after the appends, against a rebuild",
            f"{compared['tables']:,} tables and {compared['profiles']:,} profiles, {differ} differ in a bit",
        ),
    ]

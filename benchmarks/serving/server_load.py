"""The load that a server carries: callers, candidates, threads, gRPC and REST, the user sent once or repeated.

It serves what `make run` pushed. `ghz` asks by gRPC and `h2load` by REST (HTTP/1.1), a fixed number of calls in flight,
each on a connection of its own; both run on the machine's own cores, beside the server. "In process" is the same export
run by as many threads without a server, in turn with it. The server is `clickmill serve`; where `TF_SERVING_BINARY`
names TensorFlow Serving's program it is that one, and merging requests (batching) is measured too. Shares are of one
run on one machine; medians of rounds.
"""

from __future__ import annotations

import contextlib
import json
import os
import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.processes import in_own_process
from benchmarks.serving import servers, slates
from benchmarks.serving.load_tools import ask_grpc, ask_rest

CANDIDATES = (10, 200)
CALLERS = (1, 8, 32)
#: Requests that TensorFlow Serving may merge; not below the largest request that exports warm up with.
MERGED = 32
OPTIONS = {
    "model": ("serving_models/simulated_autoint", "a pushed ranker: its folder of versions"),
    "rounds": (5, "of which medians are taken"),
    "calls": (1000, "of a cell in a round"),
    "quick": (False, "one round of 100 calls, to see that it runs; nothing is recorded"),
    "grpc_only": (False, "leave REST out, as where h2load cannot be had"),
}


def run(options) -> dict[str, Any] | None:
    """Measures every cell in every round and returns their medians; None where they are only a trial."""
    from serving.saved.saved_model import resolve_version

    rounds, calls = (1, 100) if options.quick else (options.rounds, options.calls)
    export = Path(resolve_version(options.model))
    requests = write_requests(export, options.work)
    cells: dict[str, list[dict]] = {}
    for number in range(rounds):
        for name, figures_of in measure_round(export, requests, calls, not options.grpc_only):
            cells.setdefault(name, []).append(figures_of)
            print(number + 1, name, json.dumps(figures_of), file=sys.stderr, flush=True)
    record = {
        "cores": os.cpu_count(),
        "load_average": os.getloadavg()[0],
        "server": "TensorFlow Serving" if servers.binary() else "clickmill serve",
        "rounds": rounds,
        "calls": calls,
        "cells": {name: median_of(found) for name, found in cells.items()},
    }
    if options.quick:
        print(*(f"{what}: {measured}" for what, measured in figures(record)), sep="\n")
        return None
    return record


def write_requests(export: Path, work: Path) -> dict[str, Path]:
    """Writes the requests that are sent, `<name>.bin` for gRPC and `<name>.json` for REST, and returns their stems."""
    from features import storage
    from serving.deploy.descriptors import protoset
    from serving.saved.saved_model import read_spec

    tensors = slates.read_tensors(slates.warmup_request(export))
    names = [feature.name for feature in read_spec(export).of_scope("candidate")]
    of_candidates = {each for name in names for each in (name, f"{name}_num_values")} & set(tensors)
    made = {str(count): slates.slate(tensors, of_candidates, count) for count in CANDIDATES}
    made["repeated"] = slates.user_repeated(made[str(CANDIDATES[-1])], of_candidates)
    for name, each in made.items():
        request = slates.write_request(each, servers.MODEL).SerializeToString()
        storage.write_bytes(work / f"{name}.bin", request)
        storage.write_text(work / f"{name}.json", json.dumps({"inputs": slates.columnar(each)}))
    storage.write_bytes(work / "tf_serving.protoset", protoset().SerializeToString())
    return {name: work / name for name in made}


def measure_round(export: Path, requests: dict[str, Path], calls: int, rest: bool):
    """Yields the name of each cell and its figures."""
    most = str(CANDIDATES[-1])
    for size in map(str, CANDIDATES):
        found = in_own_process(_in_process, export, requests[size].with_suffix(".bin"), json.dumps(CALLERS), calls)
        yield from ((f"in process, {size} candidates, {callers} callers", each) for callers, each in found.items())
    workers = 4 * (os.cpu_count() or 1)
    with server(export.parent, workers) as addresses:
        ask = asker(addresses, requests, calls)
        for size in map(str, CANDIDATES):
            for callers in CALLERS:
                for api in ("gRPC", "REST") if rest else ("gRPC",):
                    yield f"{api}, {size} candidates, {callers} callers", ask(api, size, callers)
        yield "gRPC, user repeated, 1 callers", ask("gRPC", "repeated", 1)
    if servers.binary():
        with servers.tensorflow_serving(export.parent, max(CALLERS), MERGED) as addresses:
            ask = asker(addresses, requests, calls)
            for size in map(str, CANDIDATES):
                for callers in CALLERS[1:]:
                    yield f"gRPC, {size} candidates, {callers} callers, batching", ask("gRPC", size, callers)
    else:
        for fewer in sorted({1, os.cpu_count() or 1}):
            with server(export.parent, fewer) as addresses:
                figures_of = asker(addresses, requests, calls)("gRPC", most, CALLERS[1])
                yield f"gRPC, {most} candidates, {CALLERS[1]} callers, {fewer} workers", figures_of


def _in_process(export: str, request: str, callers: str, calls: int) -> dict[str, Any]:
    from benchmarks.serving.in_process import time_request

    return time_request(export, request, callers, calls)


def server(base: Path, workers: int) -> contextlib.AbstractContextManager[servers.Addresses]:
    """Returns the server that is measured, not started yet."""
    if servers.binary():
        return servers.tensorflow_serving(base, max(CALLERS))
    return servers.embedded(base, workers, 2 * max(CALLERS))


def asker(addresses: servers.Addresses, requests: dict[str, Path], calls: int) -> Callable[..., dict[str, Any]]:
    """Returns what asks a server, after a few calls that are not counted."""

    def ask(api: str, request: str, callers: int) -> dict[str, Any]:
        stem = requests[request]

        def some(count: int) -> dict[str, Any]:
            if api == "gRPC":
                protoset = stem.parent / "tf_serving.protoset"
                return ask_grpc(addresses.grpc, stem.with_suffix(".bin"), protoset, callers, count)
            url = f"http://{addresses.rest}/v1/models/{servers.MODEL}:predict"
            return ask_rest(url, stem.with_suffix(".json"), callers, count)

        some(max(callers, calls // 10))
        return some(calls)

    return ask


def median_of(found: list[dict]) -> dict[str, Any]:
    """Returns the medians of a cell's rounds; failed calls are added up."""
    errors: dict[str, int] = {}
    for each in found:
        for code, count in each.get("errors", {}).items():
            errors[code] = errors.get(code, 0) + count
    values = {
        name: statistics.median(numbers)
        for name in ("per_second", "p50_ms", "p99_ms")
        if (numbers := [each[name] for each in found if each[name] is not None])
    }
    return values | ({"errors": errors} if errors else {})


def figures(found: dict[str, Any]) -> list[tuple[str, str]]:
    """Returns the rows of the figure table."""
    cells, most = found["cells"], CANDIDATES[-1]
    what = f"{found['server']}, {most} candidates"
    rows = [(f"{what}, 1 caller: p50 over in process", _over(cells, f"{most} candidates, 1 callers", "p50_ms"))]
    for callers in CALLERS[1:]:
        of = f"{most} candidates, {callers} callers"
        rows.append((f"{what}, {callers} callers: answers a second over in process", _over(cells, of, "per_second")))
    once, repeated = (cells[f"gRPC, {which}, 1 callers"]["p50_ms"] for which in (f"{most} candidates", "user repeated"))
    told = f"{repeated / once:.1f} × the time of sending it once ({once:.1f} ms)"
    rows.append((f"{what}, gRPC, the user sent with every candidate", told))
    for name, cell in cells.items():
        if name.endswith((" workers", " batching")):
            plain = cells[name.rpartition(",")[0]]["per_second"]
            rows.append((f"{found['server']}, {name}", f"{cell['per_second'] / plain:.2f} × the answers a second"))
    failed = sum(sum(cell.get("errors", {}).values()) for cell in cells.values())
    return [*rows, (f"{found['server']}, calls that failed, of all cells", f"{failed:,}")]


def _over(cells: dict[str, dict], of: str, figure: str) -> str:
    """A figure of each API over the one without a server, and where it stands in one."""
    base = cells[f"in process, {of}"][figure]
    unit = "ms" if figure == "p50_ms" else "/s"
    shares = [
        f"{api} {cells[f'{api}, {of}'][figure] / base:.2f}" for api in ("gRPC", "REST") if f"{api}, {of}" in cells
    ]
    return f"{', '.join(shares)} (in process {base:,.1f} {unit})"

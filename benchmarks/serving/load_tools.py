"""`ghz` and `h2load`, which ask a server and time its answers: installed once below data/tools/, and what they say.

Each asks with a fixed number of calls in flight, each on a connection of its own, and sends the next when one returns.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import statistics
import subprocess
import tempfile
from pathlib import Path
from typing import Any

TOOLS = Path("data/tools")
GHZ = "github.com/bojand/ghz/cmd/ghz@v0.93.0"
#: Debian's packages of h2load and of the libraries that a machine may lack.
H2LOAD = ("nghttp2-client", "libnghttp2-14", "libev4", "libjemalloc2", "libjansson4")
PREDICT = "tensorflow.serving.PredictionService/Predict"
#: Seconds after which a call counts as failed.
CALL_S = 10


def ghz() -> Path:
    """Returns the program, built with `go install` where it is missing."""
    folder = (TOOLS / "bin").absolute()
    program = folder / "ghz"
    if not program.exists():
        if not shutil.which("go"):
            raise SystemExit(
                "ghz is built by Go, which is not on PATH: install it, or ask by REST alone (--rest-only)."
            )
        print("installing", GHZ, flush=True)
        subprocess.run(["go", "install", GHZ], env=os.environ | {"GOBIN": str(folder)}, check=True)
    return program


def h2load() -> tuple[Path, dict[str, str]]:
    """Returns the program and its environment; Debian's packages are unpacked, not installed, where it is missing."""
    if found := shutil.which("h2load"):
        return Path(found), {}
    folder = TOOLS / "h2load"
    if not (folder / "usr" / "bin" / "h2load").exists():
        print("unpacking", *H2LOAD, flush=True)
        with tempfile.TemporaryDirectory() as packages:
            subprocess.run(["apt-get", "download", "--quiet", *H2LOAD], cwd=packages, check=True)
            for package in Path(packages).glob("*.deb"):
                subprocess.run(["dpkg-deb", "--extract", package, folder], check=True)
    libraries = [str(path.absolute()) for path in (folder / "usr" / "lib").glob("*-linux-gnu")]
    return folder / "usr" / "bin" / "h2load", {"LD_LIBRARY_PATH": ":".join(libraries)}


def ask_grpc(address: str, request: Path, protoset: Path, callers: int, calls: int) -> dict[str, Any]:
    """Calls `Predict` and returns what came of it.

    Args:
      address: `host:port`.
      request: file of a serialized `PredictRequest`.
      protoset: descriptors of TensorFlow Serving's API.
      callers: calls in flight.
      calls: in all.

    Returns:
      `per_second` answers, `p50_ms`, `p99_ms`, and `errors`, by code.
    """
    command = [
        *(ghz(), "--insecure", "--protoset", protoset, "--call", PREDICT, "--binary-file", request),
        *("--total", calls, "--concurrency", callers, "--connections", callers, "--timeout", f"{CALL_S}s"),
        *("--format", "json", address),
    ]
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=True)
    return of_ghz(json.loads(done.stdout))


def of_ghz(found: dict[str, Any]) -> dict[str, Any]:
    """Returns the figures of a report of ghz in JSON; its latencies are of the answers alone."""
    codes = found["statusCodeDistribution"]
    answered = codes.get("OK", 0)
    at = {each["percentage"]: each["latency"] / 1e6 for each in found.get("latencyDistribution") or ()}
    return {
        "per_second": answered / (found["total"] / 1e9),
        "p50_ms": at.get(50),
        "p99_ms": at.get(99),
        "errors": {code: count for code, count in codes.items() if code != "OK"},
    }


def ask_rest(url: str, body: Path, callers: int, calls: int) -> dict[str, Any]:
    """Posts a file of JSON; the arguments and what is returned are as of `ask_grpc`."""
    program, environment = h2load()
    with tempfile.NamedTemporaryFile(suffix=".tsv") as log:
        command = [
            *(program, "--h1", "--requests", calls, "--clients", callers, "--data", body, "--log-file", log.name),
            *("--header", "content-type: application/json", "--connection-active-timeout", f"{60 * CALL_S}s", url),
        ]
        command = [str(part) for part in command]
        done = subprocess.run(command, capture_output=True, text=True, check=True, env=os.environ | environment)
        return of_h2load(done.stdout, Path(log.name).read_text(encoding="utf-8"))


def of_h2load(printed: str, log: str) -> dict[str, Any]:
    """Returns the figures of a run of h2load.

    Args:
      printed: on its standard output; only the time it took is read.
      log: a line a request: when it began, its status, its microseconds.
    """
    took = re.search(r"finished in ([\d.]+)(us|ms|s|m|h)?,", printed)
    seconds = float(took[1]) * {"us": 1e-6, "ms": 1e-3, "s": 1, "m": 60, "h": 3600}[took[2] or "s"]
    rows = [line.split("\t") for line in log.splitlines()]
    ms = sorted(int(row[2]) / 1e3 for row in rows if row[1] == "200")
    errors: dict[str, int] = {}
    for row in rows:
        if row[1] != "200":
            errors[row[1]] = errors.get(row[1], 0) + 1
    return {
        "per_second": len(ms) / seconds,
        "p50_ms": statistics.median(ms) if ms else None,
        "p99_ms": ms[min(len(ms) - 1, int(0.99 * len(ms)))] if ms else None,
        "errors": errors,
    }

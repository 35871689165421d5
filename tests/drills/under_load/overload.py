"""Four times what the server can answer, for a minute: `python -m tests.drills.under_load.overload --seconds 60`.

The server runs in a process of its own, one worker a core. First its capacity is measured: answers a second to as many
callers as it has places. Then calls come at a multiple of that, whatever becomes of them, each with a deadline. Those
that are taken must be answered by it, the others refused with RESOURCE_EXHAUSTED at once; memory stays as it is, and
a second after the last call the server answers as if nothing had been.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from benchmarks.serving.servers import clickmill_serve
from tests.drills.under_load.calls import Call, Caller, call_at, call_for, percentile
from tests.drills.under_load.models import save_spin
from tests.serving.server.serving_case import predict_request

DEADLINE_S = 1.0
#: Of a call alone, about.
CALL_S = 0.01
#: Seconds that a queue is to hold: what is taken waits so long at most, well within its deadline.
QUEUE_S = 0.3
REFUSED_MS = 10.0
RECOVERED_S = 1.0
GIVEN_UP_S = 10.0
#: Growth of the memory within a minute of overload that passes for none.
FLAT = 1.05


def spin_request(rounds: int) -> Any:
    """A request whose time grows with `rounds`."""
    return predict_request("spin", n=np.int64(rounds))


def rounds_of(address: str) -> int:
    """The rounds that take `CALL_S` here."""
    caller, rounds = Caller(address, 60.0), 2_000
    caller.call(spin_request(rounds))
    took = min(caller.call(spin_request(rounds)).ms for _ in range(20)) / 1e3
    caller.close()
    return max(1, int(rounds * CALL_S / took))


class Memory(threading.Thread):
    """The resident memory of a process, looked at every half second.

    Attributes:
      mb: what was found, MiB.
    """

    def __init__(self, pid: int):
        super().__init__(daemon=True)
        self._process, self._ended = psutil.Process(pid), threading.Event()
        self.mb: list[float] = []

    def run(self) -> None:
        while not self._ended.wait(0.5):
            self.mb.append(self._process.memory_info().rss / 2**20)

    def end(self) -> list[float]:
        self._ended.set()
        self.join()
        return self.mb


def recovery_s(address: str, request: Any, usual_ms: float, deadline_s: float) -> float:
    """Seconds from now until calls are answered in twice their usual time again, ten in a row; at most `GIVEN_UP_S`."""
    caller, begun, row = Caller(address, deadline_s), time.monotonic(), 0
    since = begun
    while row < 10 and time.monotonic() - begun < GIVEN_UP_S:
        call = caller.call(request)
        quick = call.code == "OK" and call.ms <= 2 * usual_ms
        since = since if quick and row else call.begun
        row = row + 1 if quick else 0
    caller.close()
    return since - begun


def overload(seconds: float, times: float) -> dict[str, Any]:
    """Serves a model by as many workers as cores, and overloads it; returns what `overload_server` does."""
    workers = os.cpu_count() or 1
    with tempfile.TemporaryDirectory() as work:
        save_spin(Path(work) / "spin" / "1")
        queue = int(QUEUE_S * workers / CALL_S)
        options = ("--model", f"spin={work}/spin", "--workers", workers, "--queue", queue, "--no-reload")
        with clickmill_serve(*options) as addresses:
            return overload_server(addresses.grpc, addresses.pid, seconds, times)


def overload_server(
    address: str, pid: int, seconds: float, times: float, deadline_s: float = DEADLINE_S
) -> dict[str, Any]:
    """Measures the capacity of a server of `spin`, overloads it, and returns what was seen.

    Args:
      address: `host:port`.
      pid: number of its process, whose memory is looked at.
      seconds: of overload.
      times: the capacity.
      deadline_s: of each call.
    """
    request = spin_request(rounds_of(address))
    measured_s = max(1.0, seconds / 6)
    alone = call_for(address, request, measured_s / 2, 1, deadline_s)
    steady = call_for(address, request, measured_s, 2 * (os.cpu_count() or 1), deadline_s)
    capacity = sum(call.code == "OK" for call in steady) / measured_s
    memory = Memory(pid)
    memory.start()
    calls = call_at(address, request, times * capacity, seconds, deadline_s)
    recovered = recovery_s(address, request, percentile(alone, 0.95), deadline_s)
    return {"capacity": capacity, "recovery_s": recovered, "mb": memory.end(), **_ends(calls, seconds)}


def _ends(calls: list[Call], seconds: float) -> dict[str, Any]:
    answered = [call for call in calls if call.code == "OK"]
    refused = [call for call in calls if call.code == "RESOURCE_EXHAUSTED"]
    return {
        "codes": dict(Counter(call.code for call in calls)),
        "offered": len(calls) / seconds,
        "answered": len(answered) / seconds,
        "answered_p50_ms": percentile(answered, 0.5),
        "answered_p99_ms": percentile(answered, 0.99),
        "refused_p50_ms": percentile(refused, 0.5),
        "refused_p99_ms": percentile(refused, 0.99),
    }


def growth(mb: list[float]) -> float:
    """The memory at the end over that at the beginning, thirds of the time; 1 where there is too little to say."""
    third = len(mb) // 3
    return float(np.mean(mb[-third:]) / np.mean(mb[:third])) if third else 1.0


def faults(found: dict[str, Any]) -> list[str]:
    """What must not be, whatever the machine: other codes than OK and RESOURCE_EXHAUSTED, or only one of the two."""
    codes = set(found["codes"])
    wrong = {code: count for code, count in found["codes"].items() if code not in ("OK", "RESOURCE_EXHAUSTED")}
    told = [f"calls ended by {wrong}"] if wrong else []
    return told + [f"no call ended by {code}" for code in ("OK", "RESOURCE_EXHAUSTED") if code not in codes]


def late(found: dict[str, Any]) -> list[str]:
    """What must not be on a machine that does nothing else."""
    told = []
    if found["refused_p99_ms"] > REFUSED_MS:
        told.append(f"refusals took {found['refused_p99_ms']:.1f} ms (p99)")
    if found["recovery_s"] > RECOVERED_S:
        told.append(f"it took {found['recovery_s']:.1f} s to recover")
    if growth(found["mb"]) > FLAT:
        told.append(f"its memory grew {growth(found['mb']):.2f} times")
    return told


def main(argv: list[str] | None = None) -> int:
    """Runs the drill; returns 1 if something did not hold."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--times", type=float, default=4.0, help="the capacity")
    options = parser.parse_args(argv)
    found = overload(options.seconds, options.times)
    print(
        f"capacity {found['capacity']:.0f}/s; offered {found['offered']:.0f}/s for {options.seconds:.0f} s: "
        f"{found['codes']}\nanswered {found['answered']:.0f}/s in {found['answered_p50_ms']:.0f} ms (p99 "
        f"{found['answered_p99_ms']:.0f}, deadline {1e3 * DEADLINE_S:.0f}); refused in {found['refused_p50_ms']:.1f} "
        f"ms (p99 {found['refused_p99_ms']:.1f})\nmemory {found['mb'][0]:.0f} MiB, × {growth(found['mb']):.3f}; "
        f"recovered after {found['recovery_s']:.2f} s"
    )
    told = faults(found) + late(found)
    print(*(f"FAULT: {each}" for each in told), sep="\n")
    return bool(told)


if __name__ == "__main__":
    sys.exit(main())

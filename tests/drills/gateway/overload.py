"""Four times as many requests as the gateway can answer: `python -m tests.drills.gateway.overload --seconds 60`.

What it can answer is measured first, by as many callers as it works on requests at a time. Then requests come by the
clock, at a multiple of that, whatever becomes of those before. Each must be answered before its deadline, or plainly
refused (429, 503, 504, with a message and Retry-After where it is worth trying again), and the gateway's memory must
not grow with the time that this lasts.
"""

from __future__ import annotations

import argparse
import asyncio
import math
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from tests.drills.gateway.http_load import Answer, Caller
from tests.drills.gateway.stand import command_stand, made_root

_REFUSALS = {429: "too_many_requests", 503: "unavailable", 504: "deadline_exceeded"}
_USERS = 30
#: Memory is looked at so often.
_LOOK_S = 0.5


@dataclass
class Overload:
    """What became of the requests.

    Attributes:
      capacity: requests a second that were answered before.
      offered: requests a second that came.
      statuses: how many ended by which.
      seconds: that the answers took, by the caller's clock.
      refused_seconds: that the refusals took.
      resident: bytes of the gateway's process, look by look.
    """

    capacity: float = 0.0
    offered: float = 0.0
    statuses: dict[int, int] = field(default_factory=dict)
    seconds: list[float] = field(default_factory=list)
    refused_seconds: list[float] = field(default_factory=list)
    resident: list[int] = field(default_factory=list)

    def note(self, answer: Answer) -> None:
        """Counts an answer. Raises `AssertionError` where it is neither a list nor a plain refusal."""
        self.statuses[answer.status] = self.statuses.get(answer.status, 0) + 1
        if answer.status == 200:
            assert answer.body["items"] and answer.body["release"], answer.body
            self.seconds.append(answer.seconds)
            return
        error = answer.body["error"]
        assert error["code"] == _REFUSALS.get(answer.status) and error["message"], f"HTTP {answer.status}: {error}"
        assert answer.retry_after == (answer.status != 504)
        self.refused_seconds.append(answer.seconds)

    def told(self) -> str:
        """The figures, a line each."""
        took, refused = quantiles(self.seconds), quantiles(self.refused_seconds)
        statuses, mib = dict(sorted(self.statuses.items())), self.resident[-1] / 2**20
        return "\n".join(
            [
                f"capacity {self.capacity:.0f}/s, offered {self.offered:.0f}/s, statuses {statuses}",
                f"answers: p50 {took[0]:.0f} ms, p99 {took[1]:.0f} ms, most {took[2]:.0f} ms",
                f"refusals: p50 {refused[0]:.1f} ms, p99 {refused[1]:.1f} ms, most {refused[2]:.1f} ms",
                f"memory: {mib:.0f} MiB, {self.growth() / 2**20:+.1f} MiB from the second third to the last",
            ]
        )

    def growth(self) -> float:
        """Bytes by which the memory's mean grew from the second third of the looks to the last."""
        third = max(1, len(self.resident) // 3)
        middle, last = self.resident[third : 2 * third] or self.resident, self.resident[-third:]
        return sum(last) / len(last) - sum(middle) / len(middle)


def quantiles(seconds: list[float]) -> tuple[float, float, float]:
    """Median, 99th percentile and maximum in milliseconds; zeros of nothing."""
    if not seconds:
        return 0.0, 0.0, 0.0
    ordered = sorted(seconds)
    return tuple(1000 * ordered[min(len(ordered) - 1, math.floor(q * len(ordered)))] for q in (0.5, 0.99, 1.0))


async def drill(
    port: int, resident: Callable[[], int], concurrent: int, seconds: float, times: float = 4.0, measured_s: float = 5.0
) -> Overload:
    """Measures the capacity, then offers a multiple of it.

    Args:
      port: of the gateway.
      resident: says how much memory it holds.
      concurrent: callers by which the capacity is measured.
      seconds: that the overload lasts.
      times: the multiple.
      measured_s: seconds that measuring takes.

    Raises:
      AssertionError: if a request ends otherwise than by a list or a plain refusal.
    """
    found, caller = Overload(), Caller(port)
    found.capacity = await capacity(caller, concurrent, measured_s)
    found.offered = times * found.capacity
    begun, tasks, number, looked = time.monotonic(), set(), 0, 0.0
    while (now := time.monotonic() - begun) < seconds:
        while number < now * found.offered:
            tasks.add(asyncio.create_task(_ask(caller, found, number)))
            number += 1
        for task in [task for task in tasks if task.done()]:
            tasks.discard(task)
            task.result()
        if now >= looked:
            found.resident.append(resident())
            looked += _LOOK_S
        await asyncio.sleep(0.005)
    await asyncio.gather(*tasks)
    await caller.close()
    return found


async def _ask(caller: Caller, found: Overload, number: int) -> None:
    found.note(await caller.post("/v1/recommend", {"user": f"u{number % _USERS:07d}", "k": 5}))


async def capacity(caller: Caller, concurrent: int, seconds: float) -> float:
    """Requests a second that are answered to so many callers, each of whom asks again once it has its answer."""

    async def ask(number: int) -> int:
        answered = 0
        while time.monotonic() < until:
            answer = await caller.post("/v1/recommend", {"user": f"u{number % _USERS:07d}", "k": 5})
            answered += answer.status == 200
            number += concurrent
        return answered

    for warm in range(10):
        await caller.post("/v1/recommend", {"user": f"u{warm:07d}", "k": 5})
    begun = time.monotonic()
    until = begun + seconds
    counts = await asyncio.gather(*(ask(number) for number in range(concurrent)))
    return sum(counts) / (time.monotonic() - begun)


def main(argv: list[str] | None = None) -> int:
    """Runs the drill; returns 1 if an answer came after the deadline, or memory grew."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--times", type=float, default=4.0)
    parser.add_argument("--deadline", type=float, default=500.0, help="milliseconds")
    parser.add_argument("--work", type=Path, help="where the releases are made, and found the next time")
    options = parser.parse_args(argv)
    with made_root(options.work) as (root, _), command_stand(root, "--deadline", str(options.deadline)) as stand:
        found = asyncio.run(drill(stand.port, stand.resident_bytes, 8, options.seconds, options.times))
    print(found.told())
    late = sum(1000 * each > options.deadline for each in found.seconds)
    grown = found.growth() > max(16 * 2**20, 0.03 * found.resident[-1])
    print(f"{late} of {len(found.seconds)} answers after {options.deadline:g} ms by the caller's clock")
    return int(late > 0.001 * len(found.seconds) or grown)


if __name__ == "__main__":
    sys.exit(main())

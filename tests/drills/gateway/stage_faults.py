"""Each stage of the gateway stopped and frozen in turn, and the whole server frozen and killed, while callers ask.

    python -m tests.drills.gateway.stage_faults [--requests 300] [--callers 4]

Trains nothing: the small cascade of the tests, served by `clickmill serve` in a process of its own. Prints a table of
what was asked, and ends by 1 where an answer lacks its flags, is not the list that the rules give, or where the p99 of
the answers is beyond the deadline.
"""

from __future__ import annotations

import argparse
import asyncio
import functools
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks.serving import servers
from serving.gateway.config import GatewayConfig
from serving.gateway.gateway import Gateway
from serving.gateway.schema import Flag, RecommendRequest
from serving.release.registry import Releases
from serving.requests.json_request import row_from_request
from tests.builders import cascade_example
from tests.serving.gateway import gateway_case

NOW = 1_700_000_000_000
FLAGS = {
    "two_tower": {Flag.RETRIEVAL_FAILED, Flag.POPULAR_ITEMS},
    "hcn": {Flag.COARSE_FAILED},
    "autoint": {Flag.FINE_FAILED},
}
USERS = 40


class Drill:
    """Asks, judges and tells.

    Args:
      root: the serving root.
      gateway: that is asked.
      requests, callers: how many.
    """

    def __init__(self, root: Path, gateway: Gateway, requests: int, callers: int):
        self._gateway, self._requests, self._callers = gateway, requests, callers
        self._cascade = gateway_case.cascade_of(root, Releases(root).labelled("latest"))
        self._lists: dict[tuple[str, frozenset[str]], list[str]] = {}
        self.failed = False

    async def ask(self, what: str, broken: set[str], *, judged: bool = True) -> None:
        """Asks while models are broken; not judged: while they break or mend, where only the deadline holds."""
        milliseconds: list[float] = []
        wrong = 0
        numbers = iter(range(self._requests))

        async def caller() -> None:
            nonlocal wrong
            for number in numbers:
                user = f"u{number % USERS}"
                begun = time.perf_counter()
                answer = await self._gateway.recommend(RecommendRequest(user=user, k=5, timestamp=NOW))
                milliseconds.append(1000 * (time.perf_counter() - begun))
                flags = set(answer.flags) - {Flag.UNKNOWN_USER, Flag.DEADLINE}
                right = flags == set().union(*(FLAGS[name] for name in broken))
                wrong += not (right and [item.item_id for item in answer.items] == self._expected(user, broken))

        await asyncio.gather(*(caller() for _ in range(self._callers)))
        p50, p99, worst = np.percentile(milliseconds, [50, 99, 100])
        late = p99 > self._gateway.config.deadline_ms
        self.failed |= late or bool(judged and wrong)
        told = f"{wrong} wrong" if judged else "not judged"
        print(
            f"{what:36} {len(milliseconds):5} answers, {told:11} p50 {p50:7.1f} ms, p99 {p99:7.1f} ms, "
            f"worst {worst:7.1f} ms {'LATE' if late else ''}",
            flush=True,
        )

    def _expected(self, user: str, broken: set[str]) -> list[str]:
        key = user, frozenset(broken)
        if key not in self._lists:
            asked = {"user": {"user_id": user}, "timestamp": NOW}
            row = row_from_request(self._cascade.ranker.spec, asked, candidates=False)
            popular = self._gateway._releases.followed.popular
            self._lists[key] = gateway_case.list_without(self._cascade, row, popular, broken)
        return self._lists[key]

    def prepare(self, *broken: set[str]) -> None:
        """Makes the lists that are expected beforehand: that is not to be timed."""
        for some in broken:
            for number in range(USERS):
                self._expected(f"u{number}", some)


async def drill(root: Path, requests: int, callers: int) -> bool:
    """Runs everything; returns whether it held."""
    everything = set(gateway_case.STAGES)
    with (
        servers.clickmill_serve("--root", root, "--label", "latest", "--workers", 2) as addresses,
        gateway_case.faulty(addresses.grpc) as (server, address),
    ):
        of_stages = await Gateway.open(GatewayConfig(root=str(root), server=address))
        of_server = await Gateway.open(GatewayConfig(root=str(root), server=addresses.grpc))
        try:
            told = Drill(root, of_stages, requests, callers)
            told.prepare(set(), everything, *({name} for name in everything))
            await told.ask("the first", set(), judged=False)
            await told.ask("all is well", set())
            for name in gateway_case.STAGES:
                for fault in ("fail", "freeze"):
                    server.faults = {name: fault}
                    await told.ask(f"{name}: {fault}", {name})
                    server.thaw()
            await told.ask("all is well again", set())
            whole = Drill(root, of_server, requests, callers)
            whole._lists = told._lists
            await _whole_server(whole, functools.partial(os.kill, addresses.pid), everything)
            return not (told.failed or whole.failed)
        finally:
            await of_stages.close()
            await of_server.close()


async def _whole_server(told: Drill, send: Callable[[int], None], everything: set[str]) -> None:
    await told.ask("the server itself: all is well", set())
    send(signal.SIGSTOP)
    await told.ask("the server: frozen (SIGSTOP)", everything)
    send(signal.SIGCONT)
    await asyncio.sleep(2)
    await told.ask("the server: thawed (SIGCONT)", set())
    send(signal.SIGKILL)
    await asyncio.sleep(0.2)
    await told.ask("the server: killed (SIGKILL)", everything)


def main() -> None:
    """Makes the cascade and runs the drill."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=300, help="of each state")
    parser.add_argument("--callers", type=int, default=4, help="that ask at once")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="clickmill-") as folder:
        work, root = Path(folder), Path(folder) / "serving"
        _, encoded, encoding = cascade_example.make_log(work)
        cascade_example.export_models(encoded, encoding, work)
        gateway_case.publish(work, root, gateway_case.push_models(work, root))
        held = asyncio.run(drill(root, options.requests, options.callers))
    sys.exit(0 if held else 1)


if __name__ == "__main__":
    main()

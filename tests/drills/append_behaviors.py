"""10,000 behaviours through a gateway and a served ranker: the stores are, bit for bit, those of a rebuild.

    python -m tests.drills.append_behaviors --work WORK [--events 10000] [--seed 0]

WORK is that of `python -m benchmarks gateway`, which makes a release of a whole cascade in it. Stores are built of its
log without the newest behaviours, as of its end; these come in requests of 1 to 20, some late and some twice.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import tempfile
import time
from pathlib import Path

import models  # noqa: F401  sets the Keras of the project before TensorFlow is imported
from benchmarks.serving.held_back import deliveries, differences, hold_back


async def append_all(root: Path, server: str, requests: list) -> int:
    """Sends requests one after another; returns how many events were new when they came."""
    from serving.gateway.config import GatewayConfig
    from serving.gateway.gateway import Gateway
    from serving.gateway.schema import BehaviorsRequest

    gateway = await Gateway.open(GatewayConfig(root=str(root), server=server))
    try:
        if reasons := gateway.ready():
            raise SystemExit(" ".join(reasons))
        answers = [await gateway.append_behaviors(BehaviorsRequest(events=each)) for each in requests]
        return sum(answer.appended for answer in answers)
    finally:
        await gateway.close()


def main() -> None:
    from benchmarks.serving import servers
    from benchmarks.serving.gateway_models import serving_root

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--events", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    release_root = serving_root(options.work)
    folder = Path(tempfile.mkdtemp(dir=options.work))
    try:
        appended, rebuilt, events = hold_back(release_root, options.work / "raw", folder, options.events)
        requests = list(deliveries(events, options.seed))
        with servers.clickmill_serve(
            "--root", appended, "--label", "latest", "--workers", os.cpu_count() or 1
        ) as addresses:
            begun = time.perf_counter()
            new = asyncio.run(append_all(appended, addresses.grpc, requests))
            seconds = time.perf_counter() - begun
        sent = sum(map(len, requests))
        found = {"events": len(events), "sent": sent, "new": new, "seconds": round(seconds, 1)}
        found |= differences(appended, rebuilt)
    finally:
        shutil.rmtree(folder)
    print(json.dumps(found, indent=1))
    if found["tables_that_differ"] or found["profiles_that_differ"]:
        raise SystemExit("the stores are not those of a rebuild.")


if __name__ == "__main__":
    main()

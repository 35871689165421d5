"""Any bodies to the gateway: `python -m tests.drills.gateway.fuzz_gateway --bodies 80000 --schemathesis 5000`.

Bodies come from two sources: from Hypothesis (right ones, nearly right ones, mutations, any bytes), and from
Schemathesis, which reads the gateway's own OpenAPI page and holds each answer against it. The gateway must not end, nor
hang, nor answer 500, nor a failure otherwise than in the form of an error that says what is wrong.

Finished chunks are kept in `data/drills/fuzz_gateway.json`: a drill that was stopped goes on from there. A body that
finds something is shrunk, printed, and ends the drill.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

from tests.drills.fuzz.chunks import fuzz_chunk
from tests.drills.gateway.fuzz_bodies import bodies, variants
from tests.drills.gateway.fuzz_target import FuzzTarget
from tests.drills.gateway.schemathesis_tool import run_schemathesis
from tests.drills.gateway.stand import command_stand, made_root

RECORD = Path("data/drills/fuzz_gateway.json")
#: Bodies of a chunk, about.
CHUNK = 4000


def run_chunk(target: FuzzTarget, number: int, count: int) -> dict[str, Any]:
    """Sends the bodies of a chunk; returns how many there were, how they ended, and the first that found something."""
    made = fuzz_chunk(number, count, bodies(), variants, target.send)
    return {"bodies": made.sent, "fault": made.fault, "ended": made.ended}


def main(argv: list[str] | None = None) -> int:
    """Runs the drill; returns 1 if a body found something."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bodies", type=int, default=80_000, help="of Hypothesis")
    parser.add_argument("--schemathesis", type=int, default=5000, metavar="CASES", help="of each operation; 0: none")
    parser.add_argument("--fresh", action="store_true", help="forget the chunks that are finished")
    parser.add_argument("--most-seconds", type=float, default=float("inf"), help="begin no further chunk after these")
    parser.add_argument("--work", type=Path, help="where the releases are made, and found the next time")
    options = parser.parse_args(argv)
    done = {} if options.fresh or not RECORD.exists() else json.loads(RECORD.read_text(encoding="utf-8"))
    begun = time.monotonic()
    with made_root(options.work) as (root, _), command_stand(root) as stand:
        target = FuzzTarget(stand.port)
        while _count(done) < options.bodies and time.monotonic() - begun < options.most_seconds:
            number, at = len(done), time.monotonic()
            found = run_chunk(target, number, CHUNK)
            if found["fault"]:
                print(f"chunk {number}: {found['fault']}")
                return 1
            done[str(number)] = found
            RECORD.parent.mkdir(parents=True, exist_ok=True)
            RECORD.write_text(json.dumps(done), encoding="utf-8")
            print(f"chunk {number}: {found['bodies']} bodies in {time.monotonic() - at:.0f} s", flush=True)
        told, failed = run_schemathesis(stand.url, options.schemathesis) if options.schemathesis else ("", False)
        print(told, flush=True)
        assert "Traceback" not in stand.log.read_text(), stand.log.read_text()[-5000:]
    ended = sum((Counter(each["ended"]) for each in done.values()), Counter())
    print(f"{_count(done)} bodies of Hypothesis, nothing found. They ended by: {dict(sorted(ended.items()))}")
    return int(failed)


def _count(done: dict[str, Any]) -> int:
    return sum(each["bodies"] for each in done.values())


if __name__ == "__main__":
    sys.exit(main())

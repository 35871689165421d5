"""Any bytes to the server: `python -m tests.drills.fuzz.fuzz_server --inputs 200000`.

An input is a message of gRPC (a request as it should be, as it should not be, mutated, or any bytes), or a request of
REST (bodies of the same kinds; paths with names, versions and labels that climb out of folders). The server runs in a
process of its own. It must not end, nor hang, nor answer an error without a message, nor an exception of its own, nor
touch a path outside the base path of its models, nor know of the model that lies beside it.

Finished chunks are kept in `data/drills/fuzz_server.json`: a drill that was stopped goes on from there. An input that
finds something is shrunk by Hypothesis, printed, and ends the drill.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.drills.fuzz.chunks import fuzz_chunk
from tests.drills.fuzz.fuzz_inputs import fuzz_inputs, variants
from tests.drills.fuzz.fuzz_target import FuzzTarget

RECORD = Path("data/drills/fuzz_server.json")
CHUNK = 2000
"""Inputs of a chunk, about."""
START_S = 120.0


@contextlib.contextmanager
def fuzzed_server(models: Path) -> Iterator[FuzzTarget]:
    """Serves toy models in a process of its own until the block ends.

    Args:
      models: folder of the toy models; beside it must stand `outside/1`, a model that nothing may serve.

    Yields:
      What sends inputs to it.
    """
    command = [sys.executable, "-m", "tests.drills.fuzz.fuzzed_server", str(models)]
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, stdin=subprocess.PIPE, text=True)
        try:
            line = process.stdout.readline()
            if not line:
                log.seek(0)
                raise RuntimeError(f"the server did not start: {log.read()[-3000:]}")
            yield FuzzTarget(process, **json.loads(line))
        finally:
            process.kill()
            process.wait()


def make_models(work: Path) -> Path:
    """Saves the toy models in `work/models`, which it returns, and one that nothing may serve in `work/outside`."""
    from tests.serving.server.toy_models import save_half_plus, save_toy_models

    save_toy_models(work / "models")
    save_half_plus(work / "outside" / "1", 1000.0)
    (work / "outside" / "secret").write_text(FuzzTarget.SECRET, encoding="utf-8")
    return work / "models"


def run_chunk(target: FuzzTarget, number: int, inputs: int) -> dict[str, Any]:
    """Sends the inputs of a chunk; returns how many there were, how they ended, and the first that found something."""
    made = fuzz_chunk(number, inputs, fuzz_inputs(), variants, target.send, target.check_paths)
    return {"chunk": number, "inputs": made.sent, "fault": made.fault, "ended": made.ended}


def main(argv: list[str] | None = None) -> int:
    """Runs the drill; returns 1 if an input found something."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--inputs", type=int, default=200_000)
    parser.add_argument("--fresh", action="store_true", help="forget the chunks that are finished")
    options = parser.parse_args(argv)
    done = {} if options.fresh or not RECORD.exists() else json.loads(RECORD.read_text(encoding="utf-8"))
    with tempfile.TemporaryDirectory() as work, fuzzed_server(make_models(Path(work))) as target:
        while sum(each["inputs"] for each in done.values()) < options.inputs:
            number = len(done)
            began = time.monotonic()
            found = run_chunk(target, number, CHUNK)
            if found["fault"]:
                print(f"chunk {number}: {found['fault']}")
                return 1
            done[str(number)] = found
            RECORD.parent.mkdir(parents=True, exist_ok=True)
            RECORD.write_text(json.dumps(done), encoding="utf-8")
            print(f"chunk {number}: {found['inputs']} inputs in {time.monotonic() - began:.0f} s", flush=True)
    ended = sum((Counter(each["ended"]) for each in done.values()), Counter())
    print(f"{sum(each['inputs'] for each in done.values())} inputs, nothing found. They ended by: {dict(ended)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

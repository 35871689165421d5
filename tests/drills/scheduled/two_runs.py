"""Two runs of one profile at the same time: one works, the other is refused, and their components never interleave.

    python -m tests.drills.scheduled.two_runs [--seed 0] [--kills 3]

One run works as a whole. Meanwhile another is asked for again and again, as a whole and node by node: each is refused
with exit code 75 until the first has ended, or was killed; after a kill the next one begins at once. Last, ML Metadata
says when each component of each run worked. Everything is in data/drills/two_runs/.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from ml_metadata.proto import metadata_store_pb2 as pb

from pipeline.config import load_config
from pipeline.run.lineage import component_runs, last_round, run_context
from tests.drills.kill_run import PROFILE

ROOT = Path(__file__).parents[3]
WORK = Path("data/drills/two_runs")
BUSY = 75


def start(run_id: str, *options: str) -> subprocess.Popen:
    command = [sys.executable, "-W", "ignore", "-m", "pipeline.cli.app", "run", "--config", str(WORK / "profile.yaml")]
    with (WORK / f"{run_id}.txt").open("ab") as said:
        words = [*command, "--run-id", run_id, *options]
        return subprocess.Popen(words, cwd=ROOT, stdout=said, stderr=said, start_new_session=True)


def began(run_id: str) -> bool:
    return "LogIngest" in (WORK / f"{run_id}.txt").read_text()


def kill(process: subprocess.Popen) -> None:
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def killed_while_another_asks(number: int, rng: random.Random) -> None:
    """Kills a run while it works; another is refused before, and begins after."""
    first = start(f"first{number}")
    while not began(f"first{number}"):
        assert first.poll() is None, (WORK / f"first{number}.txt").read_text()
        time.sleep(0.2)
    for options in ((), ("--only", "LogIngest")):
        code = start(f"second{number}", *options).wait(300)
        assert code == BUSY or first.poll() is not None, f"exit code {code}, and the first run was under way"
    time.sleep(rng.uniform(0, 10))
    if first.poll() is None:
        kill(first)
    second = start(f"second{number}")
    while not began(f"second{number}"):
        assert second.poll() is None, (WORK / f"second{number}.txt").read_text()
        time.sleep(0.2)
    kill(second)
    print(f"{number}: refused while the first worked, began once it was dead", flush=True)


def to_the_end() -> None:
    """Two runs are asked for until both have ended well, each as often as it takes."""
    open_runs = {run_id: start(run_id) for run_id in ("left", "right")}
    refused = 0
    while open_runs:
        for run_id, process in list(open_runs.items()):
            code = process.poll()
            if code == 0:
                del open_runs[run_id]
            elif code == BUSY:
                refused += 1
                time.sleep(5)
                open_runs[run_id] = start(run_id)
            elif code is not None:
                raise SystemExit(f"{run_id} ended with {code}:\n{(WORK / f'{run_id}.txt').read_text()[-3000:]}")
        time.sleep(0.5)
    print(f"both ended well; refused {refused} times on the way", flush=True)


def spans() -> dict[str, tuple[float, float]]:
    """Returns when the first component of each whole run began and the last one ended."""
    config = load_config(WORK / "profile.yaml")
    found = {}
    for run_id in ("left", "right"):
        rounds = last_round(config.metadata_path, config.name, run_id)
        runs = component_runs(config.metadata_path, config.name, run=run_context(config.name, run_id, rounds))
        done = (pb.Execution.State.Name(pb.Execution.COMPLETE), pb.Execution.State.Name(pb.Execution.CACHED))
        assert runs and all(run.state in done for run in runs)
        found[run_id] = min(run.started for run in runs), max(run.finished for run in runs)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kills", type=int, default=3)
    given = parser.parse_args()
    shutil.rmtree(WORK, ignore_errors=True)
    WORK.mkdir(parents=True)
    spec = ROOT / "tfx_config" / "features_simulated.yaml"
    (WORK / "profile.yaml").write_text(PROFILE.format(work=WORK, spec=spec))
    rng = random.Random(given.seed)
    for number in range(given.kills):
        killed_while_another_asks(number, rng)
    to_the_end()
    left, right = sorted(spans().values())
    assert left[1] <= right[0], f"their components interleave: {left}, {right}"
    print(f"their components never worked at the same time: {right[0] - left[1]:.1f} s lie between")


if __name__ == "__main__":
    main()

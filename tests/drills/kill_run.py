"""`kill -9` at random moments of `clickmill run`: the same command then ends with the bytes of an undisturbed run.

    python -m tests.drills.kill_run --kills 20 [--seed 0] [--minutes 60]

Two undisturbed runs come first: what is byte for byte the same in both is what every later run is held against; the
files that differ between them (with the reason, where it is known) are printed and kept in the record. All runs write
to the same folder, which is emptied in between: paths are part of what is written. Finished kills are kept in
`data/drills/kills.json`, from which a drill that was stopped goes on.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
WORK = Path("data/drills")
#: A profile of every component that a model needs, and few steps.
PROFILE = """
name: drill
lanes: 1  # Layers are numbered by what a process made before: two lanes share the work as it comes.
feature_spec: {spec}
simulate: {{out: {work}/log, log: {{impressions: 5000, seed: 3}}}}
ingest:
  tables:
    impressions: {work}/log/impressions
    clicks: {work}/log/clicks
    items: {work}/log/items
    users: {work}/log/users
  num_shards: 2
models:
  two_tower:
    training: {{epochs: 1, input: {{batch_size: 256}}}}
    evaluation: {{ks: [10], gates: {{min_lift: 0.0, min_takes: 1}}}}
run_dir: {work}/run
serving_dir: {work}/serving
"""

#: What no two runs write alike: it tells times and rates, or the version of a model, which is the time of its push.
_NEVER_ALIKE = re.compile(
    r"metadata\.sqlite|pipeline\.log|timings\.json|manifest\.json|training_history\.json|run/report/|events\.out"
    r"|serving/releases/|release\.json|serving/decisions\.jsonl|run/locks/|last_run\.json"
)


def digests(work: Path) -> dict[str, str]:
    """Returns the SHA-256 of every file that a run left, by a name that does not count executions.

    Of an output of a component the newest execution counts; of a pushed model the newest version.
    """
    found: dict[str, tuple[int, str]] = {}
    for path in sorted([*(work / "run").rglob("*"), *(work / "serving").rglob("*")]):
        if not path.is_file():
            continue
        name = str(path.relative_to(work))
        number = 0
        if match := re.search(r"^(run/artifacts/[^/]+/[^/]+|serving/[^/]+)/(\d+)/", name):
            number, name = int(match[2]), name.replace(f"{match[1]}/{match[2]}/", f"{match[1]}/N/", 1)
        if number >= found.get(name, (0, ""))[0]:
            found[name] = number, hashlib.sha256(path.read_bytes()).hexdigest()
    newest: dict[str, int] = {}
    for name, (number, _) in found.items():
        folder = name.split("/N/")[0]
        newest[folder] = max(newest.get(folder, 0), number)
    return {name: digest for name, (number, digest) in found.items() if number == newest[name.split("/N/")[0]]}


def command(work: Path) -> list[str]:
    return [sys.executable, "-W", "ignore", "-m", "pipeline.cli.app", "run", "--config", str(work / "profile.yaml")]


def empty(work: Path) -> None:
    """Empties the folder of runs and writes the profile; the simulated log goes too."""
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    spec = ROOT / "tfx_config" / "features_simulated.yaml"
    (work / "profile.yaml").write_text(PROFILE.format(work=work, spec=spec))


def start(work: Path) -> subprocess.Popen:
    with (work / "output.txt").open("ab") as output:
        return subprocess.Popen(command(work), cwd=ROOT, stdout=output, stderr=output, start_new_session=True)


def finish(work: Path) -> float:
    """Runs the command to its end; returns how long it took."""
    since = time.monotonic()
    process = start(work)
    if process.wait() != 0:
        raise SystemExit(f"the run failed:\n{(work / 'output.txt').read_text()[-3000:]}")
    return time.monotonic() - since


def kill_after(work: Path, seconds: float) -> str:
    """Starts the command and kills its whole session after a time; returns the last line that it had printed."""
    process = start(work)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(seconds)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    said = [line for line in (work / "output.txt").read_text(errors="replace").splitlines() if line.strip()]
    return said[-1].strip() if said else "nothing yet"


def undisturbed(work: Path) -> dict:
    """Runs twice; returns what is alike, what is not, and how long a run takes."""
    runs, seconds = [], 0.0
    for _ in range(2):
        empty(work)
        seconds = finish(work)
        runs.append(digests(work))
    alike = {name: digest for name, digest in runs[0].items() if runs[1].get(name) == digest}
    unlike = sorted((runs[0].keys() | runs[1].keys()) - alike.keys())
    return {"seconds": seconds, "alike": alike, "unlike": unlike}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--minutes", type=float, default=120, help="after which no further kill begins")
    options = parser.parse_args()
    began = time.monotonic()
    work, record = (WORK / "kill").absolute(), WORK / "kills.json"
    WORK.mkdir(parents=True, exist_ok=True)
    state = json.loads(record.read_text()) if record.exists() else {"kills": []}
    if "alike" not in state:
        state |= undisturbed(work)
        record.write_text(json.dumps(state, indent=1))
    surprising = [name for name in state["unlike"] if not _NEVER_ALIKE.search(name)]
    alike, unlike = len(state["alike"]), len(state["unlike"])
    print(f"two undisturbed runs of {state['seconds']:.0f} s: {alike} files alike, {unlike} not")
    print("not alike, and not by their nature:", *(surprising or ["none"]), sep="\n  ")
    wrong = 0
    for number in range(len(state["kills"]), options.kills):
        if (time.monotonic() - began) / 60 > options.minutes:
            break
        moment = random.Random(options.seed * 1000 + number).uniform(0, state["seconds"])
        empty(work)
        last = kill_after(work, moment)
        seconds = finish(work)
        after = digests(work)
        different = sorted(name for name, digest in state["alike"].items() if after.get(name) != digest)
        state["kills"].append({"moment": moment, "last": last, "seconds": seconds, "different": different})
        record.write_text(json.dumps(state, indent=1))
        print(
            f"kill {number + 1} at {moment:.1f} s ({last}): {len(different)} files differ", *different[:5], flush=True
        )
    wrong = sum(bool(kill["different"]) for kill in state["kills"])
    done = len(state["kills"])
    print(f"{done} of {options.kills} kills, {wrong} ended otherwise than an undisturbed run")
    sys.exit(1 if wrong or done < options.kills else 0)


if __name__ == "__main__":
    main()

"""Runs the tests in parts: each part in a process of its own, two at a time.

python -m tests.house.parts [--lanes N] [--only PART] [--stack] [pytest's options]

Processes, and not workers that share all tests, because of what a test leaves behind in its process: the modules that
it imported (TFX takes half a minute), what TensorFlow traced (gigabytes), the logs, trainings and exports of session
fixtures. Workers pay for all of it once each, and wait for one another at the end of every part; here each is paid
where it is needed and gone with its part, and what runs last is short.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
TESTS = ROOT / "tests"
#: Folders and files by part, the longest part first. A file belongs to the part that names it most precisely: a new
#: test is in one part, wherever it stands. What shares a costly fixture of tests/conftest.py stands together.
PARTS = {
    "runs": ("tests/e2e", "tests/contracts/test_components.py"),
    "kinds": ("tests/contracts/test_kinds.py",),
    "cascade": (
        "tests/pipeline",
        "tests/serving/test_cascade.py",
        "tests/serving/export/test_history_parity.py",
        "tests/serving/offline/test_teacher_lists.py",
        "tests/serving/user_stores/bse/test_item_signatures.py",
    ),
    "serving": ("tests/serving",),
    "exports": ("tests/serving/export", "tests/serving/validation", "tests/serving/offline"),
    "models": ("tests/models",),
    "readme": ("tests/clickmill", "tests/contracts"),
    "data": ("tests",),
}
#: What runs again on the newer stack (.ci/modern). A stack can break a call into one of its packages (Python 3.13,
#: NumPy 2, Arrow 18, pandas 2, protobuf 6, TensorFlow 2.21, TFX 1.21) where the project makes it: to pass over each
#: such call once, from raw files to a served answer, finds it. The same call at other shapes, seeds and settings
#: (closed forms of the models, properties, parities of every history) is our own arithmetic: one stack proves it.
STACK = (
    "tests/contracts",  # every kind, export, metric and command; the data path on `memory://`
    "tests/evaluation/report",
    "tests/evaluation/test_ranking_evaluator.py",
    "tests/features/encoding",
    "tests/features/ingest",  # Arrow's readers: what they say of bad files differs most
    "tests/house/test_declared_imports.py",
    "tests/models/inputs",
    "tests/models/training/test_averages.py",  # optimizers and checkpoints reach into Keras
    "tests/models/training/test_resume.py",
    "tests/pipeline/components",
    "tests/pipeline/run/test_nodes_alone.py",  # TFX's compiler and launcher
    "tests/pipeline/test_config.py",
    "tests/pipeline/release/test_next_release.py",
    "tests/serving/export/test_export.py",
    "tests/serving/export/test_transforms.py",
    "tests/serving/offline/test_prediction.py",
    "tests/serving/offline/test_scoring.py",
    "tests/serving/server",  # protobuf and gRPC
    "tests/serving/test_ranker.py",
)
NO_TESTS = 5  # pytest's exit code where the options leave none


class Outcome(NamedTuple):
    """How a part ended: pytest's exit code, what it said, and the seconds it took."""

    code: int
    said: str
    seconds: float

    @property
    def counts(self) -> Counter[str]:
        """Tests by how they ended, as pytest's last line has them: {"passed": 12, "skipped": 1}."""
        lines = self.said.strip().splitlines() or [""]
        return Counter(
            {word: int(number) for number, word in re.findall(r"(\d+) ([a-z]+)", lines[-1].split(" in ")[0])}
        )


def files_of(part: str, places: tuple[str, ...] = ("tests",)) -> list[str]:
    """Returns the test files of a part, relative to the repository, that stand in one of the places."""
    found = []
    for path in sorted(TESTS.rglob("test_*.py")):
        file = path.relative_to(ROOT).as_posix()
        named = [(len(each), name) for name, parts in PARTS.items() for each in parts if stands_in(file, each)]
        if max(named)[1] == part and any(stands_in(file, place) for place in places):
            found.append(file)
    return found


def stands_in(file: str, place: str) -> bool:
    """Whether a file is a place, or in it."""
    return f"{file}/".startswith(f"{place}/")


def run_part(files: list[str], options: list[str]) -> Outcome:
    """Runs tests in a process of its own."""
    started = time.monotonic()
    command = [sys.executable, "-m", "pytest", "-q", *options, *files]
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as told:
        done = subprocess.run(command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=told, stderr=subprocess.STDOUT)
        told.seek(0)
        code = 0 if done.returncode == NO_TESTS else done.returncode
        return Outcome(code, told.read(), time.monotonic() - started)


def run(parts: dict[str, list[str]], lanes: int, options: list[str]) -> int:
    """Runs parts, prints what each says as it ends and, last, a summary like pytest's.

    Args:
      parts: files by part, in the order in which they begin.
      lanes: how many run at a time.
      options: pytest's.

    Returns:
      The exit code: 1 if a part failed.
    """
    started, saying = time.monotonic(), threading.Lock()

    def follow(part: str) -> Outcome:
        outcome = run_part(parts[part], options)
        with saying:
            print(f"== {part}\n{outcome.said.rstrip()}\n", flush=True)
        return outcome

    with ThreadPoolExecutor(lanes) as pool:
        outcomes = dict(zip(parts, pool.map(follow, parts), strict=True))
    for part, outcome in outcomes.items():
        print(f"{outcome.seconds:6.0f} s  {part}{'' if outcome.code == 0 else ' FAILED'}")
    total = sum((outcome.counts for outcome in outcomes.values()), Counter())
    if broken := sum(outcome.code != 0 for outcome in outcomes.values()):  # one that was killed has no failed test
        total["parts failed"] = broken
    told = ", ".join(f"{number} {word}" for word, number in total.items()) or "no tests ran"
    print(f"{told} in {time.monotonic() - started:.0f}s", flush=True)
    return int(broken > 0)


def main(arguments: list[str] | None = None) -> int:
    """Reads the command line and runs the parts that it names, or all."""
    parser = argparse.ArgumentParser(prog="python -m tests.house.parts", description=__doc__.splitlines()[0])
    parser.add_argument("--lanes", type=int, default=2, help="how many parts run at a time")
    parser.add_argument("--only", action="append", choices=PARTS, help="only this part; may be repeated")
    parser.add_argument("--stack", action="store_true", help="only what may differ between the stacks")
    given, options = parser.parse_known_args(arguments)
    places = STACK if given.stack else ("tests",)
    parts = {part: files_of(part, places) for part in given.only or PARTS}
    return run({part: files for part, files in parts.items() if files}, given.lanes, options)


if __name__ == "__main__":
    sys.exit(main())

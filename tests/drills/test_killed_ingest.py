"""`kill -9` within LogIngest: the same ingestion into the same folders ends with the bytes of an undisturbed one.

`make drills` kills whole runs of the pipeline.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from tests.builders.ingest_case import HOUR, T, clicks, impressions, write

ROOT = Path(__file__).parents[2]
INGEST = """
import sys
from pathlib import Path
from tests.builders.ingest_case import SPEC
from features.ingest.config import IngestConfig
from features.ingest.ingest_logs import run_ingest
folder = Path(sys.argv[1])
tables = {name: str(folder / "log" / name) for name in ("impressions", "clicks", "items", "users")}
config = IngestConfig.model_validate({"tables": tables, "num_shards": 4, "attribution_window_hours": 1.0})
print("reads", flush=True)
run_ingest(config, SPEC, *(folder / "out" / name for name in ("examples", "behaviors", "dead")))
"""


def make_log(folder: Path) -> None:
    rng = np.random.default_rng(1)
    rows = [(f"r{n // 4}", T + n // 4 * 60_000, f"u{n // 4 % 50}", n % 7 + 1) for n in range(8_000)]
    clicked = [(r, i, t + int(rng.integers(0, HOUR))) for r, t, _, i in rows if rng.random() < 0.3]
    bad = [(None, T, "u1", 1), ("x", 5, "u1", 1)]
    write(impressions([*rows, *bad]), folder / "log" / "impressions", "jsonl")
    write(clicks(clicked), folder / "log" / "clicks")
    items = {"item_id": range(1, 8), "price": np.arange(7) / 2, "tags": [[str(n)] for n in range(7)]}
    write(pa.table(items), folder / "log" / "items")
    write(pa.table({"user_id": [f"u{n}" for n in range(50)], "city": ["Oslo"] * 50}), folder / "log" / "users")


def start(folder: Path) -> subprocess.Popen:
    """Starts the ingestion and returns once its modules are imported."""
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", INGEST, str(folder)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "reads\n"
    return process


def written(folder: Path) -> dict[str, str]:
    files = sorted(path for path in (folder / "out").rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def state(folder: Path) -> set[tuple[str, int]]:
    """What stands in the output, and since when."""
    found = set()
    for parent, folders, files in os.walk(folder / "out"):  # Passes over what is gone meanwhile.
        for path in (os.path.join(parent, name) for name in (*folders, *files)):
            with contextlib.suppress(FileNotFoundError):
                found.add((path, os.stat(path).st_mtime_ns))
    return found


def kill_after(process: subprocess.Popen, folder: Path, changes: int) -> bool:
    """Kills a process once so many changes of its output were seen; False: it ended before."""
    before, seen = state(folder), 0
    while process.poll() is None and seen < changes:
        now = state(folder)
        seen, before = seen + (now != before), now
    process.send_signal(signal.SIGKILL)
    return process.wait() == -signal.SIGKILL


@pytest.mark.slow
def test_a_killed_ingest_ends_as_an_undisturbed_one(tmp_path):
    make_log(tmp_path)
    assert start(tmp_path).wait(600) == 0
    expected = written(tmp_path)
    assert len(expected) > 8

    killed = 0
    for changes in (1, 5):  # Onto what the run before left, finished or not.
        killed += kill_after(start(tmp_path), tmp_path, changes)
        left = written(tmp_path)
        if "out/examples/counts.json" in left:  # Which comes last: all else is there.
            assert {name: digest for name, digest in left.items() if "/_" not in name} == expected
    assert killed, "both ended before they could be killed"
    assert start(tmp_path).wait(600) == 0
    assert written(tmp_path) == expected

"""Random logs against the naive ingest, by the thousand: `python -m tests.drills.ingest.random_tables --tables 20000`.

A *table* is one table of a random log (`random_logs.py`): 1 to 100 files of CSV, JSON Lines or Parquet, packed or not,
with one to some dozens of rows. A log of one to five tables that belong together is ingested once, on the graph and the
DoFns of LogIngest (`direct_runner.py`; every fiftieth log on Beam's own runner), and compared row by row: what is kept,
each dead letter with its reason, file and line, the counts, and every request with its features, labels, split and
history.

Two processes draw chunks of logs, each by its own seed. Finished chunks are kept in `data/drills/random_tables.json`:
a drill that was stopped goes on from there. A log that differs is shrunk by Hypothesis, printed, and ends the drill.
"""

from __future__ import annotations

import argparse
import gc
import json
import multiprocessing
import sys
import time
import traceback
import warnings
from pathlib import Path

from hypothesis import HealthCheck, Phase, given, seed, settings

from tests.drills.ingest.compare_logs import compare
from tests.drills.ingest.random_logs import RandomLog, random_logs

RECORD = Path("data/drills/random_tables.json")
CHUNK = 50
"""Logs of a chunk."""


def run_chunk(number: int, phases: tuple[Phase, ...] = (Phase.generate,)) -> dict[str, int | str]:
    """Draws and compares the logs of a chunk; returns how many logs and tables there were, and the first difference."""
    found = {"chunk": number, "logs": 0, "tables": 0, "files": 0, "fault": ""}

    @seed(number)
    @settings(
        max_examples=CHUNK,
        database=None,
        deadline=None,
        derandomize=False,
        phases=phases,
        print_blob=False,
        suppress_health_check=list(HealthCheck),
    )
    @given(random_logs())
    def check(log: RandomLog) -> None:
        found["logs"] += 1
        found["tables"] += len(log.settings["tables"])
        found["files"] += len(log.files)
        differences = compare(log, None if found["logs"] == CHUNK else number)
        assert not differences, "\n".join([*differences[:5], repr(log)])

    try:
        check()
    except Exception as error:
        found["fault"] = f"{type(error).__name__}: {error}\n{traceback.format_exc(limit=-3)}"[:20_000]
    return found


def _prepare() -> None:
    warnings.filterwarnings("ignore")
    gc.freeze()  # pyarrow looks through all objects now and then; what was imported need not be among them.


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tables", type=int, default=20_000)
    parser.add_argument("--minutes", type=float, default=120, help="after which no further chunk begins")
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args()
    began = time.monotonic()
    RECORD.parent.mkdir(parents=True, exist_ok=True)
    done = json.loads(RECORD.read_text()) if RECORD.exists() else []
    tables = sum(chunk["tables"] for chunk in done)
    number = max((chunk["chunk"] for chunk in done), default=-1) + 1
    _prepare()
    # Forked: a new interpreter would look for `tests` where Beam's imports have put another package of that name.
    with multiprocessing.get_context("fork").Pool(options.processes) as pool:
        while tables < options.tables and (time.monotonic() - began) / 60 < options.minutes:
            for found in pool.imap_unordered(run_chunk, range(number, number + 2 * options.processes)):
                if found["fault"]:
                    print(f"chunk {found['chunk']}: {found['fault']}\nshrinking …", flush=True)
                    shrunk = pool.apply(run_chunk, (found["chunk"], (Phase.generate, Phase.shrink)))
                    sys.exit(f"chunk {found['chunk']}, shrunk: {shrunk['fault']}")
                done.append(found)
                tables += found["tables"]
            number += 2 * options.processes
            RECORD.write_text(json.dumps(done) + "\n")
            minutes = (time.monotonic() - began) / 60
            print(f"{tables:,} of {options.tables:,} tables agree ({minutes:.1f} minutes)", flush=True)
    logs, files = (sum(chunk[name] for chunk in done) for name in ("logs", "files"))
    print(f"{tables:,} tables of {logs:,} logs in {files:,} files, none differs from the naive ingest")
    sys.exit(0 if tables >= options.tables else 1)


if __name__ == "__main__":
    main()

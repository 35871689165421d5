"""Runs kinds of bad input, each in a process of its own with a time limit: `python -m …suite.server NAME…`.

The modules of ingestion are imported once, here; every case is a fork, killed when its time is over. Prints a line of
JSON a case.
"""

from __future__ import annotations

import gc
import json
import os
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import defaultdict
from pathlib import Path
from typing import Any

from features.config import parse_model
from features.errors import ClickmillError
from features.ingest import ingest_logs
from features.ingest.config import IngestConfig
from features.ingest.counts import IngestCounts
from features.spec import FeatureSpec
from tests.drills.direct_runner import direct_pipelines
from tests.drills.ingest.naive_ingest.compare import letters_of
from tests.drills.ingest.naive_ingest.records import count_physical_records
from tests.drills.ingest.naive_ingest.tables import files_of
from tests.features.ingest.suite.all_cases import CASES
from tests.features.ingest.suite.case import SPEC, BadInput

PROCESSES = 2


def ingest(case: BadInput, folder: Path) -> dict[str, Any]:
    """Runs a case; returns what came of it."""
    case.write(folder)
    found: dict[str, Any] = {"folder": str(folder)}
    out = folder / "out"
    try:
        config = parse_model(case.settings(folder), IngestConfig, "pipeline.yaml")
        spec = parse_model({**SPEC, **case.spec}, FeatureSpec, "spec.yaml")
        try:
            ingest_logs.run_ingest(config, spec, out / "examples", out / "behaviors", out / "dead")
        finally:
            if (out / "examples" / "counts.json").exists():
                found |= account(config, out)
        if case.check is not None:
            case.check(folder)
    except ClickmillError as error:
        found["error"] = f"{type(error).__name__}: {error}"
        found["exit_code"] = error.exit_code
    return found


def account(config: IngestConfig, out: Path) -> dict[str, Any]:
    """Returns the counts, the dead letters and the records that are in the files."""
    letters: dict[str, dict[str, list]] = defaultdict(lambda: defaultdict(list))
    flaws = []
    for letter in letters_of(out / "dead"):
        letters[letter["table"]][letter["reason"]].append(letter["line"])
        if len(letter["row"].encode()) > 4096 + 100 or letter["line"] is None or not letter["detail"]:
            flaws.append({name: str(value)[:100] for name, value in letter.items()})
    for reasons in letters.values():
        for found in reasons.values():
            found.sort(key=lambda line: line or 0)
    counts = IngestCounts.load(out / "examples")
    records = {
        name: sum(count_physical_records(path, table) for path, _ in files_of(table))
        for name, table in config.tables.given().items()
    }
    return {"counts": json.loads(counts.model_dump_json()), "letters": letters, "flaws": flaws, "records": records}


def child(case: BadInput, answer: Path) -> None:
    folder = Path(tempfile.mkdtemp(prefix="case-"))
    try:
        found = ingest(case, folder)
    except BaseException:
        found = {"crash": traceback.format_exc()[-3000:]}
    answer.write_text(json.dumps(found, default=str))
    shutil.rmtree(folder, ignore_errors=True)


def main(names: list[str]) -> None:
    wanted = [CASES[name] for name in names]
    with tempfile.TemporaryDirectory() as answers:
        running: dict[int, tuple[BadInput, float]] = {}
        while wanted or running:
            while wanted and len(running) < PROCESSES:
                case = wanted.pop(0)
                answer = Path(answers) / case.name.replace("/", "_")
                sys.stdout.flush()
                pid = os.fork()
                if pid == 0:
                    child(case, answer)
                    os._exit(0)
                running[pid] = case, time.monotonic()
            for pid, (case, since) in list(running.items()):
                ended, status = os.waitpid(pid, os.WNOHANG)
                late = time.monotonic() - since > case.limit
                if ended or late:
                    if not ended:
                        os.kill(pid, signal.SIGKILL)
                        os.waitpid(pid, 0)
                    del running[pid]
                    answer = Path(answers) / case.name.replace("/", "_")
                    found = json.loads(answer.read_text()) if answer.exists() else {"crash": f"ended by {status}"}
                    found = {"crash": f"not done after {case.limit} s"} if late and not ended else found
                    print(json.dumps({"name": case.name, **found, "seconds": time.monotonic() - since}), flush=True)
            time.sleep(0.005)


if __name__ == "__main__":
    gc.freeze()  # pyarrow looks through all objects now and then; what was imported need not be among them.
    with direct_pipelines(ingest_logs):
        main(sys.argv[1:])

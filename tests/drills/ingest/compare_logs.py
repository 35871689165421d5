"""Ingests a random log twice, by Clickmill and naively, and says where the two differ."""

from __future__ import annotations

import contextlib
import tempfile
from pathlib import Path

from features.errors import RunError
from features.ingest import ingest_logs
from tests.drills.direct_runner import direct_pipelines
from tests.drills.ingest.naive_ingest.compare import differences
from tests.drills.ingest.naive_ingest.ingest import naive_ingest
from tests.drills.ingest.random_logs import RandomLog


def compare(log: RandomLog, seed: int | None = 0) -> list[str]:
    """Returns the differences; none is what must come.

    Args:
      log: to ingest.
      seed: of the order in which groups come, on `DirectRunner`; None: on Beam's own runner.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        config = log.write(folder / "log")
        out = folder / "out"
        places = [out / part for part in ("examples", "behaviors", "dead")]
        runner = contextlib.nullcontext() if seed is None else direct_pipelines(ingest_logs, seed)
        # A log that cannot be trained on: all was written before that was judged.
        with runner, contextlib.suppress(RunError):
            ingest_logs.run_ingest(config, log.spec, *places)
        return differences(naive_ingest(config, log.spec), out, config, log.spec)

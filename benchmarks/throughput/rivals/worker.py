"""What a benchmark's worker process is: it prepares, warms up, then runs once for every line that it reads.

Standard library alone: workers run in environments of their own, which hold the rival and nothing of this project.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from collections.abc import Callable


def serve(prepare: Callable[[dict], Callable[[], int]]) -> None:
    """Runs a worker until its standard input ends.

    Args:
      prepare: of the settings (JSON, the first argument of the command line); returns the function to measure, which
        returns how many examples (or steps) it did. It is called once before it is measured.

    Every line read is answered by one line of JSON: `{"count", "seconds", "cpu_seconds"}`.
    """
    settings = json.loads(sys.argv[1])
    os.sched_setaffinity(0, settings["cores"])  # before any library counts them
    os.environ.update(OMP_NUM_THREADS=str(len(settings["cores"])), TF_CPP_MIN_LOG_LEVEL="3")
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print must not be mistaken for an answer
    measured = prepare(settings)
    measured()
    print(json.dumps({"ready": True}), file=answers, flush=True)
    for _ in sys.stdin:
        cpu, started = _cpu_seconds(), time.perf_counter()
        count = measured()
        answer = {"count": count, "seconds": time.perf_counter() - started, "cpu_seconds": _cpu_seconds() - cpu}
        print(json.dumps(answer), file=answers, flush=True)


def _cpu_seconds() -> float:
    """Processor time of this process and of the children that it has waited for (data loaders)."""
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)

"""Processes of a benchmark: threads, clocks, memory, and measuring in an interpreter of its own.

No pyarrow here: a child's peak memory counts from the memory of its parent.
"""

from __future__ import annotations

import importlib
import json
import os
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path


def limit_threads(threads: int) -> None:
    """Sets TensorFlow's threads, which it reads when it is imported: call this before. 0 leaves them."""
    if threads:
        os.environ["TF_NUM_INTRAOP_THREADS"] = os.environ["TF_NUM_INTEROP_THREADS"] = str(threads)


class Stopwatch:
    """Seconds and processor seconds (this process, its threads and its ended children) since it was made."""

    def __init__(self):
        self._begin = self._now()

    def read(self) -> dict[str, float]:
        seconds, cpu = self._now()
        return {"seconds": seconds - self._begin[0], "cpu_seconds": cpu - self._begin[1]}

    @staticmethod
    def _now() -> tuple[float, float]:
        children = resource.getrusage(resource.RUSAGE_CHILDREN)
        return time.perf_counter(), time.process_time() + children.ru_utime + children.ru_stime


def peak_mb() -> float:
    """Peak resident memory of this process and of its largest child, MiB."""
    # Not `RUSAGE_SELF`: it starts at the peak of the process that started this one.
    own = re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text(encoding="utf-8"))
    return (int(own[1]) + resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss) / 1024


def in_own_process(function: Callable[..., dict], *arguments: str | int | Path) -> dict:
    """Calls a function of a module in a new interpreter, which logs nothing; returns what it returned.

    Args:
      function: at the top of its module; what it returns is carried as JSON.
      *arguments: numbers and strings; a path arrives as a string.

    Raises:
      subprocess.CalledProcessError: if it fails; the end of its output was printed.
    """
    with tempfile.NamedTemporaryFile(suffix=".json") as answer:
        call = [
            function.__module__,
            function.__name__,
            json.dumps([each if isinstance(each, int) else str(each) for each in arguments]),
        ]
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.processes", *call, answer.name], capture_output=True, text=True
        )
        if done.returncode:
            sys.stderr.write(done.stderr[-4_000:])
            done.check_returncode()
        return json.loads(Path(answer.name).read_text())


def _answer(module: str, function: str, arguments: str, answer: str) -> None:
    import logging
    import warnings

    import models  # noqa: F401  sets the Keras of the project before TensorFlow is imported

    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    logging.disable(logging.WARNING)
    warnings.filterwarnings("ignore")
    found = getattr(importlib.import_module(module), function)(*json.loads(arguments))
    Path(answer).write_text(json.dumps(found))


if __name__ == "__main__":
    _answer(*sys.argv[1:])

"""The same calls without a server: an export run in this process, by one thread or several."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np


class Export:
    """A version that is run as a server runs it.

    Args:
      folder: of the version.
      signature: that is called.
    """

    def __init__(self, folder: Path | str, signature: str = "serving_default"):
        from serving.server.versions.loaded_model import LoadedModel, SessionThreads

        self._model = LoadedModel("ranker", 1, str(folder), SessionThreads())
        found = self._model.signatures[signature]
        self._inputs = {name: info.name for name, info in found.inputs.items()}
        self._outputs = [info.name for _, info in sorted(found.outputs.items())]

    def caller(self, tensors: dict[str, np.ndarray]) -> Callable[[], Any]:
        """Returns what makes a call with these inputs."""
        feeds = {self._inputs[name]: values for name, values in tensors.items()}
        return lambda: self._model.run(feeds, self._outputs)


def timed(call: Callable[[], Any], callers: int, calls: int) -> dict[str, Any]:
    """Calls from so many threads and returns `per_second`, `p50_ms` and `p99_ms`."""

    def some(count: int) -> list[float]:
        taken = []
        for _ in range(count):
            started = time.perf_counter()
            call()
            taken.append(1e3 * (time.perf_counter() - started))
        return taken

    with ThreadPoolExecutor(callers) as pool:
        started = time.perf_counter()
        ms = sorted(sum(pool.map(some, [calls // callers] * callers), []))
        seconds = time.perf_counter() - started
    return {
        "per_second": len(ms) / seconds,
        "p50_ms": statistics.median(ms),
        "p99_ms": ms[min(len(ms) - 1, int(0.99 * len(ms)))],
    }


def time_request(export: str, request: str, callers: str, calls: int) -> dict[str, Any]:
    """Times a request, alone in its process.

    Args:
      export: folder of the version.
      request: file of a serialized `PredictRequest`.
      callers: numbers of threads, as a list of JSON.
      calls: for each.

    Returns:
      What `timed` gives by number of threads.
    """
    from tensorflow_serving.apis.predict_pb2 import PredictRequest

    from benchmarks.serving.slates import read_tensors

    call = Export(export).caller(read_tensors(PredictRequest.FromString(Path(request).read_bytes())))
    timed(call, 1, max(10, calls // 10))
    return {str(number): timed(call, number, calls) for number in json.loads(callers)}

"""The server's figures under TensorFlow Serving's names, as Prometheus reads them.

Written out by hand, for `prometheus_client` adds `_total` to the name of every counter, and dashboards made for
TensorFlow Serving look for `:tensorflow:serving:request_count`.
"""

from __future__ import annotations

import bisect
import threading
from collections.abc import Callable, Iterator

import grpc

#: Upper bounds of TensorFlow Serving's histograms, in microseconds: 10 · 1.8^k, and a last bucket without a bound.
LATENCY_BOUNDS = tuple(10.0 * 1.8**power for power in range(33))
#: Upper bounds of the histogram of examples a request.
EXAMPLE_BOUNDS = tuple(float(2**power) for power in range(15))
#: Names of models come from requests, any number of them: those that are not served are one label.
UNKNOWN = "(unknown)"


class _Counter:
    kind = "counter"

    def __init__(self, labels: tuple[str, ...]):
        self.labels = labels
        self.cells: dict[tuple[str, ...], int] = {}

    def add(self, values: tuple[str, ...], amount: int) -> None:
        self.cells[values] = self.cells.get(values, 0) + amount

    def lines(self, name: str) -> Iterator[str]:
        for values, count in sorted(self.cells.items()):
            yield f"{name}{{{_pairs(self.labels, values)}}} {count}"


class _Histogram:
    kind = "histogram"

    def __init__(self, labels: tuple[str, ...], bounds: tuple[float, ...]):
        self.labels, self.bounds = labels, bounds
        self.cells: dict[tuple[str, ...], tuple[list[int], list[float]]] = {}

    def add(self, values: tuple[str, ...], amount: float) -> None:
        if values not in self.cells:
            self.cells[values] = ([0] * (len(self.bounds) + 1), [0.0])
        counts, total = self.cells[values]
        # A value that equals a bound belongs to the bucket above it (tensorflow/core/lib/histogram).
        counts[bisect.bisect_right(self.bounds, amount)] += 1
        total[0] += amount

    def lines(self, name: str) -> Iterator[str]:
        for values, (counts, total) in sorted(self.cells.items()):
            pairs, seen = _pairs(self.labels, values), 0
            for bound, count in zip([*(f"{each:g}" for each in self.bounds), "+Inf"], counts, strict=True):
                seen += count
                yield f'{name}_bucket{{{pairs},le="{bound}"}} {seen}'
            yield f"{name}_sum{{{pairs}}} {total[0]:g}"
            yield f"{name}_count{{{pairs}}} {seen}"


class ServerMetrics:
    """Counters and histograms of one server; safe to use from any thread.

    Args:
      serves: whether a model of this name is served.
    """

    def __init__(self, serves: Callable[[str], bool]) -> None:
        self._serves = serves
        self._lock = threading.Lock()
        latency = LATENCY_BOUNDS
        self._all: dict[str, _Counter | _Histogram] = {
            "model_warmup_latency": _Histogram(("model_path", "status"), latency),
            "model_warmup_records_read": _Counter(("model_path", "status")),
            "request_count": _Counter(("model_name", "status")),
            "request_example_count_total": _Counter(("model",)),
            "request_example_counts": _Histogram(("model",), EXAMPLE_BOUNDS),
            "request_latency": _Histogram(("model_name", "API", "entrypoint"), latency),
            "request_refused_count": _Counter(("entrypoint",)),
            "runtime_latency": _Histogram(("model_name", "API", "runtime"), latency),
        }

    def observe_request(self, model: str, api: str, entrypoint: str, code: grpc.StatusCode, seconds: float) -> None:
        """Counts a finished request; its time counts only if it was answered, as in TensorFlow Serving.

        Args:
          model: the name that the request gave; one that is not served counts as `UNKNOWN`.
          api: `Predict`, `Classify` or `Regress`.
          entrypoint: `GRPC` or `REST`.
          code: its status.
          seconds: how long it took.
        """
        model = model if self._serves(model) else UNKNOWN
        with self._lock:
            self._all["request_count"].add((model, code.name), 1)
            if code is grpc.StatusCode.OK:
                self._all["request_latency"].add((model, api, entrypoint), seconds * 1e6)

    def observe_runtime(self, model: str, api: str, seconds: float) -> None:
        """Adds the time that TensorFlow took for a request."""
        with self._lock:
            self._all["runtime_latency"].add((model, api, "TF1"), seconds * 1e6)

    def observe_examples(self, model: str, count: int) -> None:
        """Adds the number of `tf.Example`s that a request held."""
        with self._lock:
            self._all["request_example_counts"].add((model,), count)
            self._all["request_example_count_total"].add((model,), count)

    def observe_warmup(self, path: str, status: str, records: int, seconds: float) -> None:
        """Adds a warm-up: of which version folder, how it ended, how many records it replayed and how long it took."""
        with self._lock:
            self._all["model_warmup_latency"].add((path, status), seconds * 1e6)
            self._all["model_warmup_records_read"].add((path, status), records)

    def observe_refusal(self, entrypoint: str) -> None:
        """Counts a request that the full queue refused. TensorFlow Serving has no such figure."""
        with self._lock:
            self._all["request_refused_count"].add((entrypoint,), 1)

    def first_value(self, name: str) -> int:
        """Returns the first cell of a counter by TensorFlow Serving's inner name (`/tensorflow/serving/…`), else 0."""
        with self._lock:
            found = self._all.get(name.removeprefix("/tensorflow/serving/"))
            if not isinstance(found, _Counter) or not name.startswith("/tensorflow/serving/"):
                return 0
            return next((count for _, count in sorted(found.cells.items())), 0)

    def render(self) -> bytes:
        """Returns the page of `/monitoring/prometheus/metrics`, in Prometheus' text format 0.0.4."""
        lines: list[str] = []
        with self._lock:
            for short, metric in self._all.items():
                name = f":tensorflow:serving:{short}"
                if metric.cells:
                    lines += [f"# TYPE {name} {metric.kind}", *metric.lines(name)]
        return ("\n".join(lines) + "\n").encode()


def _pairs(labels: tuple[str, ...], values: tuple[str, ...]) -> str:
    return ",".join(f'{label}="{_escaped(value)}"' for label, value in zip(labels, values, strict=True))


def _escaped(value: str) -> str:
    """A label's value as the text format has it; a line break would end the line."""
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")

"""The gateway's figures for Prometheus, in a registry of its own."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

#: Upper bounds in seconds: from a lookup's tenths of a millisecond to a deadline of seconds.
_SECONDS = (0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 1.0, 2.0, 5.0)


class GatewayMetrics:
    """Counts what the gateway answers.

    Attributes:
      registry: that `/metrics` shows.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        made = {"registry": self.registry, "namespace": "clickmill_gateway"}
        self._requests = Counter("requests", "Requests by kind and HTTP status.", ["kind", "status"], **made)
        self._seconds = Histogram(
            "request_seconds", "From a request to its answer, waiting included.", ["kind"], buckets=_SECONDS, **made
        )
        self._stages = Histogram("stage_seconds", "By stage of an answer.", ["stage"], buckets=_SECONDS, **made)
        self._failures = Counter(
            "stage_failures", "Stages without an answer, by gRPC status.", ["stage", "code"], **made
        )
        self._flags = Counter("flags", "Answers that carry a flag.", ["flag"], **made)
        self._answers = Counter("answers", "Answers by release and variants.", ["release", "variants"], **made)
        self._opened = Gauge("open_releases", "Releases that are open.", **made)
        self._waiting = Gauge("waiting", "Requests that wait for a place.", **made)
        self._working = Gauge("working", "Requests that are worked on.", **made)
        self._appended = Counter("behaviors", "Behaviours that were taken in.", **made)
        self._unlogged = Counter("exposures_lost", "Shown lists that could not be logged.", **made)

    def watch(self, opened: Callable[[], int], waiting: Callable[[], int], working: Callable[[], int]) -> None:
        """Says where the present numbers of open releases and of requests are read."""
        self._opened.set_function(opened)
        self._waiting.set_function(waiting)
        self._working.set_function(working)

    def request(self, kind: str, status: int, begun: float) -> None:
        """Counts a request that ended: `begun` in `time.perf_counter`'s seconds."""
        self._requests.labels(kind, str(status)).inc()
        self._seconds.labels(kind).observe(time.perf_counter() - begun)

    def answer(
        self, release: str, variants: Mapping[str, str], flags: Iterable[str], stage_ms: Mapping[str, float]
    ) -> None:
        """Counts what an answer consists of."""
        told = ",".join(f"{layer}={variant}" for layer, variant in sorted(variants.items()))
        self._answers.labels(release, told).inc()
        for flag in flags:
            self._flags.labels(flag).inc()
        for stage, milliseconds in stage_ms.items():
            self._stages.labels(stage).observe(milliseconds / 1000)

    def stage_failed(self, stage: str, code: str) -> None:
        """Counts a stage that gave no answer."""
        self._failures.labels(stage, code).inc()

    def behaviors(self, count: int) -> None:
        """Counts behaviours that were taken in."""
        self._appended.inc(count)

    def exposure_lost(self) -> None:
        """Counts a shown list that could not be logged."""
        self._unlogged.inc()

    def text(self) -> bytes:
        """Returns all figures in Prometheus' text format."""
        return generate_latest(self.registry)

"""The local Beam runner, named explicitly, and what rooms without Beam give it to run.

Beam's `DirectRunner` first tries to download a Prism binary; `FnApiRunner` runs in this process, without a network.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol, TypeVar

import apache_beam as beam
from apache_beam.metrics import Metrics, MetricsFilter
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.portability.fn_api_runner import FnApiRunner

Item = TypeVar("Item", contravariant=True)


def make_pipeline(options: PipelineOptions | None = None) -> beam.Pipeline:
    """Returns an in-process Beam pipeline; use it as a context manager."""
    return beam.Pipeline(runner=FnApiRunner(), options=options or PipelineOptions([]))


class CountedWork(Protocol[Item]):
    """Work on single items that counts what it did; it must pickle."""

    def work(self, item: Item) -> Mapping[str, int]:
        """Does the work of an item, and returns what it counted by name."""

    def close(self) -> None:
        """Ends a bundle of items."""


def run_counted(items: Sequence[Item], work: CountedWork[Item], like: beam.Pipeline | None = None) -> Counter[str]:
    """Runs work over items, and returns the sums of what it counted by name.

    Args:
      items: that are spread over the workers.
      work: what is done with each.
      like: a pipeline whose runner and options are taken; the in-process runner by default.
    """
    pipeline = beam.Pipeline(runner=like.runner, options=like.options) if like is not None else make_pipeline()
    _ = pipeline | "Items" >> beam.Create(items, reshuffle=False) | "Work" >> beam.ParDo(_Counted(work))
    result = pipeline.run()
    result.wait_until_finish()
    found = result.metrics().query(MetricsFilter().with_namespace(_Counted.__name__))["counters"]
    return Counter({each.key.metric.name: int(each.result) for each in found})


class _Counted(beam.DoFn):
    def __init__(self, work: CountedWork):
        self._work = work

    def process(self, item: Any) -> Iterator[None]:
        for name, number in self._work.work(item).items():
            Metrics.counter(type(self).__name__, name).inc(number)
        yield None

    def finish_bundle(self) -> None:
        self._work.close()

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


def pipeline_like(like: beam.Pipeline | None) -> beam.Pipeline:
    """Returns a new pipeline with another's runner and options; an in-process one where there is none."""
    return make_pipeline() if like is None else beam.Pipeline(runner=like.runner, options=like.options)


def run_and_count(pipeline: beam.Pipeline, counting: type[beam.DoFn]) -> Counter[str]:
    """Runs a pipeline to its end, and returns the counters of a `DoFn`, which counts in the namespace of its name."""
    result = pipeline.run()
    result.wait_until_finish()
    found = result.metrics().query(MetricsFilter().with_namespace(counting.__name__))["counters"]
    return Counter({each.key.metric.name: int(each.result) for each in found})


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
    pipeline = pipeline_like(like)
    _ = pipeline | "Items" >> beam.Create(items, reshuffle=False) | "Work" >> beam.ParDo(_Counted(work))
    return run_and_count(pipeline, _Counted)


class _Counted(beam.DoFn):
    def __init__(self, work: CountedWork):
        self._work = work

    def process(self, item: Any) -> Iterator[None]:
        for name, number in self._work.work(item).items():
            Metrics.counter(type(self).__name__, name).inc(number)
        yield None

    def finish_bundle(self) -> None:
        self._work.close()

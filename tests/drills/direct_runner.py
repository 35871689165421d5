"""Runs a Beam pipeline's own graph in this process, step after step, for pipelines that run twenty thousand times.

Beam's local runner takes most of a second for an empty log. This one visits the applied graph in order and calls the
very DoFns that are in it; what it leaves out are bundles, workers and windows. Groups and their values come in an order
that `seed` draws, as no shuffle promises one.
"""

from __future__ import annotations

import contextlib
import random
from collections import defaultdict
from collections.abc import Iterable, Iterator
from types import ModuleType
from typing import Any
from unittest import mock

import apache_beam as beam
from apache_beam.internal import util
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.pipeline import AppliedPTransform, PipelineVisitor
from apache_beam.pvalue import AsDict, AsIter, AsList, AsSingleton, TaggedOutput
from apache_beam.runners.runner import PipelineResult, PipelineRunner, PipelineState
from apache_beam.transforms import userstate
from apache_beam.transforms.core import Flatten, GroupByKey, Impulse, ParDo
from apache_beam.transforms.util import Reshuffle

_Elements = list[Any]


class DirectRunner(PipelineRunner):
    """See the module."""

    def __init__(self, seed: int = 0):
        self.seed = seed

    def run_pipeline(self, pipeline: beam.Pipeline, options: PipelineOptions) -> PipelineResult:
        pipeline.visit(_Visitor(random.Random(self.seed)))
        return PipelineResult(PipelineState.DONE)


class _FixedOptions(PipelineOptions):
    """The default options, of which each view is made once: Beam asks for one with every step that it applies."""

    def view_as(self, cls: type) -> Any:
        views = self.__dict__.setdefault("_views", {})
        if cls not in views:
            views[cls] = super().view_as(cls)
        return views[cls]


@contextlib.contextmanager
def direct_pipelines(module: ModuleType, seed: int = 0) -> Iterator[None]:
    """Makes a module's `make_pipeline` (`features.beam_runner`) give pipelines of this runner."""

    def make(options: PipelineOptions | None = None) -> beam.Pipeline:
        return beam.Pipeline(runner=DirectRunner(seed), options=options or _FixedOptions(["--no_pipeline_type_check"]))

    # Beam looks through every method of every DoFn for state and timers, of which there are none.
    without_state = mock.patch.object(userstate, "get_dofn_specs", lambda dofn: (set(), set()))
    with mock.patch.object(module, "make_pipeline", make), without_state:
        yield


class _Visitor(PipelineVisitor):
    def __init__(self, rng: random.Random):
        self.rng = rng
        self.values: dict[Any, _Elements] = {}

        self.inside: AppliedPTransform | None = None

    def enter_composite_transform(self, node: AppliedPTransform) -> None:
        # A reshuffle is done as a whole: its parts give the elements timestamps and take them off again.
        if self.inside is None and isinstance(node.transform, Reshuffle):
            self.inside = node
            (given,), (output,) = node.inputs, node.outputs.values()
            self.values[output] = self._shuffled(self.values[given])

    def leave_composite_transform(self, node: AppliedPTransform) -> None:
        if node is self.inside:
            self.inside = None

    def visit_transform(self, node: AppliedPTransform) -> None:
        transform = node.transform
        if transform is None or self.inside is not None:
            return
        inputs = [self.values.get(each, []) for each in node.inputs]
        if isinstance(transform, Impulse):
            found = {None: [b""]}
        elif isinstance(transform, Flatten):
            found = {None: [element for elements in inputs for element in elements]}
        elif isinstance(transform, GroupByKey):
            found = {None: self._group(inputs[0])}
        elif isinstance(transform, ParDo):
            found = self._pardo(transform, inputs[0])
        else:
            raise NotImplementedError(f"{node.full_label}: {type(transform).__name__}")
        for tag, output in node.outputs.items():
            self.values[output] = found.get(tag, [])

    def _shuffled(self, elements: _Elements) -> _Elements:
        return self.rng.sample(elements, len(elements))

    def _group(self, elements: _Elements) -> _Elements:
        groups: dict[Any, _Elements] = defaultdict(list)
        for key, value in elements:
            groups[key].append(value)
        return [(key, self._shuffled(values)) for key, values in self._shuffled(list(groups.items()))]

    def _pardo(self, transform: ParDo, elements: _Elements) -> dict[str | None, _Elements]:
        sides = [self._side(side) for side in transform.side_inputs]
        args, kwargs = util.insert_values_in_args(transform.args, transform.kwargs, sides)
        fn = transform.fn
        fn.setup()
        fn.start_bundle()
        found: dict[str | None, _Elements] = defaultdict(list)
        for element in elements:
            self._take(fn.process(element, *args, **kwargs), found)
        self._take(fn.finish_bundle(), found)
        fn.teardown()
        return found

    @staticmethod
    def _take(results: Iterable[Any] | None, found: dict[str | None, _Elements]) -> None:
        for result in results or ():
            if isinstance(result, TaggedOutput):
                found[result.tag].append(result.value)
            else:
                found[None].append(result)

    def _side(self, side: Any) -> Any:
        values = self.values[side.pvalue]
        if isinstance(side, AsSingleton):
            (value,) = values
            return value
        if isinstance(side, AsIter | AsList):
            return list(values)
        assert isinstance(side, AsDict), side
        return dict(values)

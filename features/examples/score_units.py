"""Scoring files of requests: Beam over their units, whoever scores them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Protocol

import apache_beam as beam

from features.beam_runner import pipeline_like
from features.examples.request_files import RequestUnit


class UnitScorer(Protocol):
    """What scores a unit; it must pickle."""

    def score(self, unit: RequestUnit) -> None:
        """Scores a unit and leaves what it found where the next reader looks for it, whole or not at all."""

    def close(self) -> None:
        """Ends the work of one worker."""


@dataclasses.dataclass(eq=False, repr=False)
class ScoreUnits(beam.PTransform):
    """Scores units of requests; applied to a PCollection of them, and gives each once it was scored.

    Attributes:
      scorer: what scores; where it leaves its results must be reachable from every worker.
    """

    scorer: UnitScorer

    def expand(self, units: beam.PCollection) -> beam.PCollection:
        return units | "Spread" >> beam.Reshuffle() | "ScoreUnit" >> beam.ParDo(_ScoreUnit(self.scorer))


def score_units(units: list[RequestUnit], scorer: UnitScorer, like: beam.Pipeline | None = None) -> None:
    """Runs `ScoreUnits`.

    Args:
      units: of `features.examples.request_files.plan_units`.
      scorer: what scores.
      like: a pipeline whose runner and options are taken; the in-process runner by default.
    """
    pipeline = pipeline_like(like)
    _ = pipeline | "Units" >> beam.Create(units, reshuffle=False) | ScoreUnits(scorer)
    pipeline.run().wait_until_finish()


class _ScoreUnit(beam.DoFn):
    def __init__(self, scorer: UnitScorer):
        self._scorer = scorer

    def process(self, unit: RequestUnit) -> Iterator[RequestUnit]:
        self._scorer.score(unit)
        yield unit

    def teardown(self) -> None:
        self._scorer.close()

"""What a served model was found to do before it was pushed, as one checked object: `serving_check.json`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from evaluation.results import GateResult, Verdict
from features.config import Strict


class AnswerComparison(Strict):
    """Answers to the same requests from two places, held against each other.

    Attributes:
      between: the two places, e.g. `trainer = export`, `export = gRPC`, `gRPC = REST`.
      signature: that was asked.
      output: of it; for `trainer = export` what the trained model itself computed.
      requests: that were asked.
      values: numbers (or texts) that were compared.
      largest: the largest absolute difference; None where there is none: nothing was compared, or it is not a number.
      tolerance: that a difference may have, absolute and relative to the value.
      equal: whether all values are within it.
    """

    between: str
    signature: str
    output: str
    requests: int
    values: int
    largest: float | None
    tolerance: float
    equal: bool


class LoadFigures(Strict):
    """A load by clients over gRPC.

    Attributes:
      signature: that was asked.
      candidates: of a request; 0 where it has none.
      concurrency: clients, each with one call at a time.
      calls: that were made in the round that is shown.
      seconds: that it took.
      p50_ms, p99_ms: of the calls, in milliseconds, as a client sees them; None where none was answered.
      errors: calls that failed, by status.
      rounds_p99_ms: of every round: one above the budget is repeated, since a machine's other work only adds time.
    """

    signature: str
    candidates: int
    concurrency: int
    calls: int
    seconds: float
    p50_ms: float | None
    p99_ms: float | None
    errors: dict[str, int] = {}
    rounds_p99_ms: tuple[float, ...] = ()

    @property
    def calls_per_second(self) -> float:
        """Answered calls a second."""
        return (self.calls - sum(self.errors.values())) / max(self.seconds, 1e-9)


class ServingCheck(Verdict):
    """All that serving one export for a trial has shown.

    Attributes:
      rows: real requests that the trained model had scored.
      warmup_records: requests that were replayed before it was served.
      signatures: of the export.
      ready_seconds: from the start of the server to the first call that could be made; None where it never could.
      comparisons: of answers.
      measured: under a load; None where it did not come to that.
    """

    file_name: ClassVar[str] = "serving_check.json"
    rows: int = 0
    warmup_records: int = 0
    signatures: tuple[str, ...] = ()
    ready_seconds: float | None = None
    comparisons: tuple[AnswerComparison, ...] = ()
    measured: LoadFigures | None = None

    def figures(self) -> dict[str, float]:
        if self.measured is None:
            return {}
        found = {"p50_ms": self.measured.p50_ms, "p99_ms": self.measured.p99_ms}
        return {name: value for name, value in found.items() if value is not None}

    def largest(self, between: str) -> float | None:
        """The largest difference between two places over all outputs; None where nothing was compared."""
        known = [each.largest for each in self.comparisons if each.between == between and each.largest is not None]
        return max(known, default=None)


def check_of(gates: Iterable[GateResult], **found: object) -> ServingCheck:
    """Returns a check whose blessing is that of its gates; one without a gate is not blessed."""
    given = tuple(gates)
    return ServingCheck(gates=given, blessed=bool(given) and all(gate.passed for gate in given), **found)

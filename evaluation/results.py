"""What an evaluation found, as one checked object that is kept as `evaluation.json`.

A number that does not exist (an AUC over a single class, an interval that was not asked for) is None, in JSON null:
never NaN, which JSON does not have.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import ClassVar, Literal, TypeVar

from pydantic import Field

from features import storage
from features.config import Strict, parse_model

EVALUATION_FILE = "evaluation.json"

_Verdict = TypeVar("_Verdict", bound="Verdict")

ComparisonVerdict = Literal["better", "no_worse", "cannot_tell", "worse"]
"""Of a model beside another on the same rows, by the interval of the paired difference and a margin."""


def combine(verdicts: Iterable[ComparisonVerdict | None]) -> ComparisonVerdict | None:
    """One verdict of several metrics: `worse` or `cannot_tell` if one is, else `better` if one is; None of none."""
    given = set(verdicts) - {None}
    order: tuple[ComparisonVerdict, ...] = ("worse", "cannot_tell", "better", "no_worse")
    return next((each for each in order if each in given), None)


class Estimate(Strict):
    """A number with its interval.

    Attributes:
      value: the point estimate, over all rows; None where undefined.
      low: lower end of the interval; None where none was computed.
      high: upper end.
    """

    value: float | None = None
    low: float | None = None
    high: float | None = None


class Counts(Strict):
    """How many rows (impressions), requests, users, items and positive labels something rests on."""

    rows: int
    requests: int
    users: int
    items: int
    positives: int
    users_without_both_labels: int = Field(
        0, description="Users whose labels are all alike: GAUC per user leaves them out."
    )
    requests_without_both_labels: int = Field(
        0, description="Requests whose labels are all alike: GAUC per request leaves them out."
    )
    requests_without_positive: int = Field(0, description="Requests without a positive: NDCG and MRR leave them out.")


class MetricSet(Strict):
    """Metrics of one set of scores over the same rows, by metric name.

    Attributes:
      name: of the scores: `model`, `live` or a baseline.
      description: how the scores come about, in a sentence.
      metrics: metric name → estimate.
      calibrated: whether the scores are probabilities. Where not, only ranking metrics are given.
    """

    name: str
    description: str = ""
    metrics: dict[str, Estimate]
    calibrated: bool = True


class SliceResult(Strict):
    """Metrics over the rows where `feature` equals `value`; for numbers, where it lies in the bucket `value`."""

    feature: str
    value: str
    rows: int
    positives: int
    users: int
    metrics: dict[str, Estimate]
    unjudged: str = Field("", description="Why no gate judges the slice, as a sentence; '' where gates do.")


class OmittedSlices(Strict):
    """Slices of a feature that are not listed: smaller than the minimum, or beyond the maximum number."""

    feature: str
    slices: int
    rows: int


class ReliabilityBin(Strict):
    """One bin of the reliability diagram (equal mass: bins hold equally many rows).

    Attributes:
      lowest: smallest score in the bin.
      highest: largest score in the bin.
      mean_score: mean predicted probability.
      observed: share of positives with its interval (Wilson).
      rows: rows in the bin.
    """

    lowest: float
    highest: float
    mean_score: float
    observed: Estimate
    rows: int


class MetricDifference(Strict):
    """A metric of the model and of the live model on the same rows.

    Attributes:
      model: the model's value.
      live: the live model's value.
      difference: model − live; its interval leaves users out of both at once (paired), so it is narrower than the two
        intervals side by side suggest.
    """

    model: float | None
    live: float | None
    difference: Estimate


class SliceDifference(Strict):
    """The live comparison within one slice."""

    feature: str
    value: str
    rows: int
    metrics: dict[str, MetricDifference]


class LiveComparison(Strict):
    """The model beside the one that serves now, or beside the anchor.

    Attributes:
      rows: rows that both models scored; only these are compared.
      metrics: metric name → difference, over all rows.
      slices: the same in the declared slices.
      version: the version of the other model, for the record; '' where it is not known.
      unscored: why the other model could not be scored, as a sentence; then `rows` is 0, there is no metric and the
        gates that compare do not judge. '' where it was scored.
    """

    rows: int
    metrics: dict[str, MetricDifference]
    slices: tuple[SliceDifference, ...] = ()
    version: str = ""
    unscored: str = ""


class GateResult(Strict):
    """One condition for the blessing.

    Attributes:
      name: stable, e.g. `pcoc` or `slice_auc:age_band` (one a feature: that of its worst slice).
      value: the number that was judged; None where it does not exist.
      minimum: the smallest value that passes; None: no lower limit.
      maximum: the largest value that passes; None: no upper limit.
      passed: the verdict.
      reason: why the gate exists and what was found, as a sentence for people.
      verdict: of gates that compare with another model: what the rows show; None for all others.
      rows_needed: of `cannot_tell`: about as many rows would tell; None where the difference lies so near to the margin
        that none would.
    """

    name: str
    value: float | None
    minimum: float | None = None
    maximum: float | None = None
    passed: bool
    reason: str
    verdict: ComparisonVerdict | None = None
    rows_needed: int | None = None


class Verdict(Strict):
    """What an evaluation ends with; saved as one JSON file.

    Attributes:
      gates: every condition, passed or not.
      blessed: whether all gates passed.
    """

    file_name: ClassVar[str]
    gates: tuple[GateResult, ...]
    blessed: bool

    @property
    def failed_gates(self) -> tuple[GateResult, ...]:
        return tuple(gate for gate in self.gates if not gate.passed)

    def figures(self) -> dict[str, float]:
        """Returns the metrics of the judged model over all rows, by name; those that are undefined are left out."""
        raise NotImplementedError

    def save(self, directory: storage.AnyPath) -> str:
        """Writes `file_name` into the directory, which is made if it is missing. Returns its path."""
        path = storage.join(directory, self.file_name)
        storage.write_text(path, self.model_dump_json(indent=2))
        return path

    @classmethod
    def load(cls: type[_Verdict], directory: storage.AnyPath) -> _Verdict:
        """Reads what `save` wrote. Raises `FileNotFoundError`, or `SpecError` where it is of another version."""
        path = storage.join(directory, cls.file_name)
        return parse_model(json.loads(storage.read_text(path)), cls, path)


class EvaluationResult(Verdict):
    """All that one evaluation found.

    Attributes:
      counts: what it rests on.
      model: metrics of the judged model over all rows, with intervals.
      baselines: the same metrics of the baselines over the same rows.
      lead_share: (AUC_model − AUC_itemCTR) / (AUC_oracle − AUC_itemCTR): 0 is the baseline, 1 the simulator's truth.
        None where no oracle was given.
      slices: metrics of the model by feature value, per feature in the order given there.
      omitted_slices: what is not among them.
      reliability: bins of the reliability diagram, by rising score.
      live: the comparison with the live model; None for a first model.
      anchor: the comparison with the last model that was shown to be better, or was set by hand; None where that is
        the live model, or there is none.
      interval_level: of every interval, e.g. 0.95.
    """

    file_name: ClassVar[str] = EVALUATION_FILE
    counts: Counts
    model: MetricSet
    baselines: tuple[MetricSet, ...] = ()
    lead_share: Estimate | None = None
    slices: tuple[SliceResult, ...] = ()
    omitted_slices: tuple[OmittedSlices, ...] = ()
    reliability: tuple[ReliabilityBin, ...] = ()
    live: LiveComparison | None = None
    anchor: LiveComparison | None = None
    interval_level: float

    def figures(self) -> dict[str, float]:
        return {name: found.value for name, found in self.model.metrics.items() if found.value is not None}

    @property
    def verdict(self) -> ComparisonVerdict | None:
        """Of the model beside the live one, over all rows; None where there is none, or none that was scored."""
        return combine(gate.verdict for gate in self.gates if gate.name in ("live_auc", "live_log_loss"))

    @property
    def anchor_verdict(self) -> ComparisonVerdict | None:
        """Of the model beside the anchor, which is the live model where no other is on record, or was scored."""
        if self.anchor is None or self.anchor.unscored:
            return self.verdict
        return combine(gate.verdict for gate in self.gates if gate.name in ("anchor_auc", "anchor_log_loss"))

    @property
    def becomes_anchor(self) -> bool:
        """Whether the model, once it is pushed, is the anchor of those to come.

        It must be shown to be better than the anchor, not only than the live model: that one may have lost something
        since, which a model that wins back a part of it would make good for ever.
        """
        return self.blessed and self.anchor_verdict == "better"

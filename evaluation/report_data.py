"""What a run report says, as one checked object: `report.json` is this object, and the page is drawn from it alone."""

from __future__ import annotations

from datetime import datetime

from pydantic import Field

from evaluation.results import EvaluationResult
from features.ingest_counts import IngestCounts
from features.spec import Strict


class RunInfo(Strict):
    """Which run this was.

    Attributes:
      pipeline: name of the pipeline.
      spec: name of the feature spec.
      model: name of the model class, e.g. `AutoInt`.
      started: when the run began, with its time zone.
      seconds: wall time of the whole run.
      simulated: whether the logs came out of the simulator, where the truth is known.
      versions: package → version.
    """

    pipeline: str
    spec: str
    model: str | None = None
    started: datetime | None = None
    seconds: float | None = None
    simulated: bool = False
    versions: dict[str, str] = {}


class DeadLetter(Strict):
    """One refused row: why, and the row itself (as JSON)."""

    table: str
    reason: str
    detail: str = ""
    row: str = ""
    source: str = ""


class Epoch(Strict):
    """One pass over the train split."""

    epoch: int
    train_log_loss: float | None = None
    val_log_loss: float | None = None
    val_auc: float | None = None
    examples_per_second: float | None = None
    seconds: float | None = None


class Training(Strict):
    """How training went; `best_epoch` is the one whose weights were kept."""

    epochs: tuple[Epoch, ...]
    best_epoch: int | None = None
    parameters: int | None = None


class ComponentTiming(Strict):
    """Wall time and peak resident memory of one pipeline component."""

    component: str
    seconds: float
    peak_rss_mb: float | None = None


class RankedItem(Strict):
    """One line of the example ranking."""

    item: str | int
    score: float


class ReportData(Strict):
    """Everything in the report. A part that a run did not produce is None or empty and named in `absent`.

    Attributes:
      run: which run.
      counts: rows by outcome.
      dead_letter_sample: a few refused rows of each reason.
      training: learning curves.
      evaluation: metrics, slices, reliability, gates.
      pushed_version: version under which the model now serves; None where it was not pushed.
      timings: per component, in the order they ran.
      ranked_example: one request ranked by the pushed model, best first.
      absent: what the report lacks, a sentence each.
    """

    run: RunInfo
    counts: IngestCounts | None = None
    dead_letter_sample: tuple[DeadLetter, ...] = ()
    training: Training | None = None
    evaluation: EvaluationResult | None = None
    pushed_version: str | None = None
    timings: tuple[ComponentTiming, ...] = ()
    ranked_example: tuple[RankedItem, ...] = ()
    absent: tuple[str, ...] = Field((), description="Filled by `with_absences`.")

    def with_absences(self) -> ReportData:
        """The same report with `absent` set to what it lacks."""
        return self.model_copy(update={"absent": tuple(_absences(self))})


def _absences(data: ReportData):
    if data.counts is None:
        yield "Row counts: the run left no counts.json."
    elif "clicks" not in data.counts.tables:
        yield "Click counts: the labels are columns of the impressions, no clicks table was joined."
    if data.training is None:
        yield "Learning curves: the run left no training history."
    if not data.timings:
        yield "Time and memory per component: the run left no timings."
    if not data.ranked_example:
        yield "Example ranking: no request was ranked."
    result = data.evaluation
    if result is None:
        yield "Metrics, slices, reliability and gates: the run left no evaluation."
        return
    if result.live is None:
        yield "Comparison with a live model: there was none, this is the first."
    if not any(scores.name == "oracle" for scores in result.baselines):
        why = (
            "the truth was not given"
            if data.run.simulated
            else "the logs are real, so nobody knows the true click rate"
        )
        yield f"Oracle and share of its lead: {why}."
    if not result.slices:
        yield "Slices: none are declared or none is large enough."
    if not result.reliability:
        yield "Reliability: the scores are not probabilities or no bins were computed."

"""What a run report says, as one checked object: `report.json` is this object, and the page is drawn from it alone."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from pydantic import Field

from evaluation.cascade.evaluate import CascadeEvaluation
from evaluation.cascade.stage_comparison import StageComparison
from evaluation.replay.verdicts.replay_report import ReplayReport
from evaluation.report.training_record import Training
from evaluation.report.verdicts import ModelVerdict
from evaluation.results import Estimate, EvaluationResult
from evaluation.retrieval import RetrievalEvaluation
from evaluation.serving_check import ServingCheck
from features import storage
from features.config import Strict
from features.ingest.counts import IngestCounts


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
    line: str = ""

    @property
    def place(self) -> str:
        """The name of its file and its line there."""
        return ":".join(filter(None, (storage.name(self.source) if self.source else "", self.line)))


class SignatureFigures(Strict):
    """The item signatures that long histories are hashed by.

    Attributes:
      items: how many are signed.
      occupancy_entropy: bits, of the share of items in each bucket, mean over groups: how well the hash tells items
        apart.
      max_entropy: bits, of equally full buckets; at 0 bits attention over long histories is mean pooling.
      centered: whether the mean embedding was subtracted first.
    """

    items: int
    occupancy_entropy: float
    max_entropy: float
    centered: bool


class BehaviorTableFigures(Strict):
    """The bucket tables of long histories that were built for the pushed ranker.

    Attributes:
      version: of the ranker that they belong to.
      users: users with a table.
      users_without: users whose whole history is short.
      behaviors: behaviours in the tables.
      record_bytes: of one user's table, as stored and read by a request.
      payload_bytes: of all tables.
      precision: of the sums.
    """

    version: str
    users: int
    users_without: int
    behaviors: int
    record_bytes: int
    payload_bytes: int
    precision: str


class RankerSummary(Strict):
    """One ranker of a run in a line.

    Attributes:
      name: how the report calls it.
      metrics: of all judged rows, by name.
      blessed: whether it passed every gate.
      failed_gates: those that it did not pass.
      pushed_version: under which it now serves; None where it was not pushed.
      training: its learning curve.
    """

    name: str
    metrics: dict[str, Estimate]
    blessed: bool
    failed_gates: tuple[str, ...] = ()
    pushed_version: str | None = None
    training: Training | None = None


class RetrieverSummary(Strict):
    """One retrieval model of a run.

    Attributes:
      name: how the report calls it.
      evaluation: its recall and gates.
      pushed_version: under which it now serves; None where it was not pushed.
      training: its learning curve.
    """

    name: str
    evaluation: RetrievalEvaluation
    pushed_version: str | None = None
    training: Training | None = None


class TriedModel(Strict):
    """A model that was served for a trial before it was pushed.

    Attributes:
      name: how the report calls it.
      check: what was found.
    """

    name: str
    check: ServingCheck


class ComponentTiming(Strict):
    """Wall time and peak resident memory of one pipeline component."""

    component: str
    seconds: float
    peak_rss_mb: float | None = None


class ExampleItem(Strict):
    """One line of the example ranking."""

    item: str | int
    score: float


class ReportData(Strict):
    """Everything in the report. A part that a run did not produce is None or empty and named in `absent`.

    Attributes:
      run: which run.
      verdicts: one row a model of the run, the cascade last.
      counts: rows by outcome.
      dead_letter_sample: a few refused rows of each reason.
      training: learning curves.
      evaluation: metrics, slices, reliability, gates.
      rankers: every ranker of the run, that of the page first.
      retrievers: every retrieval model of the run.
      signatures: of the items.
      behavior_tables: of the pushed ranker.
      cascade: what all stages as one keep of the fine ranker over everything, and at what cost.
      replay: what the models would have earned on held-out logs; None where they were not replayed.
      stages: the cascade's coarse ranker beside its fine one; None where it has none, or their rows were not kept.
      served: the models that were served for a trial.
      pushed_version: version under which the model now serves; None where it was not pushed.
      timings: per component, in the order they ran.
      ranked_example: one request ranked by the pushed model, best first.
      absent: what the report lacks, a sentence each.
    """

    run: RunInfo
    verdicts: tuple[ModelVerdict, ...] = ()
    counts: IngestCounts | None = None
    dead_letter_sample: tuple[DeadLetter, ...] = ()
    training: Training | None = None
    evaluation: EvaluationResult | None = None
    rankers: tuple[RankerSummary, ...] = ()
    retrievers: tuple[RetrieverSummary, ...] = ()
    signatures: SignatureFigures | None = None
    behavior_tables: BehaviorTableFigures | None = None
    cascade: CascadeEvaluation | None = None
    replay: ReplayReport | None = None
    stages: StageComparison | None = None
    served: tuple[TriedModel, ...] = ()
    pushed_version: str | None = None
    timings: tuple[ComponentTiming, ...] = ()
    ranked_example: tuple[ExampleItem, ...] = ()
    absent: tuple[str, ...] = Field((), description="Filled by `with_absences`.")

    def with_absences(self) -> ReportData:
        """The same report with `absent` set to what it lacks."""
        return self.model_copy(update={"absent": tuple(_absences(self))})


def _absences(data: ReportData) -> Iterator[str]:
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
    if not data.retrievers:
        yield "Retrieval: no two-tower was trained."
    if data.cascade is None:
        yield "The cascade as one: it was not judged (`cascade` in the pipeline's configuration)."
    if data.behavior_tables is None:
        yield "Bucket tables of long histories: no ranker that reads them was pushed."
    if not data.served:
        yield "Serving: no model was served for a trial."
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

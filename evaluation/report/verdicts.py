"""One row a model: what was decided, on what ground, and what would tell where the rows could not.

The gates of an evaluation are many; their verdicts against the live model and against the anchor are drawn together
into one each. The row is kept in `report.json`, so that the page and the terminal say the same.
"""

from __future__ import annotations

from collections.abc import Iterable

from evaluation.cascade.evaluate import CascadeEvaluation
from evaluation.cascade.stage_comparison import StageComparison
from evaluation.report import format as fmt
from evaluation.results import (
    ComparisonVerdict,
    Estimate,
    EvaluationResult,
    GateResult,
    LiveComparison,
    Verdict,
    combine,
)
from evaluation.retrieval import RetrievalEvaluation
from features.config import Strict

ANCHOR_GATES = "anchor"
"""How the names of the gates begin that compare with the anchor; all others that compare do so with the live model."""


class Comparison(Strict):
    """A model beside another, in one word.

    Attributes:
      verdict: what the rows show; None where they were not asked, for the `reason`.
      reason: why there is no verdict, e.g. that this is the first model; '' where there is one.
      rows_needed: of `cannot_tell`: about as many rows would tell.
      version: of the other model.
    """

    verdict: ComparisonVerdict | None = None
    reason: str = ""
    rows_needed: int | None = None
    version: str = ""


class FailedGate(Strict):
    """A gate that was not passed, and the sentence that says why."""

    name: str
    reason: str


class ModelVerdict(Strict):
    """One model of a run, or its cascade, in a row.

    Attributes:
      name: how the report calls it.
      stage: `retrieval`, `coarse`, `fine` or `cascade`.
      live: beside the model that serves now.
      anchor: beside the last model that was shown to be better, or was set by hand; None where there is none.
      blessed: whether every gate was passed.
      pushed_version: under which it now serves; None where it was not pushed.
      metric: the name of its headline metric.
      value: of that metric.
      failed: the gates that it did not pass.
    """

    name: str
    stage: str
    live: Comparison
    anchor: Comparison | None = None
    blessed: bool
    pushed_version: str | None = None
    metric: str
    value: Estimate
    failed: tuple[FailedGate, ...] = ()


def model_verdict(name: str, stage: str, evaluation: Verdict, pushed_version: str | None = None) -> ModelVerdict:
    """Draws an evaluation together.

    Args:
      name: of the model.
      stage: of the model, or `cascade`.
      evaluation: an `EvaluationResult`, a `RetrievalEvaluation` or a `CascadeEvaluation`.
      pushed_version: under which it now serves.
    """
    metric, value = _headline(evaluation)
    return ModelVerdict(
        name=name,
        stage=stage,
        live=_live(evaluation),
        anchor=_anchor(evaluation),
        blessed=evaluation.blessed,
        pushed_version=pushed_version,
        metric=metric,
        value=value,
        failed=tuple(FailedGate(name=gate.name, reason=gate.reason) for gate in evaluation.failed_gates),
    )


def combined(gates: Iterable[GateResult]) -> tuple[ComparisonVerdict | None, int | None]:
    """The verdict of several gates that compare with one model, and the rows that would tell."""
    judged = [gate for gate in gates if gate.verdict is not None]
    verdict = combine(gate.verdict for gate in judged)
    wanted = [gate.rows_needed for gate in judged if gate.verdict == "cannot_tell" and gate.rows_needed is not None]
    return verdict, max(wanted, default=None) if verdict == "cannot_tell" else None


def stage_finding(stages: StageComparison) -> tuple[str, bool]:
    """What the coarse ranker beside the fine one shows, in a sentence, and whether that is a reason to look."""
    better, worse = stages.metrics_where(coarse_is_better=True), stages.metrics_where(coarse_is_better=False)
    who = f"{stages.coarse} (coarse)", f"{stages.fine} (fine)"
    if not better and not worse:
        return f"Neither {who[0]} nor {who[1]} is shown to rank the shown impressions better.", False
    winner, loser = who if better else who[::-1]
    text = f"{winner} is better than {loser} on the same impressions: {_differences(stages, better or worse)}."
    if better and worse:
        text += f" The reverse holds of {_differences(stages, worse)}."
    elif better:
        text += " The fine ranker spoils an order that was better before it."
    return text, bool(better)


def _differences(stages: StageComparison, names: tuple[str, ...]) -> str:
    differences = {name: stages.metrics[name].difference for name in names}
    return ", ".join(f"{fmt.metric_title(n)} {fmt.signed(d.value)} {fmt.interval(d)}" for n, d in differences.items())


def _live(evaluation: Verdict) -> Comparison:
    if isinstance(evaluation, CascadeEvaluation):
        return Comparison(reason="judged beside the ideal")
    live = evaluation.live if isinstance(evaluation, (EvaluationResult, RetrievalEvaluation)) else None
    if live is None:
        return Comparison(reason="first model")
    gates = [gate for gate in evaluation.gates if not gate.name.startswith(ANCHOR_GATES)]
    return _compared(live if isinstance(live, LiveComparison) else None, gates)


def _anchor(evaluation: Verdict) -> Comparison | None:
    if not isinstance(evaluation, EvaluationResult):
        return None
    anchor = evaluation.anchor
    if anchor is None:
        return None if evaluation.live is None else Comparison(reason="the live model is the anchor")
    return _compared(anchor, [gate for gate in evaluation.gates if gate.name.startswith(ANCHOR_GATES)])


def _compared(other: LiveComparison | None, gates: list[GateResult]) -> Comparison:
    version = other.version if other is not None else ""
    if other is not None and other.unscored:
        return Comparison(reason=other.unscored, version=version)
    verdict, rows_needed = combined(gates)
    reason = "" if verdict is not None else "no gate compares them"
    return Comparison(verdict=verdict, reason=reason, rows_needed=rows_needed, version=version)


def _headline(evaluation: Verdict) -> tuple[str, Estimate]:
    if isinstance(evaluation, EvaluationResult):
        return "auc", evaluation.model.metrics.get("auc", Estimate())
    if isinstance(evaluation, RetrievalEvaluation):
        metric = f"recall@{max(evaluation.ks)}"
        return metric, Estimate(value=evaluation.model.slices["all"][metric])
    if isinstance(evaluation, CascadeEvaluation):
        return "ndcg_kept", evaluation.chosen.metrics["ndcg"]
    raise TypeError(f"no headline is known for {type(evaluation).__name__}.")

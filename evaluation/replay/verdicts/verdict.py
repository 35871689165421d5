"""One verdict of two policies on one log: better, worse, cannot tell, or withheld with its reasons."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from evaluation.metrics.rows import Array
from evaluation.replay.diagnostics.diagnostic import Diagnosis
from evaluation.replay.diagnostics.registry import DIAGNOSTICS
from evaluation.replay.diagnostics.weights import contributions
from evaluation.replay.estimators.estimator import Estimator
from evaluation.replay.intervals.interval import Interval
from evaluation.replay.intervals.linearised import standard_error
from evaluation.replay.sums import UserSums
from evaluation.replay.verdicts.power import Power, power_of
from evaluation.results import Estimate
from features.config import Strict
from features.errors import InputError

Outcome = Literal["better", "worse", "cannot_tell", "withheld"]
"""Of a candidate: its interval is above the margin, below minus the margin, neither, or not to be trusted."""


class PolicyComparison(Strict):
    """What a log says of a candidate beside a baseline.

    Attributes:
      candidate, baseline: names of the policies.
      estimator: its key.
      title: how reports call the estimator.
      interval: name of the tier.
      level: of the intervals.
      candidate_value, baseline_value: what each is worth.
      difference: candidate less baseline, paired by user.
      outcome: the verdict.
      reasons: why it is withheld, and what would lift it; empty where it is not.
      power: what the comparison could have told.
    """

    candidate: str
    baseline: str
    estimator: str
    title: str
    interval: str
    level: float
    candidate_value: Estimate
    baseline_value: Estimate
    difference: Estimate
    outcome: Outcome
    reasons: tuple[str, ...] = ()
    power: Power


def judge_difference(difference: Estimate, margin: float = 0.0, lower_is_better: bool = False) -> Outcome:
    """The verdict of an interval alone.

    Args:
      difference: candidate less baseline.
      margin: how much better, or worse, counts.
      lower_is_better: whether the reward is a cost.

    Raises:
      InputError: for a negative margin.
    """
    if margin < 0:
        raise InputError(f"`margin` must not be negative. Received: {margin}.")
    if difference.low is None or difference.high is None:
        return "withheld"
    low, high = (-difference.high, -difference.low) if lower_is_better else (difference.low, difference.high)
    if low > margin:
        return "better"
    return "worse" if high < -margin else "cannot_tell"


def compare(
    sums: UserSums,
    candidate: str,
    baseline: str,
    estimator: Estimator,
    interval: Interval,
    diagnoses: Sequence[Diagnosis],
    *,
    margin: float = 0.0,
    lower_is_better: bool = False,
    effect: float | None = None,
    power: float = 0.8,
) -> PolicyComparison:
    """Compares two policies by one estimator and one tier of intervals.

    Args:
      sums: of the log, made for the estimator.
      candidate, baseline: names of policies.
      estimator: by which values are estimated.
      interval: that surrounds them.
      diagnoses: of both policies, by this estimator (`evaluation.replay.diagnostics.registry.diagnose`).
      margin, lower_is_better: as of `judge_difference`.
      effect, power: as of `power_of`.

    Raises:
      InputError: for a policy without sums, one without diagnoses, or what the interval or the power refuse.
    """
    first, second = sums.policy(candidate), sums.policy(baseline)
    difference = interval.difference(estimator, first, second)
    influence = estimator.influence(first) - estimator.influence(second)
    outcome = judge_difference(difference, margin, lower_is_better)
    reasons = _reasons(candidate, baseline, diagnoses, influence)
    if outcome == "withheld":
        reasons.append("The difference has no interval: fewer than two users, or no user with weight.")
    half = half_width(difference)
    return PolicyComparison(
        candidate=candidate,
        baseline=baseline,
        estimator=estimator.key,
        title=estimator.title,
        interval=interval.name,
        level=interval.level,
        candidate_value=interval.of(estimator, first),
        baseline_value=interval.of(estimator, second),
        difference=difference,
        outcome="withheld" if reasons else outcome,
        reasons=tuple(reasons),
        power=power_of(half, standard_error(influence), first.total(estimator.size), effect, power),
    )


def half_width(found: Estimate) -> float:
    """Half the width of an interval; NaN where there is none."""
    return (found.high - found.low) / 2 if found.low is not None and found.high is not None else float("nan")


def _reasons(candidate: str, baseline: str, diagnoses: Sequence[Diagnosis], influence: Array) -> list[str]:
    """Why a verdict is withheld, by both policies' diagnoses and by the users that the difference rests on."""
    missing = {candidate, baseline} - {each.policy for each in diagnoses}
    if missing:
        raise InputError(f"policy `{sorted(missing)[0]}` has no diagnoses; a verdict needs those of both.")
    failed = [each for each in diagnoses if each.policy in (candidate, baseline) and not each.passed]
    reasons = [f"{each.policy}: {each.reason} {each.remedy}" for each in failed]
    rest, few = contributions(influence), DIAGNOSTICS["contributions"]
    bound = max((each.bound for each in diagnoses if each.name == few.name), default=few.bound)
    if rest is not None and not rest >= bound:
        reasons.append(f"The difference rests on {rest:.4g} users (at least {bound:g}). {few.remedy}")
    return reasons

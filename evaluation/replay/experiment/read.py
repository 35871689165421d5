"""Reading a live A/B test: the ratio of the users first, then each metric's difference with its verdict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from evaluation.replay.diagnostics.weights import Contributions, contributions
from evaluation.replay.experiment.metrics import (
    ExperimentMetric,
    Linear,
    adjusted,
    covariate_gap,
    difference,
    relative_difference,
    variant_value,
)
from evaluation.replay.experiment.sample_ratio import SampleRatio, sample_ratio, sequential_sample_ratio
from evaluation.replay.experiment.users import SEVERAL_VARIANTS, ExperimentUsers
from evaluation.replay.intervals.interval import LinearInterval
from evaluation.replay.intervals.linearised import Linearised, standard_error
from evaluation.replay.verdicts.power import Power, power_of
from evaluation.replay.verdicts.verdict import Outcome, half_width, judge_difference
from evaluation.results import Estimate
from features.config import Strict
from features.errors import InputError

MOST_IN_SEVERAL = 0.01
"""Users in several variants, over all: beyond it, what keeps users in their variants is broken."""

BALANCE = 0.999
"""Level of the interval that a covariate's gap between variants is held against."""


class MetricReading(Strict):
    """One metric of two variants.

    Attributes:
      metric: its name.
      candidate_value, baseline_value: as measured, without adjustment.
      difference: candidate less baseline, adjusted by the covariates.
      relative: the same over the baseline's value.
      outcome: the verdict.
      reasons: why it is withheld.
      variance_left: variance of the difference over that without covariates; 1 where there are none.
      power: what the experiment could have told; units are users.
    """

    metric: str
    candidate_value: Estimate
    baseline_value: Estimate
    difference: Estimate
    relative: Estimate
    outcome: Outcome
    reasons: tuple[str, ...] = ()
    variance_left: float | None = None
    power: Power


class ExperimentReading(Strict):
    """What an experiment says.

    Attributes:
      candidate, baseline: the variants.
      users: by variant.
      sample_ratio: p-value of these counts under the shares.
      excluded: fault → how many users were left out.
      interval: name of the tier.
      level: of the intervals.
      reasons: why all verdicts are withheld; empty where they are not.
      metrics: in the order asked for.
    """

    candidate: str
    baseline: str
    users: dict[str, int]
    sample_ratio: float
    excluded: dict[str, int]
    interval: str
    level: float
    reasons: tuple[str, ...] = ()
    metrics: tuple[MetricReading, ...]


def read_experiment(
    users: ExperimentUsers,
    metrics: Sequence[ExperimentMetric],
    shares: Mapping[str, float],
    candidate: str,
    baseline: str,
    interval: LinearInterval | None = None,
    effect: Mapping[str, float] | None = None,
) -> ExperimentReading:
    """Reads an experiment once, or, by a confidence sequence (in planned users), at every look.

    Args:
      users: one row a user, without those whose variant was forced.
      metrics: to read.
      shares: of all variants, in any unit, as users were drawn.
      candidate, baseline: two of the variants.
      interval: linearised at 95 % by default.
      effect: metric → the difference that one would like to see.

    Raises:
      InputError: for a variant without a share or without users, or a column that was not summed.
    """
    tier, wanted = interval or Linearised(), effect or {}
    for name in (candidate, baseline):
        if not shares.get(name, 0) > 0:
            raise InputError(f"variant `{name}` has no share. Received: {dict(shares)}.")
    counts = {name: int((users.variant == name).sum()) for name in sorted({*shares, *users.variant.tolist()})}
    ratio = (sequential_sample_ratio if tier.repeatable else sample_ratio)(counts, shares)
    reasons = _broken(users, counts, ratio)
    both = users.where((users.variant == candidate) | (users.variant == baseline))
    found = [_reading(metric, both, candidate, baseline, tier, reasons, wanted.get(metric.name)) for metric in metrics]
    return ExperimentReading(
        candidate=candidate,
        baseline=baseline,
        users=counts,
        sample_ratio=ratio.p_value,
        excluded=dict(users.excluded),
        interval=tier.name,
        level=tier.level,
        reasons=tuple(reasons),
        metrics=tuple(found),
    )


def _broken(users: ExperimentUsers, counts: Mapping[str, int], ratio: SampleRatio) -> list[str]:
    """Why nothing of the experiment may be read."""
    reasons = []
    if ratio.mismatch:
        expected = {name: round(count) for name, count in ratio.expected.items()}
        reasons.append(
            f"Users by variant are not in the ratio of the shares (p = {ratio.p_value:.2g}; {counts}, expected "
            f"{expected}): find where they are lost before anything is read."
        )
    several = users.excluded.get(SEVERAL_VARIANTS, 0)
    whole = len(users) + several
    if several > MOST_IN_SEVERAL * whole:
        reasons.append(f"{several} of {whole} users were seen in several variants: assignment is broken.")
    return reasons


def _reading(
    metric: ExperimentMetric,
    users: ExperimentUsers,
    candidate: str,
    baseline: str,
    tier: LinearInterval,
    above: Sequence[str],
    effect: float | None,
) -> MetricReading:
    plain = [variant_value(metric, users, name) for name in (candidate, baseline)]
    better = adjusted(metric, users, candidate, baseline)
    change, before = difference(*better), standard_error(difference(*plain).influence)
    size = float(len(users))
    found, error = surround(change, tier, size), standard_error(change.influence)
    reasons = [*above, *_unbalanced(metric, users, candidate, baseline), *few_users(change)]
    outcome = judge_difference(found, lower_is_better=metric.lower_is_better)
    if outcome == "withheld":
        reasons.append("The difference is undefined: too few users, or a denominator of 0.")
    return MetricReading(
        metric=metric.name,
        candidate_value=surround(plain[0], tier, size),
        baseline_value=surround(plain[1], tier, size),
        difference=found,
        relative=surround(relative_difference(*better), tier, size),
        outcome="withheld" if reasons else outcome,
        reasons=tuple(reasons),
        variance_left=(error / before) ** 2 if before > 0 else None,
        power=power_of(half_width(found), error, size, effect),
    )


def surround(linear: Linear, tier: LinearInterval, units: float) -> Estimate:
    """The interval of a linear form."""
    return tier.around(linear.value, linear.influence, units)


def few_users(linear: Linear) -> list[str]:
    """Why a difference cannot be judged whose variance rests on few users."""
    rest = contributions(linear.influence)
    if rest is None or rest >= Contributions.bound:
        return []
    reason = Contributions.reason.format(value=f"{rest:.4g}", bound=f"{Contributions.bound:g}")
    return [f"{reason} {Contributions.remedy}"]


def _unbalanced(metric: ExperimentMetric, users: ExperimentUsers, first: str, second: str) -> list[str]:
    """Covariates that differ between the variants, which none from before the experiment does."""
    found = []
    for name in metric.covariates:
        gap = surround(covariate_gap(name, users, first, second), Linearised(BALANCE), float(len(users)))
        if gap.low is not None and gap.high is not None and (gap.low > 0 or gap.high < 0):
            found.append(
                f"The covariate `{name}` differs between the variants by {gap.value:.4g}, which one from before the "
                "experiment does not: take one that the variants cannot have changed."
            )
    return found

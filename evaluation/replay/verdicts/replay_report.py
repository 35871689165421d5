"""A replay's plan, what is summed of its log, and its report: one core for a table, a command, a component and Beam.

logged → ReplaySums.of(logged, plan) → merge → report_of(sums, plan)
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from pydantic import Field, ValidationError, model_validator
from typing_extensions import Self

from evaluation.metrics.metric import divide
from evaluation.replay.diagnostics.diagnostic import Diagnosis, Evidence
from evaluation.replay.diagnostics.registry import diagnose
from evaluation.replay.diagnostics.strata import StrataSums
from evaluation.replay.estimators.estimator import Estimator
from evaluation.replay.estimators.registry import make_estimator
from evaluation.replay.intervals.confidence_sequence import ConfidenceSequence
from evaluation.replay.intervals.cressie_read import CressieRead
from evaluation.replay.intervals.interval import Interval
from evaluation.replay.intervals.registry import INTERVALS
from evaluation.replay.logged import LoggedRewards, PropensityKind
from evaluation.replay.sums import PolicySums, UserSums
from evaluation.replay.verdicts.sensitivity import Sensitivity, sensitivity
from evaluation.replay.verdicts.verdict import Outcome, PolicyComparison
from features import storage
from features.config import Strict, nearest
from features.errors import InputError

IMPRESSION = ("snips", "ips", "clipped_ips@20")
"""Estimators of every log; the verdict is the first one's."""

MODELLED = ("dr", "sndr")
"""Beside them, where both policies have a model's expected rewards."""

OWN_SLOTS, DOWNWARDS = ("sniips",), ("snrips",)
"""Beside them, of lists: by each slot's own weight, and by that of the slots down to it."""

CRESSIE_READ = ("snips", "ips")
"""Of the tier that takes few."""

EDGES = np.concatenate([[0.0], 2.0 ** np.arange(-10, 25)])


class ReplayPlan(Strict):
    """How two policies are compared.

    Attributes:
      candidate, baseline: names of the policies.
      estimators: names, the verdict's first; empty: those that the log has what they need for.
      interval: name of the tier.
      level: of the intervals.
      planned: units of the last look of a `sequence`.
      margin: how much better, or worse, counts.
      lower_is_better: whether the reward is a cost.
      effect: the difference that one would like to see: the report says how long a log tells it.
      power: the chance of seeing it.
      bounds: diagnostic → another bound than its own.
      positions: how many slots the policies fill; None: as the log.
      described: policy → what it is, for who reads the report.
    """

    candidate: str = "candidate"
    baseline: str = "baseline"
    estimators: tuple[str, ...] = ()
    interval: str = "linearised"
    level: float = Field(0.95, gt=0, lt=1)
    planned: float | None = Field(None, gt=0)
    margin: float = Field(0.0, ge=0)
    lower_is_better: bool = False
    effect: float | None = None
    power: float = Field(0.8, gt=0, lt=1)
    bounds: dict[str, float] = {}
    positions: int | None = Field(None, ge=1)
    described: dict[str, str] = {}

    @model_validator(mode="after")
    def _can_be_made(self) -> Self:
        try:
            for name in self.estimators:
                make_estimator(name)
            self.tier()
        except InputError as error:
            raise ValueError(str(error).rstrip(".")) from None
        if self.candidate == self.baseline:
            raise ValueError(f"`candidate` and `baseline` must be two policies. Received: `{self.candidate}` twice.")
        return self

    def tier(self) -> Interval:
        """Returns the interval. Raises `InputError` for one that is not in the table, or planned units of another."""
        kind = INTERVALS.get(self.interval)
        if kind is None:
            near = nearest(self.interval, INTERVALS)
            raise InputError(f"`{self.interval}` is not an interval.{near} Known: {', '.join(INTERVALS)}.")
        if self.planned is None:
            return kind(self.level)
        if not issubclass(kind, ConfidenceSequence):
            raise InputError(f"`planned` belongs to a `{ConfidenceSequence.name}`. Received `{self.interval}`.")
        return kind(self.level, self.planned)

    def estimators_for(self, logged: LoggedRewards) -> list[Estimator]:
        """Returns the estimators, the verdict's first; the same of every part of a log."""
        names = self.estimators
        if not names:
            names = CRESSIE_READ if self.interval == CressieRead.name else _defaults(logged, self)
        return [make_estimator(name) for name in names]


def _defaults(logged: LoggedRewards, plan: ReplayPlan) -> tuple[str, ...]:
    def both(column: str) -> bool:
        return {plan.candidate, plan.baseline} <= set(getattr(logged, column))

    names = IMPRESSION + (MODELLED if both("q_logged") and both("q_expected") else ())
    names += OWN_SLOTS if logged.propensity_kind == "marginal" else ()
    return names + (DOWNWARDS if both("cascade_weights") else ())


@dataclass(frozen=True)
class ReplaySums:
    """What a report needs of a log or of a part of it; parts merge in any order to the same bits.

    Attributes:
      sums: by user.
      strata: kind → sums by stratum: `slot`, `day` where times are known, and the log's own.
      estimators: keys, the verdict's first.
      propensity_kind: of the log.
      excluded: fault → rows left out.
      stratum_names: as of `LoggedRewards`.
    """

    sums: UserSums
    strata: Mapping[str, StrataSums]
    estimators: tuple[str, ...]
    propensity_kind: PropensityKind = "marginal"
    excluded: Mapping[str, int] = field(default_factory=dict)
    stratum_names: Mapping[str, Mapping[int, str]] = field(default_factory=dict)

    @classmethod
    def of(cls, logged: LoggedRewards, plan: ReplayPlan) -> ReplaySums:
        """Sums a log, or a part of it that tears no request apart.

        Raises:
          InputError: for a policy that the log does not have, or an estimator that needs what it does not have.
        """
        for name in (plan.candidate, plan.baseline):
            if name not in logged.weights:
                raise InputError(f"the log has no policy `{name}`. It has: {', '.join(logged.policies)}.")
        estimators = plan.estimators_for(logged)
        strata = {"slot": logged.slot} | dict(logged.strata)
        return cls(
            UserSums.of(logged, estimators),
            {kind: StrataSums.of(logged, keys, logged.candidates) for kind, keys in strata.items()},
            tuple(each.key for each in estimators),
            logged.propensity_kind,
            logged.excluded,
            logged.stratum_names,
        )

    def merge(self, *others: ReplaySums) -> ReplaySums:
        """The sums of all parts.

        Raises:
          InputError: for parts of other plans, or of other kinds of logs.
        """
        parts = [self, *others]
        if len({(part.estimators, part.propensity_kind, frozenset(part.strata)) for part in parts}) > 1:
            raise InputError("only sums of the same estimators, strata and kind of propensities can be merged.")
        excluded: Counter[str] = Counter()
        for part in parts:
            excluded.update(part.excluded)
        names: dict[str, dict[int, str]] = {}
        for part in parts:
            for kind, each in part.stratum_names.items():
                names.setdefault(kind, {}).update(each)
        strata = {kind: self.strata[kind].merge(*(each.strata[kind] for each in others)) for kind in self.strata}
        sums = self.sums.merge(*(each.sums for each in others))
        return ReplaySums(sums, strata, self.estimators, self.propensity_kind, dict(sorted(excluded.items())), names)


class StratumReading(Strict):
    """A policy's weights in a part of the log: a slot, a day, a segment.

    Attributes:
      kind, stratum, policy: whose.
      rows: impressions.
      mean_weight: 1 in expectation where propensities are right.
      effective_rows: (Σw)² / Σw²; None without weight.
    """

    kind: str
    stratum: str
    policy: str
    rows: int
    mean_weight: float
    effective_rows: float | None


class WeightHistogram(Strict):
    """How many users have their largest weight between two edges.

    Attributes:
      policy: whose weights.
      edges: E + 1 numbers, rising, the last one infinite weights' own: what lies above is counted there.
      users: E counts.
    """

    policy: str
    edges: tuple[float, ...]
    users: tuple[int, ...]


class ReplayReport(Strict):
    """What a log says of a candidate beside a baseline; the JSON of `clickmill replay` (docs/reference/replay/).

    Attributes:
      plan: with the estimators that were taken.
      outcome: the verdict, of the first estimator.
      reasons: why it is withheld.
      rows, requests, users: of the log as it was read.
      excluded: fault → rows that were left out.
      propensity_kind: of the log.
      sensitivity: a comparison by each estimator, and whether they say the same.
      diagnoses: of both policies by the first estimator.
      strata: the policies' weights in parts of the log.
      weights: their histograms.
    """

    kind: Literal["replay"] = "replay"
    version: Literal[1] = 1
    plan: ReplayPlan
    outcome: Outcome
    reasons: tuple[str, ...] = ()
    rows: int
    requests: int
    users: int
    excluded: dict[str, int] = {}
    propensity_kind: PropensityKind = "marginal"
    sensitivity: Sensitivity
    diagnoses: tuple[Diagnosis, ...]
    strata: tuple[StratumReading, ...] = ()
    weights: tuple[WeightHistogram, ...] = ()

    @property
    def comparisons(self) -> tuple[PolicyComparison, ...]:
        """By each estimator, the verdict's first."""
        return tuple(row.comparison for row in self.sensitivity.rows)

    def to_json(self) -> str:
        """Returns the report as JSON."""
        return self.model_dump_json(indent=2) + "\n"

    def write(self, path: storage.AnyPath) -> None:
        """Keeps the report as JSON, whole or not at all."""
        storage.write_text(path, self.to_json(), durable=True)

    @classmethod
    def read(cls, path: storage.AnyPath) -> ReplayReport:
        """Reads a report. Raises `InputError` for a file that is none, or of another version."""
        try:
            return cls.model_validate(json.loads(storage.read_text(path)))
        except (ValueError, ValidationError) as error:
            said = error.errors()[0]["msg"] if isinstance(error, ValidationError) else error
            raise InputError(f"{path} is not the report of a replay: {said}.") from None


def report_of(found: ReplaySums, plan: ReplayPlan) -> ReplayReport:
    """Reads the sums of a whole log.

    Args:
      found: of the log.
      plan: that the sums were made for.

    Raises:
      InputError: for a policy without sums, or an estimator that the tier does not take.
    """
    sums, estimators = found.sums, [make_estimator(name) for name in found.estimators]

    def diagnoses_of(policy: PolicySums, estimator: Estimator) -> list[Diagnosis]:
        return diagnose(Evidence(policy, estimator, found.strata, positions=plan.positions), plan.bounds)

    both = (plan.candidate, plan.baseline)
    table = sensitivity(
        sums,
        plan.candidate,
        plan.baseline,
        estimators,
        plan.tier(),
        diagnoses_of,
        margin=plan.margin,
        lower_is_better=plan.lower_is_better,
        effect=plan.effect,
        power=plan.power,
    )
    first = table.rows[0].comparison
    return ReplayReport(
        plan=plan.model_copy(update={"estimators": found.estimators}),
        outcome=first.outcome,
        reasons=first.reasons,
        rows=int(sums.by_user.total("rows")),
        requests=int(sums.by_user.total("requests")),
        users=len(sums.users),
        excluded=dict(found.excluded),
        propensity_kind=found.propensity_kind,
        sensitivity=table,
        diagnoses=tuple(each for name in both for each in diagnoses_of(sums.policy(name), estimators[0])),
        strata=tuple(_strata(found, both)),
        weights=tuple(_histogram(sums.policy(name)) for name in both),
    )


def _strata(found: ReplaySums, policies: Iterable[str]) -> Iterable[StratumReading]:
    for kind, strata in found.strata.items():
        names, rows = found.stratum_names.get(kind, {}), strata.table.values("rows")
        for policy in policies:
            weight, square = (strata.table.values(f"{column}/{policy}") for column in ("w", "w²"))
            effective = divide(weight**2, square)
            for key, count, total, worth in zip(strata.strata.tolist(), rows, weight, effective, strict=True):
                yield StratumReading(
                    kind=kind,
                    stratum=names.get(key, str(key)),
                    policy=policy,
                    rows=int(count),
                    mean_weight=float(total / count),
                    effective_rows=float(worth) if np.isfinite(worth) else None,
                )


def _histogram(policy: PolicySums) -> WeightHistogram:
    largest = np.minimum(policy.largest_weight, EDGES[-1])
    users, _ = np.histogram(largest, EDGES)
    return WeightHistogram(policy=policy.name, edges=tuple(EDGES.tolist()), users=tuple(users.tolist()))

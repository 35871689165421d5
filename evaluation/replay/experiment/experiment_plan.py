"""An experiment's plan in a YAML file, and what its logs say by it."""

from __future__ import annotations

import hashlib
from typing import Annotated, Literal

import numpy as np
import pyarrow as pa
from pydantic import BeforeValidator, Field

from evaluation.replay.experiment.days import DaysReading, read_days
from evaluation.replay.experiment.metrics import ExperimentMetric
from evaluation.replay.experiment.read import ExperimentReading, read_experiment
from evaluation.replay.experiment.slices import SlicesReading, read_slices
from evaluation.replay.experiment.tables import KEYS, days_of, in_layer, numbers_of, read_columns, with_events
from evaluation.replay.experiment.users import ExperimentUsers, read_users
from evaluation.replay.intervals.confidence_sequence import ConfidenceSequence
from evaluation.replay.intervals.interval import LinearInterval
from evaluation.replay.intervals.linearised import Linearised
from evaluation.replay.verdicts.looks import Look
from features import storage
from features.config import Strict, parse_model, read_yaml

Paths = Annotated[tuple[str, ...], BeforeValidator(lambda value: (value,) if isinstance(value, str) else value)]


class ExperimentPlan(Strict):
    """What is read of an experiment, and how; best written before it begins.

    Attributes:
      logs: Parquet files, folders or globs of the exposures, one row an item that was shown.
      events: name → files of what came of them (clicks), with `request_id` and `item_id`; each is a column of 0 and 1.
      user: column of the user's key.
      variant: column of the variant's name, or of lists of `layer=variant`, as a gateway's exposures have.
      layer: whose variant is read, where they are lists. Rows with a true `forced` are left out.
      shares: variant → its share of the users who were drawn, in any unit.
      candidate: the variant that is judged.
      baseline: the variant that it is judged beside.
      metrics: what is read; columns are of `logs`, of `events`, or `rows`, which counts them.
      before: Parquet with one row a user and the covariates that metrics name: what users did before, or a prediction
        of that time.
      day: column of the day, or of UTC milliseconds; None: no effect by day.
      slices: columns of what was known of users before the experiment.
      level: of the intervals.
      planned_users: users of the last look that is planned: intervals then are a confidence sequence, whose level holds
        for all looks together. None: one look.
      effects: metric → the difference that one would like to see.
    """

    logs: Paths = Field(min_length=1)
    events: dict[str, Paths] = {}
    user: str = "user_id"
    variant: str = "variant"
    layer: str | None = None
    shares: dict[str, float] = Field(min_length=2)
    candidate: str
    baseline: str
    metrics: tuple[ExperimentMetric, ...] = Field(min_length=1)
    before: str | None = None
    day: str | None = None
    slices: tuple[str, ...] = ()
    level: float = Field(0.95, gt=0, lt=1)
    planned_users: int | None = Field(None, gt=0)
    effects: dict[str, float] = {}

    @classmethod
    def load(cls, path: storage.AnyPath) -> ExperimentPlan:
        """Reads a plan. Raises `SpecError` for one that cannot be used."""
        return parse_model(read_yaml(path), cls, str(path))

    @property
    def interval(self) -> LinearInterval:
        """The tier of its intervals."""
        if self.planned_users is None:
            return Linearised(self.level)
        return ConfidenceSequence(self.level, self.planned_users)

    @property
    def columns(self) -> list[str]:
        """The columns that are summed by user."""
        named = [column for each in self.metrics for column in (each.numerator, each.denominator)]
        return list(dict.fromkeys(name for name in named if name not in (None, "rows")))


class ExperimentReport(Strict):
    """All that an experiment's logs say.

    Attributes:
      plan: by which they were read.
      reading: users, sample ratio, and each metric with its verdict.
      slices: of each metric; empty without slices.
      days: of each numerator and denominator; empty without days.
    """

    version: Literal[1] = 1
    kind: Literal["experiment"] = "experiment"
    plan: ExperimentPlan
    reading: ExperimentReading
    slices: tuple[SlicesReading, ...] = ()
    days: tuple[DaysReading, ...] = ()


def users_of(plan: ExperimentPlan) -> ExperimentUsers:
    """Reads the logs of a plan, by user.

    Raises:
      InputError: for files or columns that are not there, or not what they are taken for.
    """
    own = [name for name in plan.columns if name not in plan.events]
    keys = KEYS if plan.events else ()
    wanted = [plan.user, plan.variant, *own, *([plan.day] if plan.day else []), *plan.slices, *keys]
    forced = ["forced"] if plan.layer else []
    rows = read_columns(plan.logs, list(dict.fromkeys([*wanted, *forced])))
    rows = with_events(rows, {name: read_columns(paths, KEYS) for name, paths in plan.events.items()})
    rows = numbers_of(in_layer(rows, plan.variant, plan.layer), plan.columns)
    if plan.day:
        rows = rows.set_column(rows.column_names.index(plan.day), plan.day, days_of(rows[plan.day]))
    return read_users(
        rows,
        plan.columns,
        user=plan.user,
        variant=plan.variant,
        day=plan.day,
        slices=plan.slices,
        before=_before(plan),
    )


def read_plan(plan: ExperimentPlan, users: ExperimentUsers) -> ExperimentReport:
    """Reads an experiment by its plan; count the look first (`look_at`).

    Args:
      plan: what is read.
      users: of its logs.
    """
    pair = plan.candidate, plan.baseline
    reading = read_experiment(users, plan.metrics, plan.shares, *pair, plan.interval, plan.effects)
    slices = [read_slices(users, each, *pair, level=plan.level) for each in plan.metrics] if plan.slices else []
    # Days are read without covariates: metrics that differ by these alone are one there.
    plain = {(each.numerator, each.denominator): each for each in reversed(plan.metrics)}
    each_once = [each for each in plan.metrics if plain[each.numerator, each.denominator] is each]
    days = [read_days(users, each, *pair, plan.level) for each in each_once] if plan.day else []
    return ExperimentReport(plan=plan, reading=reading, slices=tuple(slices), days=tuple(days))


def look_at(users: ExperimentUsers) -> Look:
    """The look at these users, for the ledger of looks; the same log in another order is the same look."""
    names = sorted(users.sums)
    columns = [np.round(np.nan_to_num(users.sums[name], nan=-1.0), 6) for name in names]
    order = np.lexsort([*columns, users.variant])
    found = hashlib.sha256("\n".join([*names, *users.variant[order]]).encode())
    for column in columns:
        found.update(column[order].tobytes())
    return Look(digest=found.hexdigest(), rows=int(users.sums["rows"].sum()), users=len(users))


def _before(plan: ExperimentPlan) -> pa.Table | None:
    if plan.before is None:
        return None
    named = [part for each in plan.metrics for covariate in each.covariates for part in covariate.split("/")]
    return read_columns([plan.before], list(dict.fromkeys([plan.user, *named])))

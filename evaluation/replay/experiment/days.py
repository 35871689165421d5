"""The effect day by day: whether it wears off (novelty) or grows (learning)."""

from __future__ import annotations

import numpy as np

from evaluation.metrics.rows import Array
from evaluation.replay.experiment.metrics import ExperimentMetric, Linear, difference, variant_value
from evaluation.replay.experiment.users import ExperimentUsers
from evaluation.replay.intervals.linearised import Linearised, standard_error
from evaluation.results import Estimate
from features.config import Strict
from features.errors import InputError


class DayReading(Strict):
    """The difference of one day's rows.

    Attributes:
      day: as text.
      users: who have rows on the day.
      difference: candidate less baseline.
    """

    day: str
    users: int
    difference: Estimate


class DaysReading(Strict):
    """A metric by day.

    Attributes:
      metric: its name.
      days: in order, those on which both variants have users.
      trend: by how much the difference grows a day, as all days together say; users who return count once.
      novelty: whether the trend is shown (its interval lacks 0).
    """

    metric: str
    days: tuple[DayReading, ...]
    trend: Estimate
    novelty: bool


def read_days(
    users: ExperimentUsers, metric: ExperimentMetric, candidate: str, baseline: str, level: float = 0.95
) -> DaysReading:
    """Reads a metric day by day, without covariates. A day's interval holds by itself: a plot, no verdict.

    The trend is the regression of the days' differences Δ_d on the day, weighted by 1 / s_d²; it is linear in them, and
    its error is that of Σ_d c_d ψ_ud by user, who brings the same luck to all days.

    Raises:
      InputError: for users that were read without days.
    """
    if not users.days:
        raise InputError("the experiment was read without days; name the column of the day to `read_users`.")
    tier, found, changes, places = Linearised(level), [], [], []
    for place, day in enumerate(users.days):
        part = _of_day(users, place, candidate, baseline)
        there = part.sums["rows"] > 0
        if any(not (there & (part.variant == name)).any() for name in (candidate, baseline)):
            continue
        change = _difference(metric, part, there, candidate, baseline)
        shown = tier.around(change.value, change.influence[there], float(there.sum()))
        found.append(DayReading(day=str(day), users=int(there.sum()), difference=shown))
        changes.append(change)
        places.append(float(place))
    trend = _trend(changes, np.array(places), tier)
    shows = trend.low is not None and trend.high is not None and (trend.low > 0 or trend.high < 0)
    return DaysReading(metric=metric.name, days=tuple(found), trend=trend, novelty=shows)


def _of_day(users: ExperimentUsers, place: int, candidate: str, baseline: str) -> ExperimentUsers:
    both = (users.variant == candidate) | (users.variant == baseline)
    sums = {name: column[both, place] for name, column in users.day_sums.items()}
    return ExperimentUsers(users.variant[both], sums)


def _difference(metric: ExperimentMetric, part: ExperimentUsers, there: Array, candidate: str, baseline: str) -> Linear:
    """The day's difference, its influence spread over all users [U], 0 of those without rows on the day."""
    inner = part.where(there)
    change = difference(*(variant_value(metric, inner, name) for name in (candidate, baseline)))
    influence = np.zeros(len(there))
    influence[there] = change.influence
    return Linear(change.value, influence)


def _trend(changes: list[Linear], places: Array, tier: Linearised) -> Estimate:
    if len(changes) < 2:
        return Estimate()
    errors = np.array([standard_error(change.influence) for change in changes])
    if not (errors > 0).all():
        return Estimate()
    weight = errors**-2
    apart = places - (weight * places).sum() / weight.sum()
    slopes = weight * apart / (weight * apart**2).sum()
    value = float(slopes @ np.array([change.value for change in changes]))
    return tier.around(value, slopes @ np.stack([change.influence for change in changes]), 1.0)

"""The effect by slice, corrected for how many slices were looked at."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from evaluation.replay.experiment.metrics import ExperimentMetric, Linear, adjusted, difference
from evaluation.replay.experiment.read import few_users
from evaluation.replay.experiment.users import ExperimentUsers
from evaluation.replay.intervals.linearised import Linearised
from evaluation.replay.verdicts.verdict import Outcome, judge_difference
from evaluation.results import Estimate
from features.config import Strict
from features.errors import InputError


class SliceReading(Strict):
    """The difference of a metric among the users of one slice.

    Attributes:
      feature, value: of the slice.
      users: of both variants.
      difference: with an interval that, together with all other slices', holds at the level (Bonferroni).
      outcome: by Holm's order, which finds more at the same level of one false verdict in all.
      reason: why it is withheld.
    """

    feature: str
    value: str
    users: int
    difference: Estimate
    outcome: Outcome
    reason: str = ""


class SlicesReading(Strict):
    """All slices of a metric.

    Attributes:
      metric: its name.
      level: at which all verdicts hold together.
      slices: judged or withheld, by feature and value.
      omitted: slices of fewer than the least users.
    """

    metric: str
    level: float
    slices: tuple[SliceReading, ...]
    omitted: int


def read_slices(
    users: ExperimentUsers,
    metric: ExperimentMetric,
    candidate: str,
    baseline: str,
    features: Iterable[str] | None = None,
    level: float = 0.95,
    min_users: int = 200,
) -> SlicesReading:
    """Reads a metric slice by slice; read the whole first, whose reasons to withhold hold for its slices.

    Args:
      users: with slices.
      metric: to read.
      candidate, baseline: two variants.
      features: whose slices; all by default.
      level: the chance that no verdict of any slice is false.
      min_users: of a slice, both variants together.

    Raises:
      InputError: for a feature that was not read.
    """
    both = users.where((users.variant == candidate) | (users.variant == baseline))
    keys, changes, omitted = [], [], 0
    for feature in users.slices if features is None else features:
        if feature not in users.slices:
            raise InputError(f"`{feature}` was not read as a slice. Known: {', '.join(users.slices)}.")
        for value in np.unique(both.slices[feature]):
            part = both.where(both.slices[feature] == value)
            if len(part) < min_users or len(set(part.variant)) < 2:
                omitted += 1
                continue
            keys.append((feature, str(value), len(part)))
            changes.append(difference(*adjusted(metric, part, candidate, baseline)))
    found = _corrected(keys, changes, metric.lower_is_better, level)
    return SlicesReading(metric=metric.name, level=level, slices=tuple(found), omitted=omitted)


def _corrected(
    keys: Sequence[tuple[str, str, int]], changes: Sequence[Linear], lower_is_better: bool, level: float
) -> list[SliceReading]:
    few = [" ".join(few_users(change)) for change in changes]
    judged = [i for i, reason in enumerate(few) if not reason]
    outcomes: dict[int, Outcome] = {i: "withheld" for i in range(len(keys))}
    outcomes |= _holm({i: changes[i] for i in judged}, lower_is_better, level)
    tier = Linearised(1 - (1 - level) / max(1, len(judged)))
    return [
        SliceReading(
            feature=feature,
            value=value,
            users=size,
            difference=tier.around(change.value, change.influence, size),
            outcome=outcomes[i],
            reason=few[i],
        )
        for i, ((feature, value, size), change) in enumerate(zip(keys, changes, strict=True))
    ]


def _holm(changes: dict[int, Linear], lower_is_better: bool, level: float) -> dict[int, Outcome]:
    """Verdicts from the clearest difference down, each at the level that is left for the others (Holm, 1979)."""

    def clearness(i: int) -> float:
        found = Linearised(level).around(changes[i].value, changes[i].influence, 1)
        width = (found.high or 0.0) - (found.low or 0.0)
        return abs(changes[i].value) / width if width > 0 else 0.0

    outcomes: dict[int, Outcome] = {}
    stopped = False
    for rank, i in enumerate(sorted(changes, key=clearness, reverse=True)):
        tier = Linearised(1 - (1 - level) / (len(changes) - rank))
        found = judge_difference(tier.around(changes[i].value, changes[i].influence, 1), 0.0, lower_is_better)
        stopped = stopped or found not in ("better", "worse")
        outcomes[i] = "cannot_tell" if stopped else found
    return outcomes

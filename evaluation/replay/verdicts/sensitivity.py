"""How a verdict moves between estimators and models of the user."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

from evaluation.replay.diagnostics.diagnostic import Diagnosis
from evaluation.replay.estimators.estimator import Estimator
from evaluation.replay.intervals.interval import Interval
from evaluation.replay.sums import PolicySums, UserSums
from evaluation.replay.verdicts.verdict import PolicyComparison, compare
from features.config import Strict


class SensitivityRow(Strict):
    """One estimator's comparison, and its difference over the baseline's value, which units do not change."""

    comparison: PolicyComparison
    relative: float | None


class Sensitivity(Strict):
    """The table.

    Attributes:
      rows: one an estimator.
      outcome: `steady` where all that are not withheld say the same, `moves` where some cannot tell what others tell,
        `contradicts` where one says better and one worse, `withheld` where all are.
    """

    rows: tuple[SensitivityRow, ...]
    outcome: Literal["steady", "moves", "contradicts", "withheld"]


def sensitivity(
    sums: UserSums,
    candidate: str,
    baseline: str,
    estimators: Sequence[Estimator],
    interval: Interval,
    diagnose: Callable[[PolicySums, Estimator], Sequence[Diagnosis]],
    **options: float | bool | None,
) -> Sensitivity:
    """Compares two policies by each of the estimators.

    Args:
      sums: made for all of the estimators.
      candidate, baseline: names of policies.
      estimators: the rows, e.g. one a model of the user.
      interval: one that takes all of them.
      diagnose: returns what diagnostics find of a policy by an estimator.
      options: as of `compare`.
    """
    rows = []
    for estimator in estimators:
        found = [each for name in (candidate, baseline) for each in diagnose(sums.policy(name), estimator)]
        comparison = compare(sums, candidate, baseline, estimator, interval, found, **options)  # type: ignore[arg-type]
        difference, value = comparison.difference.value, comparison.baseline_value.value
        relative = difference / value if difference is not None and value else None
        rows.append(SensitivityRow(comparison=comparison, relative=relative))
    told = {row.comparison.outcome for row in rows} - {"withheld"}
    if not told:
        return Sensitivity(rows=tuple(rows), outcome="withheld")
    if {"better", "worse"} <= told:
        return Sensitivity(rows=tuple(rows), outcome="contradicts")
    return Sensitivity(rows=tuple(rows), outcome="steady" if len(told) == 1 else "moves")

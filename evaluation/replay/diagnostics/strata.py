"""Sums of propensities and weights by stratum (slot, day, segment), which calibration and drift are read from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from evaluation.metrics.metric import divide
from evaluation.metrics.rows import Array
from evaluation.replay.logged import LoggedRewards
from evaluation.replay.sums import SumTable


@dataclass(frozen=True)
class Means:
    """A mean by stratum: value, standard error and rows, each [S], over independent rows."""

    value: Array
    error: Array
    rows: Array


@dataclass(frozen=True)
class StrataSums:
    """Exact sums by stratum, which merge in any order to the same bits.

    Attributes:
      table: keyed by stratum; columns `rows`, of v = Σ 1/p over the number of candidates `inverse` and `inverse²`
        where candidates are known, `log` and `log²` of log p, `w/policy`, `w²/policy`, and, of policies with a model,
        `balance/policy`, `balance²/policy` of w q − e and `expected/policy` of e.
    """

    table: SumTable

    @classmethod
    def of(cls, logged: LoggedRewards, stratum: Array, candidates: Array | None = None) -> StrataSums:
        """Sums a log, or a part of it.

        Args:
          logged: N rows.
          stratum: [N] int keys.
          candidates: [N] how many items the logger could have shown in the row's slot; Σ 1/p over rows is their sum
            in expectation. None where they are not known.
        """
        log = np.log(logged.propensity)
        columns = {"rows": np.ones(len(logged)), "log": log, "log²": log**2}
        if candidates is not None:
            inverse = 1 / (logged.propensity * candidates)
            columns |= {"inverse": inverse, "inverse²": inverse**2}
        for policy, weight in logged.weights.items():
            columns |= {f"w/{policy}": weight, f"w²/{policy}": weight**2}
            if policy in logged.q_logged and policy in logged.q_expected:
                columns |= _balance(logged, policy)
        return cls(SumTable.of_rows(stratum, None, columns.items()))

    def merge(self, *others: StrataSums) -> StrataSums:
        """The sums of all parts."""
        return StrataSums(SumTable.merged([self.table, *(other.table for other in others)]))

    @property
    def strata(self) -> Array:
        """[S] keys, rising."""
        return self.table.user

    def has(self, column: str) -> bool:
        """Whether a column was summed."""
        return column in self.table.columns

    def means(self, column: str, square: str) -> Means:
        """Means by stratum of a column whose squares are summed as `square`."""
        rows = self.table.values("rows")
        return _means(self.table.values(column), self.table.values(square), rows)

    def mean(self, column: str, square: str) -> Means:
        """The mean over all strata, each [1]."""
        totals = (np.array([self.table.total(each)]) for each in (column, square, "rows"))
        return _means(*totals)


def _balance(logged: LoggedRewards, policy: str) -> dict[str, Array]:
    expected = logged.q_expected[policy]
    apart: Array = logged.weights[policy] * logged.q_logged[policy] - expected
    return {f"balance/{policy}": apart, f"balance²/{policy}": apart**2, f"expected/{policy}": expected}


def _means(total: Array, square: Array, rows: Array) -> Means:
    mean = divide(total, rows)
    variance = np.maximum(divide(square, rows) - mean**2, 0)
    return Means(mean, np.sqrt(divide(variance, np.maximum(rows - 1, 0))), rows)

"""What a metric is: one class of two methods, which serve its value, its parts and its interval alike."""

from __future__ import annotations

import abc
from dataclasses import dataclass
from typing import Any

import numpy as np

from evaluation.metrics.rows import Array, RankedGroups, ScoredRows
from features.errors import InputError


@dataclass(frozen=True)
class Users:
    """Whose each row is: the users that an interval leaves out one after the other, each with all its rows.

    Attributes:
      codes: [N] the user of each row, from 0.
      count: U, the number of users; codes lie below it.
    """

    codes: Array
    count: int

    @classmethod
    def one(cls, rows: int) -> Users:
        """All rows as one user's: enough where only the value is wanted."""
        return cls(np.zeros(rows, np.int64), 1)

    def sums(self, *columns: Array | float, bins: Array | None = None, num_bins: int = 1) -> Array:
        """Sums over the rows of each user.

        Args:
          *columns: C summands, each [N] or one number for every row.
          bins: [N] a bin for each row, from 0; without, all rows share one.
          num_bins: B.

        Returns:
          [U, C · B], the bins of the first column first.
        """
        at = self.codes if bins is None else self.codes * num_bins + bins
        parts = [np.bincount(at, np.broadcast_to(column, at.shape), self.count * num_bins) for column in columns]
        return np.concatenate([part.reshape(self.count, num_bins) for part in parts], axis=1)

    def of_groups(self, groups: RankedGroups) -> Users:
        """Whose each group is, e.g. each request. Raises `ValueError` where a group has rows of several users."""
        if self.count == 1:
            return Users.one(len(groups.sizes))
        codes = self.codes[groups.rows]
        owners = codes[np.cumsum(groups.sizes) - groups.sizes]
        if not np.array_equal(np.repeat(owners, groups.sizes), codes):
            raise ValueError("a request must have one user. Received: a request with rows of several users.")
        return Users(owners, self.count)


class Metric(abc.ABC):
    """A metric of scored rows; it is listed in `evaluation.metrics.registry.METRICS`.

    `value(sums(rows, users))` is the metric over all rows; `without_each` of the same sums is the metric over all rows
    but those of one user, for every user, which its interval rests on (`evaluation.intervals`). What `sums` finds in
    parts of the rows adds up by `+`, if the parts code users alike and none tears a user's rows apart. Nearly every
    metric is a `SumMetric`.

    Attributes:
      name: how configurations and results call the metric. Where the class takes a number, it ends with `@k`.
      title: how reports call it.
      lower_is_better: which way is better; None where 1 is best.
      needs_probabilities: False where only the order of the scores counts, so that any score has the metric.
      has_interval: False where leaving users out would say nothing true of the metric.
      is_ratio: whether the metric is a ratio of positive numbers without an upper limit. Such a ratio errs further
        upwards than downwards, so its interval is made on its logarithm.
    """

    name: str
    title: str
    lower_is_better: bool | None = False
    needs_probabilities: bool = True
    has_interval: bool = True
    is_ratio: bool = False

    @abc.abstractmethod
    def sums(self, rows: ScoredRows, users: Users) -> Any:
        """Returns what the metric needs of the rows, user by user: mostly sums [U, C]."""

    @abc.abstractmethod
    def value(self, sums: Any) -> float:
        """Returns the metric over all rows; NaN where it is undefined."""

    def without_each(self, sums: Any) -> Array:
        """Returns the metric over all rows but a user's, for each user [U]; NaN where it is undefined."""
        raise InputError(f"`{self.name}` has no interval: leave it out of `slice_metrics` and of comparisons.")


class SumMetric(Metric):
    """A metric of sums over the rows, as most are: a subclass writes `sums`, which returns [U, C], and `finish`.

    Example:
      class ClickShare(SumMetric):
          \"\"\"The share of the scores that clicked rows have.\"\"\"

          name, title = "click_share", "Share of clicks"

          def sums(self, rows, users):
              return users.sums(rows.score * rows.label, rows.score)

          def finish(self, totals):
              clicked, shown = totals
              return divide(clicked, shown)
    """

    @abc.abstractmethod
    def finish(self, totals: Array) -> Array:
        """Returns the metric of the sums over rows, element by element; NaN where it is undefined.

        Args:
          totals: [C] or [C, U]: of all rows, or of all rows but those of each user.
        """

    def value(self, sums: Array) -> float:
        return float(self.finish(sums.sum(axis=0)))

    def without_each(self, sums: Array) -> Array:
        return self.finish((sums.sum(axis=0) - sums).T)


def divide(numerator: Array | float, denominator: Array | float) -> Array:
    """The quotient, element by element; NaN where the denominator is 0."""
    numerator, denominator = np.asarray(numerator, np.float64), np.asarray(denominator, np.float64)
    return np.divide(numerator, denominator, out=np.full(denominator.shape, np.nan), where=denominator != 0)

"""What a metric is: one class of two methods, which serve its value, its parts and its interval alike."""

from __future__ import annotations

import abc
from dataclasses import dataclass
from typing import Any

import numpy as np

from evaluation.metrics.rows import Array, RankedGroups, ScoredRows


@dataclass(frozen=True)
class Users:
    """Whose each row is: the users that a bootstrap resamples, each with all its rows.

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

    `finish(sums(rows, users), weights)` is the metric over the rows of each user repeated as often as the weights say.
    Weights of 1 give its value, the weights of a resample give a replicate of its interval. What `sums` finds in parts
    of the rows adds up by `+`, if the parts code users alike and none tears a user's rows apart.

    Example:
      class ClickShare(Metric):
          \"\"\"The share of the scores that clicked rows have.\"\"\"

          name, title = "click_share", "Share of clicks"

          def sums(self, rows, users):
              return users.sums(rows.score * rows.label, rows.score)

          def finish(self, sums, weights):
              return divide(*(weights @ sums))

    Attributes:
      name: how configurations and results call the metric. Where the class takes a number, it ends with `@k`.
      title: how reports call it.
      lower_is_better: which way is better; None where 1 is best.
      needs_probabilities: False where only the order of the scores counts, so that any score has the metric.
      has_interval: False where resampling would say nothing true of the metric.
    """

    name: str
    title: str
    lower_is_better: bool | None = False
    needs_probabilities: bool = True
    has_interval: bool = True

    @abc.abstractmethod
    def sums(self, rows: ScoredRows, users: Users) -> Any:
        """Returns what the metric needs of the rows, user by user: mostly sums [U, C]."""

    @abc.abstractmethod
    def finish(self, sums: Any, weights: Array) -> float:
        """Returns the metric under whole weights of the users [U]; NaN where it is undefined."""


def divide(numerator: float, denominator: float) -> float:
    """The quotient; NaN where the denominator is 0."""
    return float(numerator / denominator) if denominator else float("nan")

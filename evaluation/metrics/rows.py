"""The rows metrics are computed from, and what every metric state can do."""

from __future__ import annotations

import abc
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class ScoredRows:
    """Scored impressions as flat arrays, all of shape [N].

    Attributes:
      label: float64, 0 or 1.
      score: float64, finite; a probability where a calibration metric is asked for.
      user: int64 key of the user. Equal keys mean equal users in every part that is merged: dictionary codes of the
        whole table, or a stable hash.
      request: int64 key of the request, likewise.

    Raises:
      ValueError: on lengths that differ, labels other than 0 and 1, scores that are not finite.
    """

    label: np.ndarray
    score: np.ndarray
    user: np.ndarray
    request: np.ndarray

    def __post_init__(self):
        for name, dtype in (("label", np.float64), ("score", np.float64), ("user", np.int64), ("request", np.int64)):
            # A uint64 hash keeps its bits: only equality of keys matters.
            array = np.asarray(getattr(self, name))
            array = array.view(np.int64) if array.dtype == np.uint64 and dtype is np.int64 else array.astype(dtype)
            object.__setattr__(self, name, array)
            if array.shape != self.label.shape or array.ndim != 1:
                raise ValueError(
                    f"`{name}` must be one array as long as `label`. Received shape {array.shape}, "
                    f"`label` {self.label.shape}."
                )
        wrong = (self.label != 0) & (self.label != 1)
        if wrong.any():
            row = int(np.argmax(wrong))
            raise ValueError(f"`label` must be 0 or 1. Received: `label`[{row}]={self.label[row]}.")
        wrong = ~np.isfinite(self.score)
        if wrong.any():
            row = int(np.argmax(wrong))
            raise ValueError(f"`score` must be finite. Received: `score`[{row}]={self.score[row]}.")

    def __len__(self) -> int:
        return len(self.label)

    def take(self, rows: np.ndarray) -> ScoredRows:
        """The rows at the given indices (or of a boolean mask)."""
        return ScoredRows(self.label[rows], self.score[rows], self.user[rows], self.request[rows])


class Metric(abc.ABC):
    """A metric as a mergeable state, as in torchrec: parts are updated apart, merged, and give the whole's result.

    `merge` of any split of the rows gives the result over all rows, up to the order of float additions.
    """

    @abc.abstractmethod
    def update(self, rows: ScoredRows) -> Metric:
        """Adds rows. Returns itself."""

    @abc.abstractmethod
    def merge(self, other: Metric) -> Metric:
        """Adds another state of the same metric and the same arguments. Returns itself."""

    @abc.abstractmethod
    def result(self) -> float:
        """The metric over everything added so far; NaN where it is undefined."""

    def _check_same(self, other: Metric, *arguments: str) -> None:
        for name in ("__class__", *arguments):
            if getattr(self, name) != getattr(other, name):
                raise ValueError(
                    f"only states of the same metric merge: `{name}` is {getattr(self, name)} here and "
                    f"{getattr(other, name)} there."
                )


class SummedMetric(Metric):
    """A metric whose state is a vector of sums: merging adds them. O(1) memory."""

    def __init__(self):
        self.sums: np.ndarray | float = 0.0

    @abc.abstractmethod
    def _sums(self, rows: ScoredRows) -> np.ndarray:
        """The sums over rows."""

    def update(self, rows: ScoredRows) -> Metric:
        if len(rows):
            self.sums = self.sums + self._sums(rows)
        return self

    def merge(self, other: Metric) -> Metric:
        self._check_same(other)
        self.sums = self.sums + other.sums
        return self

    @property
    def is_empty(self) -> bool:
        return np.ndim(self.sums) == 0


class CollectedMetric(Metric):
    """A metric that is exact only over all rows at once: its state keeps them, 9 to 17 bytes a row.

    Args:
      group: the column of `ScoredRows` that is kept beside label and score: `user`, `request` or None.
    """

    def __init__(self, group: str | None = None):
        if group not in (None, "user", "request"):
            raise ValueError(f"`group` must be user, request or None. Received: `group`={group!r}.")
        self.group = group
        self._parts: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []

    def update(self, rows: ScoredRows) -> Metric:
        key = getattr(rows, self.group) if self.group else np.empty(0, np.int64)
        self._parts.append((rows.label.astype(bool), rows.score, key))
        return self

    def merge(self, other: Metric) -> Metric:
        self._check_same(other, "group")
        self._parts.extend(other._parts)
        return self

    def collected(self) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        """Label (bool), score and group key (None without a group) of all rows."""
        if not self._parts:
            empty = np.empty(0)
            return empty.astype(bool), empty, empty.astype(np.int64) if self.group else None
        if len(self._parts) > 1:
            self._parts = [tuple(np.concatenate(column) for column in zip(*self._parts, strict=True))]
        label, score, key = self._parts[0]
        return label, score, key if self.group else None

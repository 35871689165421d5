"""What weights look like, for a page: a histogram, and what they are worth slot by slot and slice by slice."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from evaluation.metrics.metric import divide
from evaluation.metrics.rows import Array
from evaluation.replay.logged import LoggedRewards
from features.config import Strict

EDGES = tuple(float(2 ** (half / 2)) for half in range(-12, 25))
"""Of the bins, from 1/64 by factors of √2 to 4,096; the first and the last bin hold what lies beyond."""

MOST_VALUES = 24
"""Of a feature; those with the most rows are kept."""


class WeightHistogram(Strict):
    """A policy's weights.

    Attributes:
      policy: its name.
      zeros: rows with weight 0, which the policy never shows.
      rows: rows by bin of `EDGES`.
      largest: weight.
    """

    policy: str
    zeros: int
    rows: tuple[int, ...]
    largest: float


class SliceWeights(Strict):
    """What a policy's weights are worth in one slot or slice.

    Attributes:
      policy: its name.
      feature: `slot`, or the feature of the slice.
      value: of the slice, as text.
      rows: impressions.
      users: different ones.
      mean_weight: 1 in expectation.
      effective: (Σ_u W_u)² / Σ_u W_u², users of equal weight that say as much; 0 where all weights are.
    """

    policy: str
    feature: str
    value: str
    rows: int
    users: int
    mean_weight: float
    effective: float


class WeightSummary(Strict):
    """The weights of a log.

    Attributes:
      histograms: one a policy.
      slots: by policy and slot.
      slices: by policy, feature and value.
      omitted: feature → values that are not shown, for it has more than `MOST_VALUES`.
    """

    histograms: tuple[WeightHistogram, ...]
    slots: tuple[SliceWeights, ...]
    slices: tuple[SliceWeights, ...] = ()
    omitted: dict[str, int] = {}

    @classmethod
    def of(cls, logged: LoggedRewards, slices: Mapping[str, Array] | None = None) -> WeightSummary:
        """Looks at a log.

        Args:
          logged: N rows.
          slices: feature → [N] values, shown as text.
        """
        slots = _Groups(logged.user, logged.slot)
        named = {feature: _Groups(logged.user, values) for feature, values in (slices or {}).items()}
        left = {feature: len(groups.values) - MOST_VALUES for feature, groups in named.items()}
        omitted = {feature: count for feature, count in left.items() if count > 0}
        histograms, by_slot, by_slice = [], [], []
        for policy, weight in logged.weights.items():
            histograms.append(_histogram(policy, weight))
            by_slot += slots.summaries(policy, "slot", weight)
            for feature, groups in named.items():
                by_slice += groups.summaries(policy, feature, weight)
        return cls(histograms=tuple(histograms), slots=tuple(by_slot), slices=tuple(by_slice), omitted=omitted)


def _histogram(policy: str, weight: Array) -> WeightHistogram:
    positive = weight[weight > 0]
    place = np.clip(np.searchsorted(EDGES, positive, side="right") - 1, 0, len(EDGES) - 2)
    rows = tuple(np.bincount(place, minlength=len(EDGES) - 1).tolist())
    return WeightHistogram(
        policy=policy, zeros=len(weight) - len(positive), rows=rows, largest=float(weight.max(initial=0.0))
    )


class _Groups:
    """Rows by value, and within it by user.

    Attributes:
      values: [V] distinct, rising.
    """

    def __init__(self, user: Array, values: Array):
        self.values, self._code = np.unique(np.asarray(values), return_inverse=True)
        self._rows = np.bincount(self._code, minlength=len(self.values))
        users, user_code = np.unique(user, return_inverse=True)
        pairs, self._pair = np.unique(self._code * len(users) + user_code, return_inverse=True)
        self._value_of_pair = pairs // max(len(users), 1)

    def summaries(self, policy: str, feature: str, weight: Array) -> list[SliceWeights]:
        """Of the values with the most rows, in order of the values."""
        count = len(self.values)
        by_user = np.bincount(self._pair, weight)
        total, square = (np.bincount(self._value_of_pair, each, count) for each in (by_user, by_user**2))
        users = np.bincount(self._value_of_pair, minlength=count)
        kept = np.sort(np.argsort(-self._rows, kind="stable")[:MOST_VALUES])
        return [
            SliceWeights(
                policy=policy,
                feature=feature,
                value=str(self.values[i]),
                rows=int(self._rows[i]),
                users=int(users[i]),
                mean_weight=float(total[i] / self._rows[i]),
                effective=float(np.nan_to_num(divide(total[i] ** 2, square[i]))),
            )
            for i in kept
        ]

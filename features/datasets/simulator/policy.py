"""The simulator's logging policy: which candidates fill the slots of a request, and with what probability.

The policy scores item i for a request as s_i = policy_score_i + affinity[cluster of i]. Slot k is filled, from the
released items that no earlier slot of the request holds (A_k), by

    P(i | earlier slots) = (1 - exploration) · exp(s_i / T) / Σ_{j ∈ A_k} exp(s_j / T) + exploration / |A_k|

that is a Plackett-Luce ranking mixed slot by slot with uniform exploration. This number is the logged propensity:
exact, because the sums over items factor over clusters.
"""

from __future__ import annotations

import numpy as np

from features.datasets.simulator.catalogue import Items


class LoggingPolicy:
    """Fills requests with released items and knows the probability of each choice.

    Args:
      items: the catalogue.
      days: days of the log; an item is available from midnight of its release day.
      temperature: T above; higher is more uniform.
      exploration: share of slots filled uniformly.
    """

    def __init__(self, items: Items, days: int, temperature: float, exploration: float):
        self._items = items
        self._temperature = temperature
        self._exploration = exploration
        self._weight = np.exp((items.policy_score - items.policy_score.max()) / temperature)
        self._cumulative = np.concatenate([[0.0], np.cumsum(self._weight)])
        num_clusters = items.tree.num_clusters
        self._start = np.searchsorted(items.cluster, np.arange(num_clusters))
        # Items are sorted by (cluster, release day): what is released of a cluster by a day is a prefix.
        released = np.zeros((days, num_clusters), np.int64)
        for day in range(days):
            np.add.at(released[day], items.cluster[items.release_day <= day], 1)
        self._end = self._start + released
        self._mass = self._cumulative[self._end] - self._cumulative[self._start]
        self._num_released = released.sum(axis=1)
        self._by_release = np.argsort(items.release_day, kind="stable")

    def sample(
        self, rng: np.random.Generator, affinity: np.ndarray, day: np.ndarray, num_slots: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Fills requests.

        Args:
          rng: the generator.
          affinity: [B, clusters], the policy's belief about the request's interests.
          day: [B], the day of each request.
          num_slots: [B], candidates wanted, at most the items released by then.

        Returns:
          items [B, max(num_slots)] int64 (indices in the catalogue, -1 where unused) and their propensities
          [B, max(num_slots)] float64 (0 where unused).
        """
        width = int(num_slots.max())
        tilt = np.exp(affinity / self._temperature)
        cdf = np.cumsum(tilt * self._mass[day], axis=1)
        total = cdf[:, -1].copy()
        used = np.zeros(len(day))
        items = np.full((len(day), width), -1, np.int64)
        propensity = np.zeros((len(day), width))
        for slot in range(width):
            rows = np.flatnonzero(num_slots > slot)
            explore = rng.random(len(rows)) < self._exploration
            open_rows, open_explore = rows, explore
            # Rejection: the coin stays, the item is drawn again until no earlier slot holds it. This is the softmax
            # (or the uniform law) over what is left, exactly.
            while len(open_rows):
                drawn = self._draw(rng, cdf, day, open_rows, open_explore)
                taken = (items[open_rows, :slot] == drawn[:, None]).any(axis=1)
                items[open_rows[~taken], slot] = drawn[~taken]
                open_rows, open_explore = open_rows[taken], open_explore[taken]
            chosen = items[rows, slot]
            weight = self._weight[chosen] * tilt[rows, self._items.cluster[chosen]]
            left = self._num_released[day[rows]] - slot
            propensity[rows, slot] = (1 - self._exploration) * weight / (
                total[rows] - used[rows]
            ) + self._exploration / left
            used[rows] += weight
        return items, propensity

    def slot_probabilities(self, affinity: np.ndarray, day: int, earlier: np.ndarray) -> np.ndarray:
        """Returns P(item at the next slot | earlier slots), [num_items], by the plain sum over all items.

        Args:
          affinity: [clusters].
          day: of the request.
          earlier: items (indices) of the earlier slots.
        """
        available = self._items.release_day <= day
        available[np.asarray(earlier, np.int64)] = False
        score = self._items.policy_score + affinity[self._items.cluster]
        weight = np.where(available, np.exp((score - score.max()) / self._temperature), 0.0)
        return (1 - self._exploration) * weight / weight.sum() + self._exploration * available / available.sum()

    def _draw(
        self, rng: np.random.Generator, cdf: np.ndarray, day: np.ndarray, rows: np.ndarray, explore: np.ndarray
    ) -> np.ndarray:
        drawn = np.empty(len(rows), np.int64)
        u = rng.random(len(rows))
        uniform = np.flatnonzero(explore)
        drawn[uniform] = self._by_release[(u[uniform] * self._num_released[day[rows[uniform]]]).astype(np.int64)]
        by_score = np.flatnonzero(~explore)
        of = rows[by_score]
        cluster = (u[by_score, None] * cdf[of, -1:] >= cdf[of]).sum(axis=1)
        mass = self._mass[day[of], cluster]
        at = self._cumulative[self._start[cluster]] + rng.random(len(of)) * mass
        item = np.searchsorted(self._cumulative, at, side="right") - 1
        # Rounding may touch the neighbour of either end.
        drawn[by_score] = np.clip(item, self._start[cluster], self._end[day[of], cluster] - 1)
        return drawn

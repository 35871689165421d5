"""What simulated users clicked before the log begins: a year of behaviours, with interests that have moved since."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from features.datasets.simulator.behavior import HOURLY_TRAFFIC
from features.datasets.simulator.catalogue import DAY_MS, Items, Population
from features.datasets.simulator.config import ItemTree

#: Of a user's clicks before the log.
FOCUS_CHANGES = 0.2
FOCUS_IS_OWN = 0.8

_SPREAD = 1.1
_ACTIVITY_CORRELATION = 0.5
_BATCH = 65_536


@dataclass(frozen=True)
class Past:
    """Behaviours before the log, sorted by (user, time). Each [behaviours]: user; item (index); timestamp (ms, below 0,
    where the log starts), strictly increasing within a user."""

    user: np.ndarray
    item: np.ndarray
    timestamp: np.ndarray

    def last_click_of_niches(self, niche: np.ndarray, num_users: int, num_niches: int) -> np.ndarray:
        """Returns the number, from 0, of each user's last click in each niche: [users · niches] int32; -1: none.

        Args:
          niche: [num_items], the items' niches.
          num_users, num_niches: their counts.
        """
        last = np.full(num_users * num_niches, -1, np.int32)
        number = np.arange(len(self.user)) - np.searchsorted(self.user, self.user)
        # Of equal indices the last is assigned last and stays.
        last[self.user * num_niches + niche[self.item]] = number
        return last


def draw_past(
    rng: np.random.Generator, users: Population, items: Items, days: int, median: float, drift: float
) -> Past:
    """Draws who clicked what on the `days` before the log.

    A user's number of clicks is log-normal and goes with how active the user is. A click is after a cluster, the focus,
    which moves before one click in five: to one of the user's interests or, one time in five, to any. In an interest
    the niche is one of the user's own, else any of the cluster; the item is one of those that were released by then, in
    proportion to popularity. A share `drift` of the users had other interests until a day before the log.

    Args:
      rng: the generator.
      users, items: who, and what there is; each niche needs an item that is older than `days`.
      days: how far back it goes; 0: nobody clicked before.
      median: clicks of a user.
      drift: the share of users whose interests have moved.
    """
    if not days:
        return Past(*np.zeros((3, 0), np.int64))
    user = np.repeat(np.arange(len(users)), _counts(rng, users, median))
    n = len(user)
    hour = rng.choice(24, n, p=HOURLY_TRAFFIC / HOURLY_TRAFFIC.sum())
    timestamp = -rng.integers(1, days + 1, n) * DAY_MS + hour * 3_600_000 + rng.integers(0, 3_600_000, n)
    timestamp = timestamp[np.lexsort((timestamp, user))]
    order = np.arange(n) - np.searchsorted(user, user)
    # Ties within a user move apart by a millisecond each; a day has enough.
    timestamp = np.maximum.accumulate(user * 2 * days * DAY_MS + timestamp - order) - user * 2 * days * DAY_MS + order

    moved = -np.where(rng.random(len(users)) < drift, rng.integers(0, days, len(users)), days + 1) * DAY_MS
    former = timestamp < moved[user]
    # Those who have moved had the interests of somebody else.
    own = np.where(former, rng.permutation(len(users))[user], user)
    cluster = _focus(rng, users, own, order)
    niche = _niches(rng, users, items.tree, own, cluster)
    return Past(user, _items(rng, items, niche, timestamp // DAY_MS), timestamp)


def _counts(rng: np.random.Generator, users: Population, median: float) -> np.ndarray:
    rank = users.activity.argsort().argsort()
    # The logit of the rank, scaled to unit variance, is nearly the normal score.
    score = np.log((rank + 0.5) / (len(rank) - rank - 0.5)) * (np.sqrt(3.0) / np.pi)
    own = np.sqrt(1 - _ACTIVITY_CORRELATION**2) * rng.standard_normal(len(rank))
    count = median * np.exp(_SPREAD * (_ACTIVITY_CORRELATION * score + own))
    return np.minimum(count, 40 * median).astype(np.int64)


def _focus(rng: np.random.Generator, users: Population, own: np.ndarray, order: np.ndarray) -> np.ndarray:
    n, num_clusters = len(own), users.interests.shape[1]
    changes = (rng.random(n) < FOCUS_CHANGES) | (order == 0) | (np.diff(own, prepend=-1) != 0)
    interests = users.interests[own[changes]]
    interest = np.argmax(rng.random(interests.shape) * interests, axis=1)
    anywhere = rng.integers(0, num_clusters, len(interest))
    focus = np.where(rng.random(len(interest)) < FOCUS_IS_OWN, interest, anywhere)
    return focus[np.cumsum(changes) - 1]


def _niches(
    rng: np.random.Generator, users: Population, tree: ItemTree, own: np.ndarray, cluster: np.ndarray
) -> np.ndarray:
    width, parts = tree.niches_per_cluster, [np.zeros(0, np.int64)]
    by_cluster = users.niches.reshape(len(users), -1, width)
    for start in range(0, len(own), _BATCH):
        rows = slice(start, start + _BATCH)
        mask = by_cluster[own[rows], cluster[rows]]
        # Without a niche of one's own in the cluster, any.
        weight = rng.random(mask.shape) * (mask | ~mask.any(axis=1, keepdims=True))
        parts.append(cluster[rows] * width + np.argmax(weight, axis=1))
    return np.concatenate(parts)


def _items(rng: np.random.Generator, items: Items, niche: np.ndarray, day: np.ndarray) -> np.ndarray:
    order = np.lexsort((items.release_day, items.niche))
    span = int(items.release_day.max() - items.release_day.min()) + 2
    keys = items.niche[order] * span + (items.release_day[order] - items.release_day.min())
    first = np.searchsorted(keys, niche * span)
    end = np.searchsorted(keys, niche * span + np.minimum(day - items.release_day.min(), span - 1), side="right")
    total = np.concatenate([[0.0], np.cumsum(items.popularity[order])])
    drawn = total[first] + rng.random(len(niche)) * (total[end] - total[first])
    return order[np.clip(np.searchsorted(total, drawn, side="right") - 1, first, end - 1)]

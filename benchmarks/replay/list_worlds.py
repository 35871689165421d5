"""Logs of lists whose truth is known: so few items that all lists are written down, with each policy's probability."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace

import numpy as np

from evaluation.replay.logged import LoggedRewards
from evaluation.replay.weights import cluster_weights

CONTEXTS, ITEMS, SLOTS = 12, 6, 3
CLUSTER = np.arange(ITEMS) // 2
EXAMINATION = 1 / (1.0 + np.arange(SLOTS))
POLICY = "policy"


@dataclass(frozen=True)
class ListWorld:
    """Contexts, equally frequent; in each, a logger and a policy over lists, and the mean reward of every slot.

    Attributes:
      lists: [M, L] all lists.
      logger, policy: [X, M] probabilities.
      reward: [X, M, L] means.
      model: [X, items, L] what a model expects of an item in a slot.
      behavior: [X] how users read: 0 each slot by itself, 1 downwards, 2 as a whole.
      said: [X, M] the logger by which the log's propensities are made; None: the one that shows.
      blind: whether weights leave the slot out: how likely the policy shows the item anywhere, over the logger.
      conditional: whether the model's expectation is of the policy's item given those above it.
    """

    lists: np.ndarray
    logger: np.ndarray
    policy: np.ndarray
    reward: np.ndarray
    model: np.ndarray
    behavior: np.ndarray
    said: np.ndarray | None = None
    blind: bool = False
    conditional: bool = False

    @property
    def truth(self) -> float:
        """The policy's expected reward of a list."""
        return float((self.policy * self.reward.sum(axis=2)).sum(axis=1).mean())

    def draw(self, seed: int, requests: int = 4000) -> LoggedRewards:
        """Draws a log: a user a request."""
        rng = np.random.default_rng((3, seed))
        context = rng.integers(0, CONTEXTS, requests)
        shown = (
            (self.logger.cumsum(axis=1)[context] < rng.random((requests, 1))).sum(axis=1).clip(max=len(self.lists) - 1)
        )
        reward = (rng.random((requests, SLOTS)) < self.reward[context, shown]).astype(np.float64)
        return self._logged(context, shown, reward)

    def _logged(self, context: np.ndarray, shown: np.ndarray, reward: np.ndarray) -> LoggedRewards:
        logger = self.logger if self.said is None else self.said
        target, placed = (marginals(self.lists, each) for each in (self.policy, logger))
        x, slot, item = np.repeat(context, SLOTS), np.tile(np.arange(SLOTS), len(context)), self.lists[shown].ravel()
        propensity = placed[x, item, slot]
        weight = target[x, item, slot] / propensity
        if self.blind:
            weight = target[x, item].sum(axis=1) / placed[x, item].sum(axis=1)
        request = np.repeat(np.arange(len(context)), SLOTS)
        return LoggedRewards(
            user=request,
            request=request,
            slot=slot,
            reward=reward.ravel(),
            propensity=propensity,
            weights={POLICY: weight},
            q_logged={POLICY: self.model[x, item, slot]},
            q_expected={POLICY: self._expected(target)[context, shown].ravel()},
            cascade_weights={POLICY: _down(self.lists, self.policy, logger)[context, shown].ravel()},
            cluster_weights={POLICY: _of_clusters(target, placed, x, item, slot)},
            balanced_weights={POLICY: 3 * weight},  # a classifier's are right up to a factor
            placements={POLICY: target[x, item]},
            logger_placements=placed[x, item],
            behavior=self.behavior[x],
            examination=EXAMINATION,
        )

    def _expected(self, target: np.ndarray) -> np.ndarray:
        """What the model expects of the policy's item in each slot of each list, [X, M, L]."""
        if not self.conditional:
            found = (target * self.model).sum(axis=1)
            return np.broadcast_to(found[:, None], (CONTEXTS, *self.lists.shape))
        found = np.empty(self.reward.shape)
        for slot in range(SLOTS):
            above, code = _codes(self.lists, slot), self.lists[:, slot]
            mass = np.zeros((CONTEXTS, above.max() + 1, ITEMS))
            np.add.at(mass, (slice(None), above, code), self.policy)
            total = mass.sum(axis=2)
            expected = np.einsum("xai,xi->xa", mass, self.model[:, :, slot])
            found[:, :, slot] = np.divide(expected, total, out=np.zeros_like(total), where=total > 0)[:, above]
        return found


def make(
    repeats: bool = False,
    behavior: str = "independent",
    clustered: bool = False,
    favour: tuple[float, float] = (0.0, 0.0),
    seed: int = 0,
    **changes: object,
) -> ListWorld:
    """Makes a world.

    Args:
      repeats: whether slots are filled independently of each other (an item may stand in two), else one after the
        other from the items that are left (Plackett-Luce).
      behavior: `independent`, `cascade`, `standard`, or `mixed` by context.
      clustered: whether items of a cluster earn alike.
      favour: how much the logger and the policy prefer what earns.
      seed: of the draws.
      changes: attributes of the world to replace.
    """
    rng = np.random.default_rng(seed)
    every = itertools.product(range(ITEMS), repeat=SLOTS) if repeats else itertools.permutations(range(ITEMS), SLOTS)
    lists = np.array(list(every))
    quality = rng.uniform(0.1, 0.8, (CONTEXTS, ITEMS))
    if clustered:
        quality = quality[:, 2 * CLUSTER]
    codes = {"independent": 0, "cascade": 1, "standard": 2}
    reads = np.arange(CONTEXTS) % 3 if behavior == "mixed" else np.full(CONTEXTS, codes[behavior])
    taste = 0.7 * rng.normal(size=(2, CONTEXTS, ITEMS))
    world = ListWorld(
        lists=lists,
        logger=filled(lists, np.exp(0.6 * taste[0] + favour[0] * quality), repeats),
        policy=filled(lists, np.exp(0.6 * taste[0] + taste[1] + favour[1] * quality), repeats),
        reward=_rewards(lists, quality, reads),
        model=quality[:, :, None] * EXAMINATION,
        behavior=reads,
    )
    return replace(world, **changes)  # type: ignore[arg-type]


def filled(lists: np.ndarray, strength: np.ndarray, repeats: bool) -> np.ndarray:
    """The probability [X, M] of every list under strengths [X, items], slot by slot, with or without repeats."""
    chance, left = np.ones((CONTEXTS, len(lists))), np.repeat(strength.sum(axis=1)[:, None], len(lists), axis=1)
    for slot in range(SLOTS):
        here = strength[:, lists[:, slot]]
        chance *= np.divide(here, left, out=np.zeros_like(left), where=left > 1e-12)
        left -= 0.0 if repeats else here
    return chance


def marginals(lists: np.ndarray, policy: np.ndarray) -> np.ndarray:
    """The probability [X, items, L] of each item in each slot."""
    found = np.zeros((CONTEXTS, ITEMS, SLOTS))
    for slot in range(SLOTS):
        np.add.at(found, (slice(None), lists[:, slot], slot), policy)
    return found


def _rewards(lists: np.ndarray, quality: np.ndarray, reads: np.ndarray) -> np.ndarray:
    """[X, M, L]: examination times quality; of readers by list, less where the item above is like it (and below)."""
    like = CLUSTER[lists]
    tired = np.ones((3, *lists.shape))
    tired[1:, :, 1:] -= 0.5 * (like[:, 1:] == like[:, :-1])
    tired[2, :, :-1] *= 1 - 0.5 * (like[:, 1:] == like[:, :-1])
    return quality[:, lists] * EXAMINATION * tired[reads]


def _codes(lists: np.ndarray, slots: int) -> np.ndarray:
    """[M] which lists begin with the same items in so many slots."""
    return np.unique(lists[:, :slots] @ ITEMS ** np.arange(slots), return_inverse=True)[1].reshape(-1)


def _down(lists: np.ndarray, policy: np.ndarray, logger: np.ndarray) -> np.ndarray:
    """[X, M, L] the weight of the slots down to each."""
    found = np.zeros((CONTEXTS, *lists.shape))
    for slot in range(SLOTS):
        code = _codes(lists, slot + 1)
        mass = np.zeros((2, CONTEXTS, code.max() + 1))
        for each, of in zip(mass, (policy, logger), strict=True):
            np.add.at(each, (slice(None), code), of)
        ratio = np.divide(mass[0], mass[1], out=np.zeros_like(mass[0]), where=mass[1] > 0)
        found[:, :, slot] = ratio[:, code]
    return found


def _of_clusters(
    target: np.ndarray, placed: np.ndarray, x: np.ndarray, item: np.ndarray, slot: np.ndarray
) -> np.ndarray:
    row, each = np.repeat(np.arange(len(x)), ITEMS), np.tile(np.arange(ITEMS), len(x))
    at = np.repeat(x, ITEMS), each, np.repeat(slot, ITEMS)
    return cluster_weights(row, CLUSTER[each], each == np.repeat(item, ITEMS), target[at], placed[at])

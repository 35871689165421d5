"""Worlds of lists small enough to be written down whole: every list of every context, as often as the logger makes it.

On such a log the mean of whatever estimators average is its expectation over all logs, computed exactly.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from evaluation.replay.logged import LoggedRewards
from evaluation.replay.weights import cascade_weights, cluster_weights

Policy = dict[tuple[int, ...], Fraction]
Reward = Callable[[int, tuple[int, ...], int], float]
ITEMS, CLUSTERS = 4, np.array([0, 0, 1, 1])


def plackett_luce(strengths: list[int], slots: int) -> Policy:
    """The probability of every list without an item twice."""
    found = {}
    for each in itertools.permutations([item for item in range(len(strengths)) if strengths[item]], slots):
        probability, left = Fraction(1), sum(strengths)
        for item in each:
            probability *= Fraction(strengths[item], left)
            left -= strengths[item]
        found[each] = probability
    return found


def independent(*slots: list[int]) -> Policy:
    """The probability of every list whose slots are filled independently, each by its own strengths."""
    found = {}
    for each in itertools.product(*(range(len(strengths)) for strengths in slots)):
        probability = math.prod(Fraction(s[item], sum(s)) for s, item in zip(slots, each, strict=True))
        if probability:
            found[each] = probability
    return found


@dataclass(frozen=True)
class World:
    """Contexts, equally frequent, each with a logger and a policy, and one reward for all.

    Attributes:
      loggers, policies: [X] the probability of each list.
      reward: (context, list, slot) → reward of the slot.
      model: (context, item, slot) → what a model expects of an item in a slot.
    """

    loggers: list[Policy]
    policies: list[Policy]
    reward: Reward
    model: Callable[[int, int, int], float] = lambda context, item, slot: 0.1 * item - 0.05 * slot + 0.2 * context

    @property
    def truth(self) -> float:
        """The policy's expected reward of a list."""
        values = [
            float(p) * sum(self.reward(x, each, slot) for slot in range(len(each)))
            for x, policy in enumerate(self.policies)
            for each, p in policy.items()
        ]
        return sum(values) / len(self.policies)

    def log(self, users: int = 7, behavior: list[int] | None = None) -> LoggedRewards:
        """Every list of every context as often as its probability says; `behavior` [X] is each context's."""
        times = math.lcm(*(p.denominator for logger in self.loggers for p in logger.values()))
        lists = [(x, e, int(p * times)) for x, logger in enumerate(self.loggers) for e, p in logger.items()]
        slots = len(lists[0][1])
        rows = [(x, e, slot) for x, e, _ in lists for slot in range(slots)]
        counts = [count for _, _, count in lists]
        again = (np.repeat(np.arange(len(lists)), counts)[:, None] * slots + np.arange(slots)).ravel()
        request = np.repeat(np.arange(sum(counts)), slots)
        slot = again % slots
        placed = {
            name: np.array([[marginal(which[x], e[s], k) for k in range(slots)] for x, e, s in rows])[again]
            for name, which in (("logger", self.loggers), ("target", self.policies))
        }
        here = np.arange(len(again)), slot
        weight = placed["target"][here] / placed["logger"][here]
        conditional = np.array([given(self.policies[x], e, s) / given(self.loggers[x], e, s) for x, e, s in rows])
        return LoggedRewards(
            user=request % users,
            request=request,
            slot=slot,
            reward=np.array([self.reward(*row) for row in rows])[again],
            propensity=placed["logger"][here],
            weights={"target": weight},
            q_logged={"target": np.array([self.model(x, e[s], s) for x, e, s in rows])[again]},
            q_expected={"target": np.array([self.expected(*row) for row in rows])[again]},
            cascade_weights={"target": cascade_weights(request, conditional[again])},
            cluster_weights={"target": self._clusters(rows)[again]},
            balanced_weights={"target": 3 * weight},  # a classifier's are right up to a factor
            placements={"target": placed["target"]},
            logger_placements=placed["logger"],
            behavior=None if behavior is None else np.array([behavior[x] for x, _, _ in rows])[again],
            examination=1 / (1 + np.arange(slots)),
        )

    def expected(self, context: int, shown: tuple[int, ...], slot: int) -> float:
        """What the model expects of the policy's item in a slot, given the items above it."""
        chances = {i: given(self.policies[context], (*shown[:slot], i), slot) for i in range(ITEMS)}
        return sum(p * self.model(context, item, slot) for item, p in chances.items())

    def _clusters(self, rows: list[tuple[int, tuple[int, ...], int]]) -> np.ndarray:
        each = [(x, e[s], s, item) for x, e, s in rows for item in range(ITEMS)]
        target, logger = (
            np.array([marginal(which[x], item, s) for x, _, s, item in each]) for which in (self.policies, self.loggers)
        )
        request, item = np.repeat(np.arange(len(rows)), ITEMS), np.tile(np.arange(ITEMS), len(rows))
        shown = item == np.array([logged for _, logged, _, _ in each])
        return cluster_weights(request, CLUSTERS[item], shown, target, logger)


def marginal(policy: Policy, item: int, slot: int) -> float:
    """The probability of an item in a slot."""
    return float(sum(p for each, p in policy.items() if each[slot] == item))


def given(policy: Policy, shown: tuple[int, ...], slot: int) -> float:
    """The probability of a list's item in a slot, given the items above it; 0 where those cannot be."""
    above = [(each, p) for each, p in policy.items() if each[:slot] == shown[:slot]]
    total = sum((p for _, p in above), Fraction(0))
    return float(sum(p for each, p in above if each[slot] == shown[slot]) / total) if total else 0.0

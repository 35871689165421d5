"""Logs whose truth is known: contexts and actions few enough to be summed over, users who come again."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import numpy as np

from evaluation.replay.logged import LoggedRewards

CONTEXTS, ACTIONS = 50, 20
POLICIES = ("candidate", "baseline")


@dataclass(frozen=True)
class Scenario:
    """How a world is made.

    Attributes:
      rows: of a log.
      rows_a_user: how often a user comes.
      reward: mean reward.
      spread: standard deviation of the logger's logits; at 0 it draws uniformly.
      near: how near the policies stay to the logger, 0 to 1; the heavier the weights, the farther.
      rate: how much users differ: their rates are Beta(rate, 6 rate) over their mean; 0: not at all.
    """

    rows: int = 4000
    rows_a_user: int = 1
    reward: float = 0.3
    spread: float = 0.0
    near: float = 0.0
    rate: float = 0.0


SCENARIOS = {
    "independent": Scenario(),
    "softmax": Scenario(spread=1.0, near=0.3),
    "ten_rows_a_user": Scenario(rows=8000, rows_a_user=10, reward=0.1, rate=1.0),
    "rewards_near_1": Scenario(reward=0.9),
    "low_rate": Scenario(rows=20_000, reward=0.01),
    "heavy_tail": Scenario(spread=3.0, reward=0.3),
}


@dataclass(frozen=True)
class Draw:
    """What happened: user, context, action and reward, each [N]."""

    user: np.ndarray
    context: np.ndarray
    action: np.ndarray
    reward: np.ndarray


class World:
    """A logger, two policies and their rewards, drawn once; `log` draws a log of it, `truth` is exact.

    Args:
      scenario: how.
      seed: of the world.
      equal: whether both policies are worth the same: the baseline is the candidate with like actions swapped.
    """

    def __init__(self, scenario: Scenario, seed: int = 0, equal: bool = False):
        rng = np.random.default_rng(seed)
        shape = (CONTEXTS, ACTIONS)
        self.scenario, logits = scenario, rng.normal(size=shape) * scenario.spread
        if equal:  # neighbours 2k and 2k + 1 earn alike and are logged alike
            logits[:, 1::2] = logits[:, ::2]
        quality = rng.normal(size=shape)
        if equal:
            quality[:, 1::2] = quality[:, ::2]
        self.reward = np.clip(scenario.reward * np.exp(0.5 * quality * (1 - scenario.reward)), 0, 1)
        self.reward *= scenario.reward / self.reward.mean()
        self.reward = np.clip(self.reward, 0, 0.99)
        self.logger = _softmax(logits)
        taste = rng.normal(size=(2, *shape))
        if equal:
            taste[1, :, ::2], taste[1, :, 1::2] = taste[0, :, 1::2], taste[0, :, ::2]
        self.policy = _softmax(scenario.near * logits + taste)
        self.truth = {name: _value(policy, self.reward) for name, policy in zip(POLICIES, self.policy, strict=True)}

    def planted(self, lift: float) -> World:
        """The same world with a candidate of its own tastes that is worth (1 + lift) times the baseline.

        Its probabilities are tilted by exp(c · reward), with c by bisection.
        """
        wanted, low, high = (1 + lift) * self.truth["baseline"], -50.0, 50.0
        tilted = self.policy[0]
        for _ in range(60):
            middle = (low + high) / 2
            tilted = _softmax(np.log(self.policy[0]) + middle * self.reward)
            low, high = (middle, high) if _value(tilted, self.reward) < wanted else (low, middle)
        found = copy.copy(self)
        found.policy = np.stack([tilted, self.policy[1]])
        found.truth = self.truth | {"candidate": _value(tilted, self.reward)}
        return found

    def draw(self, seed: int, rows: int | None = None) -> Draw:
        """Draws what the logger showed, and what came of it."""
        rng, size, each = np.random.default_rng((1, seed)), rows or self.scenario.rows, self.scenario.rows_a_user
        user = np.arange(size) // each
        context = rng.integers(0, CONTEXTS, size)
        action = (self.logger.cumsum(axis=1)[context] < rng.random((size, 1))).sum(axis=1).clip(max=ACTIONS - 1)
        chance = self.reward[context, action]
        if self.scenario.rate:
            rate = rng.beta(self.scenario.rate, 6 * self.scenario.rate, user[-1] + 1) * 7
            # Means of users are kept below 1 by the low rewards that this is used with.
            chance = np.minimum(chance * rate[user], 1.0)
        return Draw(user, context, action, (rng.random(size) < chance).astype(np.float64))

    def logged(self, draw: Draw) -> LoggedRewards:
        """The log of a draw, with the weights of both policies."""
        at, rows = (draw.context, draw.action), np.arange(len(draw.user))
        propensity = self.logger[at]
        weights = {name: self.policy[i][at] / propensity for i, name in enumerate(POLICIES)}
        return LoggedRewards(draw.user, rows, np.zeros_like(rows), draw.reward, propensity, weights)

    def log(self, seed: int, rows: int | None = None) -> LoggedRewards:
        """Draws a log."""
        return self.logged(self.draw(seed, rows))


def _value(policy: np.ndarray, reward: np.ndarray) -> float:
    return float((policy * reward).sum(axis=1).mean())


def _softmax(logits: np.ndarray) -> np.ndarray:
    grown = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return grown / grown.sum(axis=-1, keepdims=True)

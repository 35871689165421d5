"""The ranker's own order, and now and then a random one of its best items."""

from __future__ import annotations

import numpy as np

from serving.experiments.exploration.choice import Choice, checked, ranked


class GreedyExplorer:
    """The ranker's own order, which explores nothing: every propensity is 1."""

    policy, needs_draws = "greedy", False

    def choose(
        self, logits: np.ndarray, k: int, rng: np.random.Generator, deviations: np.ndarray | None = None
    ) -> Choice:
        """Returns the best k; as `Explorer.choose`."""
        order = ranked(checked(logits, k))[:k]
        return Choice(order, np.ones(len(order)), np.ones(len(order)), self.policy)


class EpsilonExplorer:
    """With probability epsilon a list drawn uniformly, without replacement, from the best `top`; else the best k.

    With m the smaller of `top` and the candidates, an item of the best m stands in a slot l < m with probability
    `(1 - epsilon) [it is the ranker's own there] + epsilon / m`. Slots from m on keep the ranker's order.

    Args:
      epsilon: in (0, 1].
      top: at least 2.
    """

    needs_draws = False

    def __init__(self, epsilon: float, top: int):
        self._epsilon, self._top = epsilon, top
        self.policy = f"epsilon(epsilon={epsilon:g},top={top})"

    def choose(
        self, logits: np.ndarray, k: int, rng: np.random.Generator, deviations: np.ndarray | None = None
    ) -> Choice:
        """Draws a list; as `Explorer.choose`."""
        best = ranked(checked(logits, k))
        order, drawn_from = best[:k], min(self._top, len(best))
        drawn = min(k, drawn_from)
        if rng.random() < self._epsilon:
            order = np.concatenate([rng.permutation(best[:drawn_from])[:drawn], order[drawn:]])
        own = order[:drawn] == best[:drawn]
        propensities, conditionals = np.ones(len(order)), np.ones(len(order))
        propensities[:drawn] = (1 - self._epsilon) * own + self._epsilon / max(drawn_from, 1)
        # Of the list's first l items: the ranker's own with probability 1 - epsilon, or drawn, each with its chance.
        chances = np.cumprod(1.0 / (drawn_from - np.arange(drawn)))
        prefixes = (1 - self._epsilon) * np.cumprod(own) + self._epsilon * chances
        conditionals[:drawn] = prefixes / np.concatenate([[1.0], prefixes[:-1]])[:drawn]
        return Choice(order, np.minimum(propensities, 1.0), np.minimum(conditionals, 1.0), self.policy)

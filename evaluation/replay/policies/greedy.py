"""The ranker's own order, and now and then a random one of its best items."""

from __future__ import annotations

import numpy as np

from evaluation.metrics.rows import Array
from evaluation.replay.policies.list_policy import Choice, ListPolicy, checked, number_in, ranked
from evaluation.replay.policies.slates import LoggedSlates


class TopPolicy(ListPolicy):
    """The ranker's own order, which explores nothing: every probability is 0 or 1."""

    name, title = "top", "Best first"

    @property
    def policy(self) -> str:
        return "greedy"

    def draw(self, logits: Array, k: int, rng: np.random.Generator) -> Array:
        return ranked(logits)[:k]

    def probabilities(self, slates: LoggedSlates, candidate: Array, slot: Array) -> Array:
        return (slates.rank[candidate] == slot).astype(np.float64)

    def conditionals(self, slates: LoggedSlates) -> Array:
        slates.check_lists()
        return self.marginals(slates)

    def choose(self, logits: Array, k: int, rng: np.random.Generator, deviations: Array | None = None) -> Choice:
        """As of every policy; most requests of a gateway come here, and nothing is to be computed of them."""
        order = self.draw(checked(logits, k), k, rng)
        return Choice(order, np.ones(len(order)), np.ones(len(order)), self.policy)


class EpsilonPolicy(ListPolicy):
    """With probability epsilon a list drawn uniformly, without replacement, from the best `top`; else the best k.

    With m the smaller of `top` and the candidates, an item of the best m stands in a slot l < m with probability
    `(1 - epsilon) [it is the ranker's own there] + epsilon / m`. Slots from m on keep the ranker's order.

    Args:
      epsilon: in (0, 1].
      top: at least 2.

    Raises:
      InputError: for parameters outside their range.
    """

    name, title = "epsilon", "Epsilon-greedy"

    def __init__(self, epsilon: float, top: int = 50):
        self._epsilon = number_in("`epsilon`", epsilon, 0, 1)
        self._top = int(number_in("`top`", top, 2, closed_below=True))

    @property
    def policy(self) -> str:
        return f"epsilon(epsilon={self._epsilon:g},top={self._top})"

    def draw(self, logits: Array, k: int, rng: np.random.Generator) -> Array:
        best = ranked(logits)
        order, drawn_from = best[:k], min(self._top, len(best))
        if rng.random() < self._epsilon:
            drawn = min(k, drawn_from)
            order = np.concatenate([rng.permutation(best[:drawn_from])[:drawn], order[drawn:]])
        return order

    def probabilities(self, slates: LoggedSlates, candidate: Array, slot: Array) -> Array:
        rank, drawn_from = slates.rank[candidate], self._drawn_from(slates, slates.request_of[candidate])
        own, drawn = rank == slot, (rank < drawn_from) & (slot < drawn_from)
        return np.where(slot < drawn_from, (1 - self._epsilon) * own + self._epsilon * drawn / drawn_from, own)

    def conditionals(self, slates: LoggedSlates) -> Array:
        slates.check_lists()
        rank, slot, drawn_from = slates.logged_rank, slates.slot, self._drawn_from(slates, slates.row_request)
        own, within = rank == slot, slot < drawn_from
        left = np.where(within, np.maximum(drawn_from - slot, 1), 1)
        # Of the list's slots down to l: the ranker's own with probability 1 - epsilon, or drawn, each with its chance.
        chance = slates.product_down(1 / left)
        greedy, above_own = slates.product_down(own), np.ones(len(slot))
        above_own[1:] = np.where(slates.first[1:] == np.arange(1, len(slot)), 1.0, greedy[:-1])
        drawn = (rank >= 0) & (rank < drawn_from)
        so_far, above = self._epsilon * chance * drawn, self._epsilon * chance * left
        by_list = ((1 - self._epsilon) * own + so_far) / ((1 - self._epsilon) + above)
        return np.where(within, np.where(above_own > 0, by_list, drawn / left), own)

    def _drawn_from(self, slates: LoggedSlates, request: Array) -> Array:
        return np.maximum(np.minimum(self._top, slates.sizes[request]), 1)

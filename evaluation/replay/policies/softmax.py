"""Every slot drawn by itself from the softmax of the logits."""

from __future__ import annotations

import numpy as np

from evaluation.metrics.rows import Array
from evaluation.replay.policies.list_policy import ListPolicy, number_in
from evaluation.replay.policies.slates import LoggedSlates


class SoftmaxPolicy(ListPolicy):
    """Each slot shows an item with probability `softmax(logit / temperature)`, whatever stands in the others.

    An item may stand in several slots: it is a policy of one slot, or of slots that are drawn independently. Of lists
    without repeats, `plackett_luce` is the softmax.

    Args:
      temperature: positive: towards 0 the best item alone, towards infinity all alike.

    Raises:
      InputError: for a temperature that is not positive.
    """

    name, title = "softmax", "Softmax"

    def __init__(self, temperature: float = 1.0):
        self._temperature = number_in("`temperature`", temperature, 0)

    @property
    def policy(self) -> str:
        return f"softmax(temperature={self._temperature:g})"

    def draw(self, logits: Array, k: int, rng: np.random.Generator) -> Array:
        if not len(logits):
            return np.zeros(0, np.int64)
        scaled = logits / self._temperature
        chances = np.exp(scaled - scaled.max())
        return rng.choice(len(logits), min(k, len(logits)), p=chances / chances.sum())

    def probabilities(self, slates: LoggedSlates, candidate: Array, slot: Array) -> Array:
        request, best = slates.request_of, np.zeros(len(slates.sizes))
        best[request[slates.rank == 0]] = slates.logits[slates.rank == 0]
        rates = np.exp((slates.logits - best[request]) / self._temperature)
        return rates[candidate] / np.bincount(request, rates, len(best))[request[candidate]]

    def conditionals(self, slates: LoggedSlates) -> Array:
        slates.check_lists()
        return self.marginals(slates)

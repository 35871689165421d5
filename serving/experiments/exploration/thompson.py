"""Thompson sampling over a ranker's last layer."""

from __future__ import annotations

import numpy as np

from features.errors import InputError
from serving.experiments.exploration.explorer import Choice, checked
from serving.experiments.exploration.head import HeadDraws


class ThompsonExplorer:
    """Ranks every list by one of M draws of the last layer's posterior, each with probability 1 / M.

    The set of draws is fixed, so that an item's propensity in its slot is exactly the share of the draws that show it
    there: a policy of its own, which needs no integral over the posterior.

    Args:
      head: the draws.
      scale: what their deviations are multiplied by.
    """

    def __init__(self, head: HeadDraws, scale: float = 1.0):
        self._head, self._scale = head, scale
        self.policy = f"thompson(draws={head.num_draws},scale={scale:g})"

    def choose(self, logits: np.ndarray, k: int, rng: np.random.Generator, hidden: np.ndarray | None = None) -> Choice:
        """Draws a list; as `Explorer.choose`."""
        if hidden is None:
            raise InputError("Thompson sampling needs `hidden`: ask the ranker's signature `hidden` for it.")
        drawn = self._head.logits(checked(logits, k), hidden, self._scale)
        lists = np.argsort(-drawn, axis=1, kind="stable")[:, :k]
        order = lists[rng.integers(len(lists))]
        same = lists == order
        prefixes = np.logical_and.accumulate(same, axis=1).mean(axis=0)
        conditionals = prefixes / np.concatenate([[1.0], prefixes[:-1]])[: len(prefixes)]
        return Choice(order, same.mean(axis=0), conditionals, self.policy)

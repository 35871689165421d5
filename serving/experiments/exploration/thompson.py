"""Thompson sampling over a ranker's last layer."""

from __future__ import annotations

import numpy as np

from evaluation.replay.policies.list_policy import Choice, checked
from features.errors import InputError


class ThompsonExplorer:
    """Ranks every list by one of M draws of the posterior of the ranker's last layer, each with probability 1 / M.

    The draws are fixed when the ranker is exported, and its signature `draw_logits` says what each of them adds to the
    logits. So an item's propensity in its slot is exactly the share of the draws that show it there.

    Args:
      scale: what the draws' deviations from the ranker's logits are multiplied by.
    """

    needs_draws = True

    def __init__(self, scale: float = 1.0):
        self._scale = scale

    def choose(
        self, logits: np.ndarray, k: int, rng: np.random.Generator, deviations: np.ndarray | None = None
    ) -> Choice:
        """Draws a list; as `Explorer.choose`."""
        logits = checked(logits, k)
        if deviations is None:
            raise InputError(
                "Thompson sampling needs the draws of the fine ranker's last layer: its signature `draw_logits`, which "
                "rankers have that were trained with a `last_layer`. Release one, or explore otherwise."
            )
        drawn = _draws(logits, deviations, self._scale)
        lists = np.argsort(-drawn, axis=0, kind="stable")[:k].T
        order = lists[rng.integers(len(lists))]
        same = lists == order
        prefixes = np.logical_and.accumulate(same, axis=1).mean(axis=0)
        conditionals = prefixes / np.concatenate([[1.0], prefixes[:-1]])[: len(prefixes)]
        policy = f"thompson(draws={len(lists)},scale={self._scale:g})"
        return Choice(order, same.mean(axis=0), conditionals, policy)


def _draws(logits: np.ndarray, deviations: np.ndarray, scale: float) -> np.ndarray:
    """Returns the logits of every draw, [n, M] float64. Raises `InputError` if they cannot be ranked by."""
    found = np.asarray(deviations, np.float64)
    if found.ndim != 2 or len(found) != len(logits) or not found.shape[1] or not np.isfinite(found).all():
        raise InputError(
            f"`deviations` must be [{len(logits)}, M] finite numbers, M positive. Received: shape {found.shape}, "
            f"{int((~np.isfinite(found)).sum())} not finite."
        )
    return logits[:, np.newaxis] + scale * found

"""What every explorer is, and what it chooses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from features.errors import InputError


@dataclass(frozen=True)
class Choice:
    """A list that was drawn for one request.

    Attributes:
      order: [k] int64, what is shown: places among the request's candidates, the first slot first.
      propensities: [k] float64 in (0, 1], the marginal probability that the policy shows this item in this slot,
        whatever stands in the others: what item-position estimators (IIPS) need.
      conditionals: [k] float64 in (0, 1], the probability of this item in this slot given those of the slots before;
        their product is the probability of the whole list.
      policy: what drew it, with its parameters: rows of different policies are no one logger's.
    """

    order: np.ndarray
    propensities: np.ndarray
    conditionals: np.ndarray
    policy: str


class Explorer(Protocol):
    """Draws lists.

    Attributes:
      needs_draws: whether it asks for the logits of the ranker's other last layers: the answer of the signature
        `draw_logits` instead of that of `serving_default`.
    """

    needs_draws: bool

    def choose(
        self, logits: np.ndarray, k: int, rng: np.random.Generator, deviations: np.ndarray | None = None
    ) -> Choice:
        """Draws the list of one request.

        Args:
          logits: [n] finite logits of the candidates; of equal ones the earlier stands first.
          k: slots; of fewer candidates, all are shown.
          rng: what is random of it.
          deviations: [n, M] what each of M draws of the ranker's last layer adds to the logits.

        Raises:
          InputError: if a logit is not finite, `k` is not positive, or `deviations` are needed and missing.
        """


def ranked(logits: np.ndarray) -> np.ndarray:
    """Returns the places of logits [n] from the highest down; of equal ones the earlier stands first."""
    return np.argsort(-logits, kind="stable")


def checked(logits: np.ndarray, k: int) -> np.ndarray:
    """Returns logits as [n] float64. Raises `InputError` if they are not finite or `k` is not positive."""
    if k < 1:
        raise InputError(f"`k` must be positive. Received: {k}.")
    found = np.asarray(logits, np.float64)
    if found.ndim != 1 or not np.isfinite(found).all():
        raise InputError(
            f"`logits` must be [n] finite numbers. Received: shape {found.shape}, "
            f"{int((~np.isfinite(found)).sum())} not finite."
        )
    return found

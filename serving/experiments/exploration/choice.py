"""What the gateway asks of an explorer."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from evaluation.replay.policies.list_policy import Choice


class Explorer(Protocol):
    """Draws lists: a policy of `evaluation.replay.policies`, or one that knows more than logits.

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

"""What a variant explores: one class a kind, told apart by `kind`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from features.config import Strict

#: Items that the costliest explorer takes into account; beyond, its propensities would take seconds.
MAX_TOP = 500


class EpsilonGreedy(Strict):
    """Now and then a list in random order, of the best items: the uniform logger of off-policy evaluation.

    Attributes:
      kind: `epsilon`.
      epsilon: share of the variant's requests whose list is drawn; the others get the ranker's own.
      top: how many of the best items are drawn from, each list alike; slots beyond keep the ranker's order.
    """

    kind: Literal["epsilon"]
    epsilon: float = Field(gt=0, le=1)
    top: int = Field(default=50, ge=2, le=MAX_TOP)


class PlackettLuce(Strict):
    """Every list drawn item by item without replacement, by the softmax of what is left (Plackett-Luce).

    Attributes:
      kind: `plackett_luce`.
      temperature: what logits are divided by: towards 0 the ranker's own order, towards infinity a random one.
      top: how many of the best items are drawn from; slots beyond keep the ranker's order.
    """

    kind: Literal["plackett_luce"]
    temperature: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    top: int = Field(default=200, ge=2, le=MAX_TOP)


class Thompson(Strict):
    """Every list ranked by one draw of the posterior of the fine ranker's last layer (Thompson sampling).

    It takes a fine ranker that was trained with a `last_layer` in its section of the pipeline's profile.

    Attributes:
      kind: `thompson`.
      scale: what deviations of the draws are multiplied by: below 1 it explores less than the posterior says.
    """

    kind: Literal["thompson"]
    scale: float = Field(default=1.0, gt=0, allow_inf_nan=False)


Exploration = Annotated[EpsilonGreedy | PlackettLuce | Thompson, Field(discriminator="kind")]

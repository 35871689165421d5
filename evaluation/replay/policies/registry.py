"""All policies by name: a new one is a class (`evaluation.replay.policies.list_policy`) and a row here."""

from __future__ import annotations

import inspect

from evaluation.replay.policies.greedy import EpsilonPolicy, TopPolicy
from evaluation.replay.policies.list_policy import ListPolicy
from evaluation.replay.policies.plackett_luce import PlackettLucePolicy
from evaluation.replay.policies.softmax import SoftmaxPolicy
from features.config import nearest
from features.errors import InputError

POLICIES: dict[str, type[ListPolicy]] = {
    each.name: each for each in (TopPolicy, SoftmaxPolicy, EpsilonPolicy, PlackettLucePolicy)
}
"""Name → class."""


def make_policy(spec: str) -> ListPolicy:
    """Returns the policy of a name with its parameters: `top`, `softmax@0.5`, `epsilon@0.1`, `plackett_luce@0.5,200`.

    Parameters stand in the order of the class's arguments.

    Raises:
      InputError: for a name that is not in the table, with the nearest that is; for parameters that are no numbers, are
        too many or too few, or lie outside their range.
    """
    name, at, given = spec.partition("@")
    kind = POLICIES.get(name)
    if kind is None:
        raise InputError(f"`{name}` is not a policy.{nearest(name, POLICIES)} Known: {', '.join(POLICIES)}.")
    takes = [] if kind is TopPolicy else list(inspect.signature(kind).parameters.values())
    needed = sum(each.default is inspect.Parameter.empty for each in takes)
    texts = given.split(",") if at else []
    if not needed <= len(texts) <= len(takes):
        form = f"{name}@" + ",".join(each.name.upper() for each in takes) if takes else name
        raise InputError(
            f"policy `{spec}`: `{name}` is written `{form}`, and takes {needed} to {len(takes)} parameters."
        )
    try:
        numbers = [float(text) for text in texts]
    except ValueError:
        raise InputError(f"policy `{spec}`: parameters must be numbers. Received: `{given}`.") from None
    return kind(*numbers)

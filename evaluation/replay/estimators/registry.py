"""All estimators by name: a new one is a class (`evaluation.replay.estimators.estimator`) and a row here."""

from __future__ import annotations

from evaluation.replay.estimators import doubly_robust, lists, positions, weighting
from evaluation.replay.estimators.estimator import Estimator
from features.config import nearest
from features.errors import InputError

ESTIMATORS: dict[str, type[Estimator]] = {
    each.name: each
    for each in (
        weighting.ReplayByRejection,
        weighting.Ips,
        weighting.Snips,
        weighting.ClippedIps,
        weighting.SubGaussianIps,
        weighting.BalancedIps,
        weighting.MarginalizedIps,
        weighting.SelfNormalizedMips,
        doubly_robust.DirectMethod,
        doubly_robust.DoublyRobust,
        doubly_robust.SelfNormalizedDr,
        doubly_robust.SwitchDr,
        doubly_robust.ShrunkDr,
        doubly_robust.ClippedDr,
        doubly_robust.SubGaussianDr,
        lists.StandardIps,
        lists.IndependentIps,
        lists.CascadeIps,
        lists.SelfNormalizedSips,
        lists.SelfNormalizedIips,
        lists.SelfNormalizedRips,
        lists.CascadeDr,
        lists.PseudoInverse,
        lists.PseudoInverseControlled,
        lists.AdaptiveIps,
        positions.PositionBased,
        positions.Interpolated,
    )
}
"""Name → class."""


def make_estimator(name: str) -> Estimator:
    """Returns the estimator of a name, e.g. `snips`, or `clipped_ips@20` with its parameter.

    Raises:
      InputError: for a name that is not in the table, with the nearest that is, and for a parameter that is no number
        or that the estimator does not have.
    """
    head, at, number = name.partition("@")
    kind = ESTIMATORS.get(head)
    if kind is None:
        raise InputError(f"`{head}` is not an estimator.{nearest(head, ESTIMATORS)} Known: {', '.join(ESTIMATORS)}.")
    if not at:
        return kind()
    try:
        parameter = float(number)
    except ValueError:
        raise InputError(f"the parameter of `{head}` must be a number. Received: `{number}`.") from None
    return kind(parameter)

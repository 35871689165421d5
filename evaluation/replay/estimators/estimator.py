"""What an estimator is: a weight for each logged row, and a ratio of sums that is a policy's value."""

from __future__ import annotations

import abc
import math
from typing import NamedTuple

import numpy as np

from evaluation.metrics.metric import divide
from evaluation.metrics.rows import Array
from evaluation.replay.logged import LoggedRewards
from evaluation.replay.sums import PolicySums
from features.errors import InputError


class Quotient(NamedTuple):
    """A ratio of two columns' totals; an estimate is a sum of such parts."""

    numerator: str
    denominator: str


class Estimator(abc.ABC):
    """Estimates what a policy would have earned, from the sums of a log; listed in `ESTIMATORS` of the registry.

    The estimate is Σ_j A_j / B_j over its parts, with A and B totals of columns. Its error is that of its linear form,

        V̂ − V ≈ Σ_u ψ_u,   ψ_u = Σ_j (a_ju − (A_j / B_j) b_ju) / B_j,

    with a, b the sums of user u: Σ_u ψ_u = 0, and Σ_u ψ_u² · U / (U − 1) estimates the variance of V̂.

    Args:
      parameter: λ, the limit or the window of those that have one; see the class.

    Raises:
      InputError: for a parameter outside its range, or that the estimator does not have.

    Attributes:
      name: as the table has it.
      title: how reports call it.
      unit: what the value is the mean of: `impression` or `request`.
      default: of the parameter; None where there is none.
      highest: that the parameter may be.
      self_normalised: whether the weights are divided by their mean.
      needs_marginals: whether it needs each slot's own weight, which a log of conditional propensities does not have.
      modelled: whether it corrects a model's expected reward (`q_logged`, `q_expected`).
    """

    name: str
    title: str
    unit: str = "impression"
    default: float | None = None
    highest: float = math.inf
    self_normalised: bool = False
    needs_marginals: bool = False
    modelled: bool = False

    def __init__(self, parameter: float | None = None):
        if parameter is not None and (self.default is None or not 0 <= parameter <= self.highest):
            rule = "has no parameter" if self.default is None else f"needs a parameter in [0, {self.highest:g}]"
            raise InputError(f"`{self.name}` {rule}. Received: {parameter}.")
        self.parameter = self.default if parameter is None else parameter

    @property
    def key(self) -> str:
        """The name with the parameter: how the estimator's columns and a report call it."""
        return self.name if self.parameter is None else f"{self.name}@{self.parameter:g}"

    @property
    def number(self) -> float:
        """The parameter of an estimator that has one."""
        return 0.0 if self.parameter is None else float(self.parameter)

    @property
    def size(self) -> str:
        """The column that counts the units."""
        return "rows" if self.unit == "impression" else "requests"

    def check(self, logged: LoggedRewards) -> None:
        """Raises `InputError` for a log whose propensities are not what the estimator's weights are made of."""
        if self.needs_marginals and logged.propensity_kind != "marginal":
            raise InputError(
                f"`{self.name}` needs the probability of an item in its slot whatever stands in the others, and this "
                "log has it given the items above: read its first slot alone (`slots` 1), log marginals, or take an "
                "estimator of impressions or cascades (ips, snips, dr, rips, snrips, sips)."
            )

    @abc.abstractmethod
    def weight(self, logged: LoggedRewards, policy: str) -> Array:
        """Returns the weight [N] of each row.

        Raises:
          InputError: where the log does not have what it is made of.
        """

    def terms(self, logged: LoggedRewards, policy: str) -> dict[str, Array]:
        """Returns the columns [N] to sum by user: the weight, its square, weighted rewards, the model's expectation."""
        weight = self.weight(logged, policy)
        found = {"w": weight, "ww": weight**2, "changed": (weight < logged.weights[policy]).astype(np.float64)}
        if self.modelled:
            what = f"`{self.name}`"
            found["value"] = weight * (logged.reward - logged.needs("q_logged", policy, what))
            found["expected"] = logged.needs("q_expected", policy, what)
        else:
            found["value"] = weight * logged.reward
        return {f"{self.key}/{name}": column for name, column in found.items()}

    def slot_terms(self, logged: LoggedRewards, policy: str) -> dict[str, Array]:
        """Returns the columns [N] to sum by user and slot; most need none."""
        return {}

    def parts(self) -> list[Quotient]:
        """Returns the ratios whose sum is the estimate."""
        found = [Quotient(f"{self.key}/value", f"{self.key}/w" if self.self_normalised else self.size)]
        return found + ([Quotient(f"{self.key}/expected", self.size)] if self.modelled else [])

    def estimate(self, sums: PolicySums) -> float:
        """Returns the policy's value for each unit; NaN where it is undefined, e.g. without a row that it weighs."""
        return float(sum(divide(sums.total(part.numerator), sums.total(part.denominator)) for part in self.parts()))

    def influence(self, sums: PolicySums) -> Array:
        """Returns ψ [U], in the order of `sums.users`; NaN where the estimate is undefined."""
        found = np.zeros(len(sums.users))
        for numerator, denominator in self.parts():
            total = sums.total(denominator)
            ratio = divide(sums.total(numerator), total)
            found += divide(sums[numerator] - ratio * sums[denominator], np.full(len(found), total))
        return found

    def diagnose(self, sums: PolicySums) -> dict[str, float]:
        """Returns what the weights that it uses say of its estimate.

        Returns:
          `mean_weight`: 1 in expectation where the propensities are right and nothing is clipped.
          `effective_rows`: (Σw)² / Σw² (Kish).
          `changed_share`: the share of rows whose weight it made smaller than the policy's.
        """
        rows, weight, square = (sums.total(column) for column in ("rows", f"{self.key}/w", f"{self.key}/ww"))
        return {
            "mean_weight": float(divide(weight, rows)),
            "effective_rows": float(divide(weight**2, square)),
            "changed_share": float(divide(sums.total(f"{self.key}/changed"), rows)),
        }

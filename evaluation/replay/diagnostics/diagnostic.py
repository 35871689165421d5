"""What a diagnostic is: one number of the evidence behind an estimate, a bound, and what to say beyond it."""

from __future__ import annotations

import abc
import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from evaluation.replay.diagnostics.strata import StrataSums
from evaluation.replay.estimators.estimator import Estimator
from evaluation.replay.sums import PolicySums
from features.config import Strict


@dataclass(frozen=True)
class Evidence:
    """What diagnostics look at; what is None or empty is not looked at.

    Attributes:
      sums: of the policy.
      estimator: whose estimate a verdict would rest on; the sums were made for it.
      strata: kind (`slot`, `day`, any other) → sums by stratum.
      unsupported: the share of the policy's probability on items that the logger could not show, from the policies.
      positions: how many slots the policy fills.
      users_by_variant: different users seen, by variant or logger.
      shares: of the variants.
      classifier_error: how far the classifier of `balanced_ips` is from calibrated
        (`evaluation.replay.estimators.classifier`).
    """

    sums: PolicySums
    estimator: Estimator
    strata: Mapping[str, StrataSums] = field(default_factory=dict)
    unsupported: float | None = None
    positions: int | None = None
    users_by_variant: Mapping[str, int] = field(default_factory=dict)
    shares: Mapping[str, float] = field(default_factory=dict)
    classifier_error: float | None = None


class Diagnosis(Strict):
    """What a diagnostic found.

    Attributes:
      name: of the diagnostic.
      title: how reports call it.
      policy: whose evidence was looked at.
      value: what was measured; None where it is undefined, which does not pass.
      bound: that it was held against.
      passed: whether a verdict may be given.
      reason: why not, as a sentence; '' where it passed.
      remedy: what would lift it, as a sentence; '' where it passed.
    """

    name: str
    title: str
    policy: str
    value: float | None
    bound: float
    passed: bool
    reason: str = ""
    remedy: str = ""


class Diagnostic(abc.ABC):
    """Measures one thing; listed in `DIAGNOSTICS` of the registry.

    Attributes:
      name: as the table has it.
      title: how reports call it.
      bound: declared; `diagnose` may be given another.
      at_least: whether the value may not be below the bound; else not above it.
      reason: a sentence with `{value}` and `{bound}`.
      remedy: a sentence.
    """

    name: str
    title: str
    bound: float
    at_least: bool = False
    reason: str
    remedy: str

    @abc.abstractmethod
    def measure(self, evidence: Evidence) -> float | None:
        """Returns the value, NaN where it is undefined; None where the evidence is not there to look at."""

    def judge(self, evidence: Evidence, bound: float | None = None) -> Diagnosis | None:
        """Holds the value against the bound; None where there is nothing to look at."""
        value, limit = self.measure(evidence), self.bound if bound is None else bound
        if value is None:
            return None
        passed = value >= limit if self.at_least else value <= limit
        said = ("", "") if passed else (self.reason.format(value=f"{value:.4g}", bound=f"{limit:.4g}"), self.remedy)
        shown = float(value) if math.isfinite(value) else None
        named = {"name": self.name, "title": self.title, "policy": evidence.sums.name}
        return Diagnosis(**named, value=shown, bound=limit, passed=bool(passed), reason=said[0], remedy=said[1])

"""Configuration of the replay of a run's models, before their release."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

from evaluation.replay.logged import PropensityKind
from evaluation.replay.policies.registry import make_policy
from evaluation.replay.verdicts.replay_report import ReplayPlan
from evaluation.replay.verdicts.verdict import Outcome
from features.config import Strict
from features.errors import InputError


class ReplaySection(Strict):
    """What a run's models would have earned on the held-out logs, beside what served them.

    Logs need the propensities of what served them.

    Attributes:
      candidate: `cascade`, the profile's, which lists what of the catalogue it finds; or `ranker`, a fine ranker alone,
        which orders anew what was shown, and is judged rightly where the logger drew among what was shown. None: the
        cascade where the profile has one.
      model: the fine ranker; None: that of the cascade, else the first.
      policy: how its scores make a list: `top`, `softmax@T`, `epsilon@E`, `plackett_luce@T`.
      baseline: `logged`, what served the logs; else `model:FOLDER` or a release (its id, a label, `latest`).
      baseline_policy: how the baseline's scores make a list; None: as the candidate's.
      reward: column of what is earned, or a sum such as `click + 5 * order`; None: the label.
      propensities: `conditional` where each slot's is given the slots above it, as simulated logs have.
      slots: only the first so many are read; None: all.
      by: columns whose values diagnostics look at one by one.
      exclude: leave out and count requests that cannot be used, instead of ending the run.
      plan: estimators, intervals, margin and bounds.
      refuse: verdicts with which there is no release. Empty: the replay is shown and stops nothing.
    """

    candidate: Literal["cascade", "ranker"] | None = None
    model: str | None = None
    policy: str = "softmax@1"
    baseline: str = "logged"
    baseline_policy: str | None = None
    reward: str | None = None
    propensities: PropensityKind = "marginal"
    slots: int | None = Field(None, ge=1)
    by: tuple[str, ...] = ()
    exclude: bool = True
    plan: ReplayPlan = ReplayPlan()
    refuse: tuple[Outcome, ...] = ("worse",)

    @field_validator("policy", "baseline_policy")
    @classmethod
    def _is_a_policy(cls, name: str | None) -> str | None:
        try:
            return name if name is None else make_policy(name) and name
        except InputError as error:
            raise ValueError(str(error).rstrip(".")) from None

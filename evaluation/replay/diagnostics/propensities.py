"""Diagnostics of propensities: are they those by which the log was made, did they change, do they cover the list."""

from __future__ import annotations

import numpy as np

from evaluation.replay.diagnostics.diagnostic import Diagnostic, Evidence
from evaluation.replay.diagnostics.strata import Means
from evaluation.replay.experiment.sample_ratio import LEVEL, sample_ratio

SURE = 4.0
"""Standard errors from which on a stratum counts as deviating."""

ENOUGH = 100
"""Rows from which on a stratum is looked at."""


class Calibration(Diagnostic):
    """The largest |Σ 1/p over candidates − 1| over strata (over all rows, from twice on, whatever its error).

    1/p of what was shown sums to the number of candidates, whatever the logger prefers; the standard is one that holds
    for any logger whose propensities are right.
    """

    name, title, bound = "calibration", "Calibration of propensities (Σ 1/p)", 0.1
    reason = (
        "Σ 1/p is {value} of the number of candidates away from it in some stratum (at most {bound}): the "
        "propensities are not those by which the log was made, or are too small to tell."
    )
    remedy = "Log the propensity of what is shown where it is drawn, and give every candidate a least propensity."

    def measure(self, evidence: Evidence) -> float | None:
        known = [strata for strata in evidence.strata.values() if strata.has("inverse")]
        if not known:
            return None
        whole = abs(float(known[0].mean("inverse", "inverse²").value[0]) - 1)
        return max([whole if whole > 1 else 0.0, *(_furthest(each.means("inverse", "inverse²")) for each in known)])


class StratumWeight(Diagnostic):
    """The largest |mean w − 1| over strata: in each, weights of right propensities have mean 1."""

    name, title, bound = "stratum_weight", "Mean weight by stratum", 0.1
    reason = (
        "The mean weight of some stratum is {value} away from 1 (at most {bound}): there the propensities are "
        "wrong, or the logger does not show what the policy would."
    )
    remedy = "Look at the strata one by one (slots, days): leave out days of another logger, or log its propensities."

    def measure(self, evidence: Evidence) -> float | None:
        policy = evidence.sums.name
        found = [_furthest(strata.means(f"w/{policy}", f"w²/{policy}")) for strata in evidence.strata.values()]
        return max(found, default=None)


class Balance(Diagnostic):
    """The largest |Σ (w q − e)| over strata and over all rows, by the mean e of all.

    Weighted, a model's rewards q of what was shown have the mean of those e of what the policy shows, however bad the
    model is. Wrong propensities whose weights still have mean 1 are found where they go along with the model.
    """

    name, title, bound = "balance", "Balance (a model's rewards, weighted)", 0.05
    reason = (
        "Weighted, the model's rewards of what was shown are {value} away from those of what the policy shows "
        "(at most {bound}): the propensities are wrong, or the logger was changed."
    )
    remedy = "Look at the strata one by one (slots, days), and log the propensity where the item is drawn."

    def measure(self, evidence: Evidence) -> float | None:
        policy, found = evidence.sums.name, []
        for strata in evidence.strata.values():
            if strata.has(f"balance/{policy}"):
                scale = abs(strata.table.total(f"expected/{policy}")) / max(strata.table.total("rows"), 1)
                for means in (strata.means, strata.mean):
                    away = _furthest(means(f"balance/{policy}", f"balance²/{policy}"), 0.0)
                    found.append(away / scale if scale else 0.0)
        return max(found, default=None)


class Drift(Diagnostic):
    """How far the mean log p of a day is from the window's: another logger spreads its propensities otherwise."""

    name, title, bound = "drift", "Drift of the logger's propensities", 0.2
    reason = (
        "The logger's propensities differ between days by {value} of log p (at most {bound}): it was changed "
        "inside the window."
    )
    remedy = "Replay the days of each logger by themselves."

    def measure(self, evidence: Evidence) -> float | None:
        days = evidence.strata.get("day")
        if days is None or len(days.strata) < 2:
            return None
        return _furthest(days.means("log", "log²"), float(days.mean("log", "log²").value[0]))


class PositionsCovered(Diagnostic):
    """The share of the policy's slots of which the log has a hundred rows."""

    name, title, bound, at_least = "positions", "Positions covered", 1.0, True
    reason = "The log covers {value} of the slots that the policy fills."
    remedy = "Shorten the policy's list to the slots that were logged, or log them all."

    def measure(self, evidence: Evidence) -> float | None:
        slots = evidence.strata.get("slot")
        if slots is None or not evidence.positions:
            return None
        rows = slots.table.values("rows")
        return float(((rows >= ENOUGH) & (slots.strata < evidence.positions)).sum() / evidence.positions)


class SampleRatioMismatch(Diagnostic):
    """The p-value of as uneven user counts by variant, under their shares."""

    name, title, bound, at_least = "sample_ratio", "Sample ratio (p-value)", LEVEL, True
    reason = (
        "Users by variant are not in the ratio of the shares (p = {value}, at least {bound}): some variant loses "
        "users, and what is left of it is not comparable."
    )
    remedy = "Find where users are lost: crashes, redirects, slow pages, bots, logs that did not arrive."

    def measure(self, evidence: Evidence) -> float | None:
        if not evidence.shares:
            return None
        return sample_ratio(evidence.users_by_variant, evidence.shares).p_value


def _furthest(means: Means, target: float = 1.0) -> float:
    """The largest deviation from the target that is more than `SURE` standard errors, of strata of `ENOUGH` rows."""
    away = np.abs(means.value - target)
    return float(away[(means.rows >= ENOUGH) & (away > SURE * means.error)].max(initial=0.0))

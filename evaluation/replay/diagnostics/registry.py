"""All diagnostics by name, in the order of reports: a new one is a class and a row here."""

from __future__ import annotations

from collections.abc import Mapping

from evaluation.replay.diagnostics import propensities, weights
from evaluation.replay.diagnostics.diagnostic import Diagnosis, Diagnostic, Evidence
from features.config import nearest
from features.errors import InputError

DIAGNOSTICS: dict[str, Diagnostic] = {
    each.name: each
    for each in (
        weights.MeanWeight(),
        weights.Unsupported(),
        weights.EffectiveSample(),
        weights.LargestShare(),
        weights.Contributions(),
        weights.WeightTail(),
        weights.ClippedShare(),
        weights.Classifier(),
        propensities.Calibration(),
        propensities.StratumWeight(),
        propensities.Balance(),
        propensities.Drift(),
        propensities.PositionsCovered(),
        propensities.SampleRatioMismatch(),
    )
}
"""Name → diagnostic."""


def diagnose(evidence: Evidence, bounds: Mapping[str, float] | None = None) -> list[Diagnosis]:
    """Runs all diagnostics that the evidence has something for.

    Args:
      evidence: of one policy.
      bounds: name → another bound than the declared one.

    Raises:
      InputError: for a bound of a diagnostic that is not in the table.
    """
    bounds = bounds or {}
    for name in bounds:
        if name not in DIAGNOSTICS:
            raise InputError(f"`{name}` is not a diagnostic.{nearest(name, DIAGNOSTICS)}")
    found = (each.judge(evidence, bounds.get(name)) for name, each in DIAGNOSTICS.items())
    return [diagnosis for diagnosis in found if diagnosis is not None]

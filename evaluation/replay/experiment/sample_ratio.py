"""Sample-ratio mismatch: whether as many users are seen in each variant as its share says.

A mismatch means that some variant loses users (a crash, a redirect, a slow page), and that what is left of it is not
comparable: nothing else of the experiment may be read.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from features.errors import InputError

#: A false alarm comes once in a thousand experiments that are sound: the level that is usual for this test.
LEVEL = 0.001


@dataclass(frozen=True)
class SampleRatio:
    """What a test found.

    Attributes:
      p_value: probability of counts as uneven as these, if every user were counted.
      expected: users by variant, as the shares say.
      observed: users by variant.
      mismatch: whether `p_value` is below the level.
    """

    p_value: float
    expected: dict[str, float]
    observed: dict[str, int]
    mismatch: bool


def sample_ratio(counts: Mapping[str, int], shares: Mapping[str, float], level: float = LEVEL) -> SampleRatio:
    """Tests counts once by Pearson's χ²; looking again and again takes `sequential_sample_ratio`.

    Args:
      counts: different users by variant (not requests, which are not independent); one that is not named has none.
      shares: of the variants, in any unit; variants without a share are left out.
      level: of false alarms.

    Raises:
      InputError: if a count is negative, no share is positive, or users were seen in a variant without a share.
    """
    names, observed, chances = _aligned(counts, shares)
    expected = observed.sum() * chances
    statistic = float(np.sum((observed - expected) ** 2 / expected)) if observed.sum() else 0.0
    return _found(names, observed, expected, _chi2_survival(statistic, len(names) - 1), level)


def sequential_sample_ratio(
    counts: Mapping[str, int], shares: Mapping[str, float], level: float = LEVEL, prior_users: float = 10_000.0
) -> SampleRatio:
    """Tests counts that are looked at as often as one likes, while they grow: the level holds for all looks together.

    The Bayes factor of a Dirichlet prior around the shares against the shares themselves,

        BF = B(α + n) / (B(α) Π θ_i^n_i),   α = prior_users θ,

    is a martingale where the shares hold, so that `1 / BF` stays above the level for ever with probability 1 - level
    (Lindon and Malek, "Anytime-valid inference for multinomial count data", NeurIPS 2022). A look needs the counts
    alone, none of the former looks.

    Args:
      counts, shares, level: as of `sample_ratio`.
      prior_users: how tightly the prior holds to the shares; about the number of users at which a loss is to be seen.

    Raises:
      InputError: as `sample_ratio`.
    """
    names, observed, chances = _aligned(counts, shares)
    prior = prior_users * chances
    log_factor = _log_beta(prior + observed) - _log_beta(prior) - float(np.dot(observed, np.log(chances)))
    return _found(names, observed, observed.sum() * chances, min(1.0, math.exp(min(0.0, -log_factor))), level)


def _aligned(counts: Mapping[str, int], shares: Mapping[str, float]) -> tuple[list[str], np.ndarray, np.ndarray]:
    names = [name for name, share in shares.items() if share > 0]
    strangers = [name for name, count in counts.items() if count and name not in names]
    if strangers or not names:
        what = f"`counts` holds users of `{strangers[0]}`, which has no share" if strangers else "no share is positive"
        raise InputError(f"{what}. Received: shares {dict(shares)}. Leave out users whose variant was forced.")
    observed = np.array([counts.get(name, 0) for name in names], np.float64)
    if (observed < 0).any():
        raise InputError(f"`counts` must not be negative. Received: {dict(counts)}.")
    chances = np.array([shares[name] for name in names], np.float64)
    return names, observed, chances / chances.sum()


def _found(names: list[str], observed: np.ndarray, expected: np.ndarray, p_value: float, level: float) -> SampleRatio:
    return SampleRatio(
        p_value=p_value,
        expected=dict(zip(names, expected.tolist(), strict=True)),
        observed=dict(zip(names, observed.astype(int).tolist(), strict=True)),
        mismatch=p_value < level,
    )


def _chi2_survival(statistic: float, freedom: int) -> float:
    """P(χ² > statistic), by the finite sums that whole degrees of freedom have."""
    half = statistic / 2
    if freedom == 0:
        return 1.0
    # Γ(a, x) / Γ(a) grows by x^a exp(-x) / Γ(a + 1) from a to a + 1.
    order = 1.0 if freedom % 2 == 0 else 0.5
    total = math.exp(-half) if freedom % 2 == 0 else math.erfc(math.sqrt(half))
    while order < freedom / 2:
        if half > 0:
            total += math.exp(order * math.log(half) - half - math.lgamma(order + 1))
        order += 1
    return min(1.0, total)


def _log_beta(values: np.ndarray) -> float:
    return sum(map(math.lgamma, values.tolist())) - math.lgamma(float(values.sum()))

"""Intervals by resampling users.

Rows of one user are alike, so resampling rows would give intervals that are too narrow: users are resampled, each with
all its rows (cluster bootstrap; Davison and Hinkley, Bootstrap Methods and their Application, 1997, section 3.8). A
replicate is a vector of user weights: Poisson(1), which needs no total (Chamandy et al., Estimating Uncertainty for
Massive Data Streams, 2012), or multinomial, the textbook one.

All statistics see the same weights in a replicate: the difference of two models is a difference replicate by replicate.

A replicate of a metric is its `finish` over the sums that its value rests on (`evaluation.metrics.metric`): for
quotients of sums one product of weights and sums, for AUC a gather and a cumulative sum over rows sorted once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from evaluation.metrics.rows import Array
from evaluation.results import Estimate


def bootstrap(
    statistics: Mapping[str, Callable[[Array], Array]],
    num_users: int,
    replicates: int = 200,
    seed: int = 0,
    scheme: str = "poisson",
) -> dict[str, Array]:
    """Evaluates all statistics under the same resamples of users.

    Args:
      statistics: by key; each maps user weights [num_users] to values [M].
      num_users: U; statistics use user codes below it.
      replicates: resamples R.
      seed: equal seeds give equal resamples.
      scheme: `poisson` or `multinomial`.

    Returns:
      By key, the values [R, M].
    """
    if scheme not in ("poisson", "multinomial"):
        raise ValueError(f"`scheme` must be poisson or multinomial. Received: `scheme`={scheme!r}.")
    if replicates < 1 or num_users < 1:
        raise ValueError(
            f"`replicates` and `num_users` must be positive. Received: `replicates`={replicates}, "
            f"`num_users`={num_users}."
        )
    generator = np.random.default_rng(seed)
    found: dict[str, list[Array]] = {key: [] for key in statistics}
    for _ in range(replicates):
        if scheme == "poisson":
            weights = generator.poisson(1.0, num_users)
        else:
            weights = np.bincount(generator.integers(0, num_users, num_users), minlength=num_users)
        # A byte each keeps the gathers in cache; a weight over 255 has a chance of 1e-500.
        weights = weights.astype(np.uint8)
        for key, statistic in statistics.items():
            found[key].append(statistic(weights))
    return {key: np.array(values) for key, values in found.items()}


def ones(num_users: int) -> Array:
    """The weights of the sample itself: statistics under them are the point estimates."""
    return np.ones(num_users, np.uint8)


def estimate(value: float, replicates: Array, level: float = 0.95) -> Estimate:
    """A value with the percentile interval of its replicates [R].

    There is no interval where over a twentieth of the replicates is undefined (a slice whose few positives are often
    not drawn): what is left would not stand for the whole.
    """
    defined = replicates[np.isfinite(replicates)]
    if not np.isfinite(value):
        return Estimate()
    if len(defined) < max(2, 0.95 * len(replicates)):
        return Estimate(value=float(value))
    low, high = np.quantile(defined, [(1 - level) / 2, (1 + level) / 2])
    return Estimate(value=float(value), low=float(low), high=float(high))

"""SCOPE-RL's intervals of logs, in its environment: python scope_intervals.py IN.npz OUT.npz RESAMPLES.

IN.npz is as of `obp_intervals`. SCOPE-RL estimates a trajectory's value and gives the trajectories' values to one of
four functions of `scope_rl.utils`; an impression is a trajectory of one step, worth w r, or w r / mean(w)
self-normalised.
"""

from __future__ import annotations

import sys

import numpy as np
from scope_rl import utils

#: Column → function, whether weights are divided by their mean.
COLUMNS = {
    "scope bootstrap": (utils.estimate_confidence_interval_by_bootstrap, False),
    "scope t": (utils.estimate_confidence_interval_by_t_test, False),
    "scope t of snips": (utils.estimate_confidence_interval_by_t_test, True),
    "scope bernstein": (utils.estimate_confidence_interval_by_empirical_bernstein, False),
    "scope hoeffding": (utils.estimate_confidence_interval_by_hoeffding, False),
}


def main(source: str, target: str, resamples: int) -> None:
    logs = np.load(source)
    found = {name: [] for name in COLUMNS}
    for number, context in enumerate(logs["context"]):
        weight = logs["policy"][context, logs["action"][number]] / logs["propensity"][number]
        values = weight * logs["reward"][number]
        for name, (interval, normalised) in COLUMNS.items():
            samples = values / weight.mean() if normalised else values
            ends = interval(samples, alpha=0.05, n_bootstrap_samples=resamples, random_state=number)
            found[name].append([ends["95.0% CI (lower)"], ends["95.0% CI (upper)"]])
    np.savez(target, **{name: np.array(ends) for name, ends in found.items()})


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))

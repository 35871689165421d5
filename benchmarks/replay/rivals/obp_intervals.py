"""Open Bandit Pipeline's intervals of logs, in its environment: python obp_intervals.py IN.npz OUT.npz RESAMPLES.

IN.npz holds `policy`, the candidate's probabilities [contexts, actions], and of K logs of N rows `context`, `action`,
`reward` and `propensity`, each [K, N]. OUT.npz gets, by name, the ends [K, 2] of nominal 95 % intervals.
"""

from __future__ import annotations

import sys

import numpy as np
from obp import ope


def main(source: str, target: str, resamples: int) -> None:
    logs = np.load(source)
    kinds = {"obp ips": ope.InverseProbabilityWeighting(), "obp snips": ope.SelfNormalizedInverseProbabilityWeighting()}
    found = {name: [] for name in kinds}
    for number, context in enumerate(logs["context"]):
        given = {name: logs[name][number] for name in ("action", "reward")}
        given |= {"pscore": logs["propensity"][number], "action_dist": logs["policy"][context][:, :, None]}
        for name, kind in kinds.items():
            ends = kind.estimate_interval(**given, n_bootstrap_samples=resamples, random_state=number)
            found[name].append([ends["95.0% CI (lower)"], ends["95.0% CI (upper)"]])
    np.savez(target, **{name: np.array(ends) for name, ends in found.items()})


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))

"""Small logs for tests of intervals, diagnostics and verdicts."""

import numpy as np

from evaluation.replay.logged import LoggedRewards


def log(weight, reward, user=None, slot=None, propensity=None, **policies) -> LoggedRewards:
    """One request a row; `weight` is of policy `a`, `policies` are others'."""
    rows = np.arange(len(reward))
    user = rows if user is None else np.asarray(user)
    slot = np.zeros(len(rows), np.int64) if slot is None else slot
    propensity = np.full(len(rows), 0.5) if propensity is None else propensity
    weights = {"a": np.asarray(weight, np.float64)} | {k: np.asarray(v, np.float64) for k, v in policies.items()}
    return LoggedRewards(user, rows, slot, np.asarray(reward, np.float64), propensity, weights)

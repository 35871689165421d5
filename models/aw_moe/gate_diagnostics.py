"""What the gate of a mixture of experts does: are all experts used, do users differ, what does each expert add.

Gates are the experts' weights [N, K] and may be negative; the logit is `Σ_k gate_k score_k` up to a constant.
"""

from __future__ import annotations

import numpy as np

from evaluation.metrics.registry import compute_metrics
from evaluation.metrics.rows import Array, ScoredRows


def usage_entropy(gates: Array) -> float:
    """Entropy of the experts' shares over log K: 1 if all are used alike, 0 if one is all; 1 for a single expert.

    An expert's share is the mean over rows of its part in `Σ_k |gate_k|`; rows of zeros have none.
    """
    size = np.abs(_two_dimensional(gates))
    total = size.sum(axis=1, keepdims=True)
    shares = np.divide(size, total, out=np.zeros_like(size), where=total > 0).mean(axis=0)
    if len(shares) == 1:
        return 1.0
    shares = shares / shares.sum()
    used = shares[shares > 0]
    return float(-(used * np.log(used)).sum() / np.log(len(shares)))


def other_users_cosine(gates: Array, users: Array, pairs: int = 100_000, seed: int = 0) -> float:
    """Mean cosine of the gates of two rows of different users, over random pairs: 1 if the gate tells nobody apart.

    Args:
      gates: [N, K].
      users: [N] of keys.
      pairs: how many are drawn; those of one user are left out.
      seed: of the draw.

    Returns:
      The mean; NaN if no pair is of two users.
    """
    gates, users = _two_dimensional(gates), np.asarray(users)
    rng = np.random.default_rng(seed)
    first, second = rng.integers(0, len(users), (2, pairs))
    apart = users[first] != users[second]
    if not apart.any():
        return float("nan")
    unit = gates / np.maximum(np.linalg.norm(gates, axis=1, keepdims=True), 1e-12)
    return float((unit[first[apart]] * unit[second[apart]]).sum(axis=1).mean())


def expert_auc_drops(labels: Array, gates: Array, scores: Array) -> Array:
    """AUC of all experts less the AUC without expert k, [K]. About 0: the expert adds nothing (collapse).

    Args:
      labels: [N].
      gates, scores: [N, K].
    """
    parts = _two_dimensional(gates) * scores
    logits = parts.sum(axis=1)
    whole = _auc(labels, logits)
    return np.array([whole - _auc(labels, logits - part) for part in parts.T])


def mean_gate_auc_drop(labels: Array, gates: Array, scores: Array) -> float:
    """AUC less the AUC with everybody's mean gate for everybody: what the experts owe to the gate's telling apart.

    Args:
      labels: [N].
      gates, scores: [N, K].
    """
    gates = _two_dimensional(gates)
    return _auc(labels, (gates * scores).sum(axis=1)) - _auc(labels, scores @ gates.mean(axis=0))


def _auc(labels: Array, logits: Array) -> float:
    rows = np.arange(len(labels))
    return compute_metrics(ScoredRows(labels, logits, rows, rows), ["auc"])["auc"]


def _two_dimensional(gates: Array) -> Array:
    gates = np.asarray(gates, np.float64)
    if gates.ndim != 2 or not len(gates):
        raise ValueError(f"`gates` must have rows and a column an expert, [N, K]. Received shape {gates.shape}.")
    return gates

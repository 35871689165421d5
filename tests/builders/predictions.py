"""Predictions whose truth is known, for the tests of evaluation."""

import numpy as np
import pyarrow as pa


def simulate(users=300, seed=0, spread=1.0, noise=0.5, candidates=8, requests_per_user=5):
    """Predictions with known truth: click ~ sigmoid(utility + user effect); the model sees a noisy logit."""
    generator = np.random.default_rng(seed)
    requests = users * requests_per_user
    user = np.repeat(np.arange(users), requests_per_user * candidates)
    request = np.repeat(np.arange(requests), candidates)
    n = len(user)
    logit = generator.normal(-1.5, 1, n) + generator.normal(0, spread, users)[user]
    truth = 1 / (1 + np.exp(-logit))
    label = (generator.random(n) < truth).astype(np.float32)
    score = 1 / (1 + np.exp(-(logit + generator.normal(0, noise, n))))
    table = pa.table(
        {
            "request_id": pa.array([f"r{i}" for i in range(requests)]).take(pa.array(request)),
            "user_id": pa.array([f"u{i}" for i in range(users)]).take(pa.array(user)),
            "item_id": pa.array(np.tile(np.arange(candidates), requests) + 1000 * (request % 7)),
            "timestamp": pa.array(request * 1000),
            "position": pa.array(np.tile(np.arange(candidates), requests).astype(np.int32)),
            "label": label,
            "score": score,
            "history_end": pa.array(generator.integers(0, 300, requests)[request]),
            "city": pa.array(["aa", "bb", "cc", None]).take(pa.array(user % 4)),
        }
    )
    return table, truth


def with_column(table, name, values):
    values = values if isinstance(values, pa.Array) else pa.array(values)
    return table.set_column(table.column_names.index(name), name, values)

"""Scored rows whose users differ: in how many rows they have, how often they click, and how far scores are off."""

import numpy as np

from evaluation.metrics.rows import ScoredRows


def sample(seed, users=150, spread=0.0, mean_rows=20):
    """Rows of users; rows of a user are alike.

    Args:
      seed: equal seeds give equal rows.
      users: how many.
      spread: standard deviation of the logarithm of a user's number of rows; 1 makes 150 users worth about 60.
      mean_rows: rows of a user.
    """
    generator = np.random.default_rng(seed)
    sizes = np.maximum(1, np.round(mean_rows * np.exp(generator.normal(-(spread**2) / 2, spread, users)))).astype(int)
    user = np.repeat(np.arange(users), sizes)
    level, quality, bias = (generator.normal(mean, sd, users) for mean, sd in ((-2, 1), (1, 0.5), (0, 0.3)))
    x = generator.normal(size=len(user))
    label = generator.random(len(user)) < 1 / (1 + np.exp(-level[user] - quality[user] * x))
    score = 1 / (1 + np.exp(-(0.6 * level[user] - 0.8 + bias[user] + x)))
    return ScoredRows(label.astype(float), score, user, np.arange(len(user)))

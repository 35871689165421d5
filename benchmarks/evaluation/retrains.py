"""Retrains whose true quality is known: logs of clicks, and models that know more or less of what decides them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache

import numpy as np
import pyarrow as pa

from evaluation.metrics.registry import compute_metrics
from evaluation.metrics.rows import ScoredRows

SLATE = 10
BASE, SPREAD, LEVEL = -2.75, 1.0, 0.7
"""Mean logit, and standard deviations of what a model can know of a row's logit and of what it cannot, the user's."""
BLUR = 0.63
"""Of the first model: two such models of 30,000 rows have a paired difference in AUC of ± 0.008 at 95%."""


@dataclass(frozen=True, eq=False)
class Log:
    """A day's held-out rows: about a tenth of them clicked, users with few and with many requests.

    Attributes:
      table: `KEY_COLUMNS` but `score`.
      known: [N] the part of each row's logit that a model can know.
    """

    table: pa.Table
    known: np.ndarray

    @classmethod
    def draw(cls, generator: np.random.Generator, rows: int, users: int | None = None) -> Log:
        """Draws a log; of `users`, or of about half as many as requests."""
        requests = rows // SLATE
        users = users or max(2, requests * 3 // 4)
        share = generator.lognormal(0, 0.8, users)
        owner = generator.choice(users, requests, p=share / share.sum())
        known = generator.normal(0, SPREAD, requests * SLATE)
        logit = BASE + known + np.repeat(generator.normal(0, LEVEL, users)[owner], SLATE)
        label = generator.random(len(logit)) < 1 / (1 + np.exp(-logit))
        request = np.repeat(np.arange(requests), SLATE)
        columns = {
            "request_id": request,
            "user_id": np.repeat(owner, SLATE),
            "item_id": np.tile(np.arange(SLATE), requests),
            "timestamp": request,
            "position": np.tile(np.arange(SLATE, dtype=np.int32), requests),
            "label": label.astype(np.float32),
            "history_end": np.repeat(generator.integers(0, 300, users)[owner], SLATE),
        }
        return cls(pa.table(columns), known)

    def score(self, generator: np.random.Generator, blur: float) -> pa.Table:
        """The predictions of a model, newly trained: calibrated, and wrong by errors of its own.

        Args:
          generator: of the errors.
          blur: the standard deviation of the noise through which the model sees what can be known.
        """
        seen = self.known + generator.normal(0, blur, len(self.known))
        return self.table.append_column("score", pa.array(probability(seen, blur)))


def probability(seen: np.ndarray, blur: float) -> np.ndarray:
    """P(click | what is seen), with the logistic-normal integral by MacKay's approximation."""
    trusted = SPREAD**2 / (SPREAD**2 + blur**2)
    variance = SPREAD**2 * (1 - trusted) + LEVEL**2
    return 1 / (1 + np.exp(-(BASE + trusted * seen) / math.sqrt(1 + math.pi * variance / 8)))


@cache
def _auc_by_blur() -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(0)
    log, blurs = Log.draw(generator, 400_000), np.r_[np.linspace(0.4, 1.2, 9), 1.5, 2.0, 3.0, 4.0]
    label, noise, key = log.table["label"].to_numpy(), generator.normal(size=len(log.known)), np.arange(len(log.known))
    aucs = [compute_metrics(ScoredRows(label, log.known + blur * noise, key, key), ["auc"])["auc"] for blur in blurs]
    return blurs, np.array(aucs)


def blur_of(loss: float) -> float:
    """The blur of a model whose true AUC is lower by `loss` than that of the first."""
    blurs, aucs = _auc_by_blur()
    wanted = np.interp(BLUR, blurs, aucs) - loss
    return float(np.interp(-wanted, -aucs, blurs))


def users_rows(generator: np.random.Generator, users: int, spread: float, level: float) -> ScoredRows:
    """Rows of users that differ: in how many they have, how often they click, and how far their scores are off.

    Args:
      generator: of all that is drawn.
      users: how many.
      spread: standard deviation of the logarithm of a user's number of rows; 1 makes 150 users worth about 60.
      level: mean logit of the users.
    """
    sizes = np.maximum(1, np.round(20 * np.exp(generator.normal(-(spread**2) / 2, spread, users)))).astype(int)
    user = np.repeat(np.arange(users), sizes)
    rate, quality, bias = (generator.normal(mean, sd, users) for mean, sd in ((level, 1), (1, 0.5), (0, 0.3)))
    seen = generator.normal(size=len(user))
    label = generator.random(len(user)) < 1 / (1 + np.exp(-rate[user] - quality[user] * seen))
    score = 1 / (1 + np.exp(-(0.6 * rate[user] + 0.4 * level + bias[user] + seen)))
    return ScoredRows(label.astype(float), score, user, np.arange(len(user)))

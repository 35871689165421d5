"""Retrains of a retrieval whose true recall is known, over catalogues that grew: what the verdict on them is."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from evaluation.config import RetrievalEvaluationConfig
from evaluation.metrics.takes import Takes
from evaluation.results import GateResult
from evaluation.retrieval import RetrievalEvaluation, evaluate_retrieval

ITEMS, WIDTH, K, BLUR = 1000, 16, 50, 2.2
TAKES = 2800
"""As many as the default run judges."""

CONFIG = RetrievalEvaluationConfig(ks=(K,), gates={"min_lift": None})
MARGIN = CONFIG.gates.max_recall_loss or 0.0


@dataclass
class Catalogue:
    """Items with known vectors, and takes of some of them; every model embeds queries near the items taken.

    Attributes:
      items: [n, d], those that every model holds first.
      taken: [Q] of the first `ITEMS`.
      users: [Q] whose each take is.
    """

    items: np.ndarray
    taken: np.ndarray
    users: np.ndarray

    @classmethod
    def draw(cls, generator: np.random.Generator, takes: int, grown: int = 0) -> Catalogue:
        """Draws `ITEMS` items and `grown` more, and takes of users who take seven items in the mean."""
        items = generator.normal(size=(ITEMS + grown, WIDTH)).astype(np.float32)
        return cls(items, generator.integers(0, ITEMS, takes), generator.integers(0, -(-takes // 7), takes))

    def embedded(self, generator: np.random.Generator, lost: float, size: int) -> Takes:
        """As a model sees it that points anywhere for a share `lost` of the takes, and holds the first `size` items."""
        noise = generator.normal(scale=BLUR, size=(len(self.taken), WIDTH))
        anywhere = generator.random(len(self.taken)) < lost
        queries = np.where(anywhere[:, np.newaxis], 0, self.items[self.taken]) + noise
        ids = pa.array(np.arange(size))
        return Takes(queries.astype(np.float32), self.items[:size], self.taken, ids, self.users)


def recall_of(lost: float) -> float:
    """The true recall of a model over the first `ITEMS`, from takes that are many."""
    generator = np.random.default_rng(10**6)
    catalogue = Catalogue.draw(generator, 200_000)
    return float(catalogue.embedded(generator, lost, ITEMS).hits(K).mean())


def retrain(seed: int, takes: int, lost: float, grown: int) -> RetrievalEvaluation:
    """Judges a model over a catalogue that grew beside a live one that holds the items before."""
    generator = np.random.default_rng(seed)
    catalogue = Catalogue.draw(generator, takes, grown)
    live = catalogue.embedded(generator, 0.0, ITEMS)
    model = catalogue.embedded(generator, lost, ITEMS + grown)
    return evaluate_retrieval(model, np.ones(ITEMS + grown, int), CONFIG, live=live)


def retrievals(trials: int, takes: int = TAKES, loss: float = 0.0, grown: int = 0) -> dict:
    """How many retrains pass whose true recall is `loss` below that of the live model, and how many takes would tell.

    Args:
      trials: how many.
      takes: that each is judged on.
      loss: of recall.
      grown: items that the new model's catalogue holds besides.
    """
    recall = recall_of(0.0)
    lost = loss / (recall - recall_of(1.0)) if loss else 0.0
    verdicts, passed, asked = Counter(), 0, []
    for seed in range(trials):
        result = retrain(seed, takes, lost, grown)
        gate: GateResult = next(gate for gate in result.gates if gate.name == "live_recall")
        verdicts[gate.verdict] += 1
        passed += result.blessed
        asked += [gate.rows_needed] if gate.rows_needed else []
    return {
        "trials": trials,
        "takes": takes,
        "recall": recall,
        "loss": loss,
        "passed": passed / trials,
        "verdicts": dict(verdicts),
        "takes_needed": int(np.median(asked)) if asked else None,
    }

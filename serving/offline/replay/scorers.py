"""What a model may show of a logged request and how it ranks that: a release's cascade, or a bare ranker."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import pyarrow as pa

from evaluation.metrics.rows import Array
from features import storage
from features.arrow import one_chunk
from features.spec import HistorySpec
from serving.cascade import Cascade, best_items
from serving.requests.tensors import tensors_from_table
from serving.saved.ranker import SavedRanker
from serving.saved.signature_specs import RANK_REQUESTS


@dataclass(frozen=True)
class ScoredRequest:
    """One request by a model.

    Attributes:
      logits: [n] float64 of the candidates, in the order in which equal ones are ranked.
      probability: [n] float64 of the label, of the candidates.
      place: [m] of each logged item among the candidates, -1 where it is none.
      q_logged: [m] float64 probability of the label, of each logged item; NaN of one that the model cannot score.
    """

    logits: Array
    probability: Array
    place: Array
    q_logged: Array


class Scorer(Protocol):
    """Scores one raw request.

    Attributes:
      history: the windows that requests must bring; None: none.
      items: the catalogue that it lists; None: it ranks what was logged.
      slots: how many slots it fills; None: as many as were logged.
    """

    history: HistorySpec | None
    items: pa.Array | None
    slots: int | None

    def __call__(self, row: pa.Table) -> ScoredRequest:
        """Scores a raw request of one row, with its windows. Raises whatever keeps the model from it."""


class CascadeScorer:
    """A whole cascade: retrieve n₁ → coarse n₂ → the fine ranker's logits of what is left.

    Candidates stand in the catalogue's order, so that ties are ranked as the gateway ranks them. Long histories are
    added up from each request's own window, as they were at its time, and not read from a store of today.
    """

    def __init__(self, cascade: Cascade):
        self._cascade = cascade
        self.history = cascade.ranker.spec.history
        self.items: pa.Array = cascade.catalogue.item_ids
        self.slots: int = cascade.config.top_k

    def __call__(self, row: pa.Table) -> ScoredRequest:
        cascade, config = self._cascade, self._cascade.config
        passed, _ = cascade.retrieve(row, config.retrieve)
        if cascade.coarse is not None:
            passed = best_items(cascade.coarse_scores(row, passed), passed, config.coarse)
        passed = np.sort(passed)
        logged = cascade.catalogue.rows(one_chunk(row["item_id"]).flatten())
        known = logged >= 0
        outputs = cascade.ranker.score_items(row, cascade.catalogue.tensors(np.concatenate([passed, logged[known]])))
        place = np.searchsorted(passed, logged)
        found = np.append(passed, -1)[np.minimum(place, len(passed))] == logged
        q_logged = np.full(len(logged), np.nan)
        q_logged[known] = outputs["score"][len(passed) :]
        logits, probability = (outputs[name][: len(passed)].astype(np.float64) for name in ("logit", "score"))
        return ScoredRequest(logits, probability, np.where(found & known, place, -1), q_logged)


class RankerScorer:
    """A ranker alone, which orders anew what was shown: its candidates are the logged items, in the order of the log.

    Args:
      model_dir: an exported ranker, one version or the folder of its versions.
    """

    items: pa.Array | None = None
    slots: int | None = None

    def __init__(self, model_dir: storage.AnyPath):
        self._ranker = SavedRanker(model_dir)
        self.history = self._ranker.spec.history if self._ranker.history else None

    def __call__(self, row: pa.Table) -> ScoredRequest:
        ranker = self._ranker
        tensors = tensors_from_table(ranker.spec, row, ranker.history, ranker.inputs(RANK_REQUESTS))
        outputs = ranker.run(RANK_REQUESTS, tensors)
        logits, probability = (outputs[name].astype(np.float64) for name in ("logit", "score"))
        return ScoredRequest(logits, probability, np.arange(len(logits)), probability)

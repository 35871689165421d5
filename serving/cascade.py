"""The whole cascade in process: retrieve n₁ items → coarse n₂ → fine → top k, from exported SavedModels.

The pure logic, without a server: each stage is a loaded export, and a request is one raw row
(docs/reference/cascade.md).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import pyarrow as pa

from evaluation.cascade.config import CascadeConfig
from features import storage
from serving.ranker import Ranker
from serving.requests.item_catalogue import ItemCatalogue
from serving.requests.json_request import row_from_request
from serving.saved.attention import FieldAttention, strongest_pairs
from serving.saved.coarse import SavedCoarse
from serving.saved.two_tower import SavedTwoTower

RETRIEVE, COARSE, FINE = "retrieve", "coarse", "fine"


class CoarseRanker(Protocol):
    """What the cascade asks of its coarse stage; `serving.saved.coarse.SavedCoarse`."""

    def score(self, requests: pa.Table, item_ids: pa.Array) -> np.ndarray:
        """Scores [n] float32 of items for one raw request with its windows; higher is better."""


@dataclass(frozen=True)
class CascadeScore:
    """What one stage said of an item: its score, and its rank (from 1) among the items that the stage scored.

    Attributes:
      score: a cosine in `retrieve`, the coarse ranker's own in `coarse`, a logit in `fine`.
      rank: 1 is best.
    """

    score: float
    rank: int


@dataclass(frozen=True)
class CascadeItem:
    """One item of the list.

    Attributes:
      item_id: its id.
      score: the fine ranker's probability of the label.
      logit: before the sigmoid.
      stages: what each stage said of it; None unless asked for.
      attention: the fine ranker's strongest pairs of fields, strongest first; None unless asked for, or if its export
        does not say.
    """

    item_id: str | int
    score: float
    logit: float
    stages: dict[str, CascadeScore] | None = None
    attention: tuple[FieldAttention, ...] | None = None


class Cascade:
    """Recommends items of a catalogue for raw requests.

    Of equal scores the earlier item of the catalogue comes first, in every stage: the list depends on the scores alone,
    not on the order in which a stage received its items. Retrieved items that the catalogue does not hold (it is older
    than the index) are left out: nothing is known of them.

    Args:
      two_tower: the retrieval.
      ranker: the fine ranker, with its BSE store where long histories are stored (`Ranker.with_store`).
      catalogue: raw candidate features of all items.
      coarse: the coarse ranker; None: the fine ranker scores all retrieved items.
      config: how many items pass each stage.
    """

    def __init__(
        self,
        two_tower: SavedTwoTower,
        ranker: Ranker,
        catalogue: ItemCatalogue,
        coarse: CoarseRanker | None = None,
        config: CascadeConfig | None = None,
    ):
        self.two_tower, self.ranker, self.catalogue, self.coarse = two_tower, ranker, catalogue, coarse
        self.config = config or CascadeConfig()

    @classmethod
    def load(
        cls,
        two_tower: storage.AnyPath,
        ranker: storage.AnyPath,
        items: storage.AnyPath,
        *,
        coarse: storage.AnyPath | None = None,
        tables: storage.AnyPath | None = None,
        signatures: storage.AnyPath | None = None,
        config: CascadeConfig | None = None,
    ) -> Cascade:
        """Loads the exports; each is a SavedModel, or a base directory of versions, of which the latest is taken.

        Args:
          two_tower, ranker, coarse: the models.
          items: Parquet file of the raw catalogue.
          tables: BSE store of the ranker; None: long histories come with the requests.
          signatures: of items that the ranker was not trained with (`clickmill bse sign`).
          config: how many items pass each stage.

        Raises:
          FileNotFoundError: if one of them is not there.
          ValueError: if `tables` are given to a ranker that takes none.
          VersionMismatch: if the store's tables are another version's.
        """
        fine = (
            Ranker(ranker, signatures=signatures) if tables is None else Ranker.with_store(ranker, tables, signatures)
        )
        coarse_ranker = None if coarse is None else SavedCoarse(coarse)
        return cls(SavedTwoTower(two_tower), fine, ItemCatalogue.load(items, fine.spec), coarse_ranker, config)

    def recommend(self, request: dict[str, Any], *, explain: bool = False) -> list[CascadeItem]:
        """Returns the `top_k` items for one JSON request (serving/requests/json_request.py, without `candidates`),
        best first.

        Args:
          request: the request.
          explain: say what each stage thought of the items and where the fine ranker looked.

        Raises:
          RequestError: if the request does not fit the features; the message says why.
        """
        return self.recommend_row(row_from_request(self.ranker.spec, request, candidates=False), explain=explain)

    def recommend_row(self, row: pa.Table, *, explain: bool = False) -> list[CascadeItem]:
        """Returns the `top_k` items for one raw request row with its windows, best first; see `recommend`."""
        retrieved, retrieval_scores = self.retrieve(row, self.config.retrieve)
        passed, coarse_scores = retrieved, None
        if self.coarse is not None:
            coarse_scores = self.coarse_scores(row, retrieved)
            passed = best_items(coarse_scores, retrieved, self.config.coarse)
        outputs = self.ranker.score_items(row, self.catalogue.tensors(passed))
        order = best_first(outputs["logit"], passed)[: self.config.top_k]
        listed = passed[order]
        stages, attention = [None] * len(listed), [None] * len(listed)
        if explain:
            scored = {RETRIEVE: (retrieved, retrieval_scores)}
            if coarse_scores is not None:
                scored[COARSE] = (retrieved, coarse_scores)
            stages = stage_scores(listed, scored | {FINE: (passed, outputs["logit"])})
            attention = self._attention(row, listed) or attention
        ids = self.catalogue.item_ids.take(pa.array(listed)).to_pylist()
        return [
            CascadeItem(item_id, float(outputs["score"][i]), float(outputs["logit"][i]), stage, pairs)
            for item_id, i, stage, pairs in zip(ids, order, stages, attention, strict=True)
        ]

    def retrieve(self, row: pa.Table, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Catalogue rows [n] of the `count` items that the two-tower finds, best first, and their cosines [n]."""
        ids, scores = self.two_tower.retrieve(row, count)
        return known_items(self.catalogue, ids, scores[0])

    def coarse_scores(self, row: pa.Table, items: np.ndarray) -> np.ndarray:
        """The coarse ranker's scores [n] of the items in these rows of the catalogue."""
        return self.coarse.score(row, self.catalogue.item_ids.take(pa.array(items)))

    def _attention(self, row: pa.Table, items: np.ndarray) -> list[tuple[FieldAttention, ...]] | None:
        if not len(items):
            return None
        maps = self.ranker.attention(row, self.catalogue.tensors(items))
        return None if maps is None else [strongest_pairs(each, self.ranker.attention_fields) for each in maps]


def best_first(scores: np.ndarray, items: np.ndarray) -> np.ndarray:
    """Indices by falling score; of equal scores the earlier item of the catalogue comes first."""
    return np.lexsort((items, -scores))


def best_items(scores: np.ndarray, items: np.ndarray, count: int) -> np.ndarray:
    """The `count` items [n] of the highest scores [n], best first: those that a stage leaves to the next."""
    return items[best_first(scores, items)[:count]]


def known_items(catalogue: ItemCatalogue, item_ids: pa.Array, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows of the items that the catalogue holds, and their scores, in the order of the ids."""
    rows = catalogue.rows(item_ids)
    known = rows >= 0
    return rows[known], scores[known]


def stage_scores(listed: np.ndarray, scored: dict[str, tuple[np.ndarray, np.ndarray]]) -> list[dict[str, CascadeScore]]:
    """What each stage said of some items, item by item and stage by stage; nothing of those that it did not score.

    Args:
      listed: rows of the catalogue.
      scored: by stage, the rows that it scored, and their scores.
    """
    explained: list[dict[str, CascadeScore]] = [{} for _ in listed]
    for stage, (items, scores) in scored.items():
        place = {int(items[i]): (rank, float(scores[i])) for rank, i in enumerate(best_first(scores, items), start=1)}
        for stages, item in zip(explained, listed, strict=True):
            if int(item) in place:
                rank, score = place[int(item)]
                stages[stage] = CascadeScore(score, rank)
    return explained

"""Ranking one request with the pushed model, in process: what `clickmill rank` runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from features import storage
from features.errors import InputError
from features.histories.bucket_table import BucketTable
from features.spec import FeatureSpec
from serving.requests.json_request import row_from_request
from serving.requests.stage_inputs import ranker_inputs
from serving.requests.tensors import slate_tensors, tensors_from_table
from serving.saved.ranker import SavedRanker
from serving.saved.signature_specs import EXPLAIN, ITEM_SIGNATURE, RANK_REQUESTS, RANK_SIGNED, SERVING_DEFAULT
from serving.user_stores.bse.item_signatures import NewItemSignatures


@dataclass(frozen=True)
class RankedItem:
    """One candidate of a ranked request.

    Attributes:
      index: its place in the request's `candidates`.
      item_id: its `item_id`, or None where the request gave none.
      score: probability of the label, in [0, 1].
      logit: the model's output before the sigmoid.
    """

    index: int
    item_id: str | int | None
    score: float
    logit: float


class Ranker:
    """Ranks raw requests with an exported SavedModel.

    Attributes:
      directory: the version that was loaded, for example `serving_models/autoint/3`.
    """

    def __init__(
        self,
        model_dir: storage.AnyPath,
        tables: Callable[[str | int], BucketTable | None] | None = None,
        signatures: storage.AnyPath | None = None,
    ):
        """Loads the latest version under `serving_models/<name>/`, or the version directory itself.

        Args:
          model_dir: where the model is.
          tables: gives the bucket table of a user's long history, for example `BseStore.get`; without it tables are
            made of the requests' own `history`.
          signatures: where `clickmill bse sign` left those of items that the ranker was not trained with.

        Raises:
          FileNotFoundError: if there is no SavedModel, or no signatures.
          InputError: if the ranker takes no signatures, or was trained with others.
        """
        self._saved = SavedRanker(model_dir)
        self._inputs = ranker_inputs(self._saved.spec, self._saved.history, self._saved.inputs(SERVING_DEFAULT))
        self._tables = tables
        self._new_items = None if signatures is None else NewItemSignatures.load(signatures, self.directory)

    @classmethod
    def with_store(
        cls, model_dir: storage.AnyPath, store_dir: storage.AnyPath, signatures: storage.AnyPath | None = None
    ) -> Ranker:
        """Loads a ranker that reads long histories from a BSE store.

        Raises:
          FileNotFoundError: if there is no SavedModel.
          InputError: if the ranker takes no tables; and as the constructor.
          VersionMismatch: if the store has no tables of this ranker's version.
          StoreError: if the store cannot be opened.
        """
        ranker = cls(model_dir, signatures=signatures)
        history = ranker._saved.history
        if history is None or history.simhash is None:
            raise InputError(f"the ranker in {ranker.directory} takes no bucket tables: leave the store out.")
        from serving.user_stores.bse.store import BseStore

        ranker._tables = BseStore(store_dir, history.version, follow=True).get
        return ranker

    @property
    def directory(self) -> str:
        return self._saved.directory

    @property
    def spec(self) -> FeatureSpec:
        """The features that a request may hold."""
        return self._saved.spec

    def rank(self, request: dict[str, Any], k: int | None = None) -> list[RankedItem]:
        """Returns the candidates of one JSON request (see `serving/requests/json_request.py`), highest logit first.

        Args:
          request: the request; equal candidates keep their order.
          k: how many to return; all by default.

        Raises:
          RequestError: if the request cannot be ranked; the message says why.
          ValueError: if `k` is not positive.
        """
        if k is not None and k < 1:
            raise ValueError(f"`k` must be positive. Received: `k`={k}.")
        row = row_from_request(self.spec, request, histories=self._saved.history is not None)
        candidates = request["candidates"]
        if not candidates:
            return []
        outputs = self._score_row(row)
        # By logit, not score: probabilities near 1 are equal in float32 while their logits still differ.
        order = np.argsort(-outputs["logit"], kind="stable")[:k]
        return [
            RankedItem(
                index=int(index),
                item_id=candidates[index].get("item_id"),
                score=float(outputs["score"][index]),
                logit=float(outputs["logit"][index]),
            )
            for index in order
        ]

    def request_inputs(self, request: dict[str, Any]) -> dict[str, np.ndarray]:
        """The inputs of `serving_default` for one JSON request, as a client sends them; raises like `rank`."""
        return self._slate(row_from_request(self.spec, request, histories=self._saved.history is not None))

    def _slate(self, row: pa.Table) -> dict[str, np.ndarray]:
        history, names = self._saved.history, self._saved.inputs(SERVING_DEFAULT)
        return slate_tensors(self.spec, row, history, self._long_sums(row), names)

    def _score_row(self, row: pa.Table) -> dict[str, np.ndarray]:
        """Scores the candidates of a raw request of one row; outputs `[n]`."""
        history = self._saved.history
        if history is not None and history.simhash and self._tables is None and self._new_items is None:
            # The joint graph adds up the request's own long history faster than a table is made of it.
            names = self._saved.inputs(RANK_REQUESTS)
            return self._saved.run(RANK_REQUESTS, tensors_from_table(self.spec, row, history, names))
        return self.score_tensors(self._slate(row))

    def score_items(self, row: pa.Table, items: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Scores items for one raw request.

        Args:
          row: a raw request of one row with its windows; with `user_id` where the ranker reads a store.
          items: the slate of n items, `serving.requests.item_catalogue.ItemCatalogue.tensors`.

        Returns:
          `score` (probability) and `logit`, [n] float32.

        Raises:
          ValueError: if a column is missing or does not fit its feature.
        """
        return self.score_tensors(self.request_tensors(row) | items)

    def score_tensors(self, tensors: dict) -> dict[str, np.ndarray]:
        """`score_items` of tensors that were made before: `request_tensors` and the slate `[1, n]`."""
        signature = SERVING_DEFAULT
        if self._new_items is not None:
            signed = self._new_items.of(np.asarray(tensors["item_id"])[0])
            signature, tensors = RANK_SIGNED, tensors | {ITEM_SIGNATURE: signed[np.newaxis]}
        found = self._saved.run(signature, tensors)
        return {name: found[name][0] for name in ("score", "logit")}

    def attention(self, row: pa.Table, items: dict[str, np.ndarray]) -> np.ndarray | None:
        """Where the ranker looks, [n, layers, H, M, M] over `attention_fields`; None: its export does not say."""
        if self.attention_fields is None:
            return None
        return self._saved.run(EXPLAIN, self.request_tensors(row) | items)["attention"][0]

    @property
    def attention_fields(self) -> tuple[str, ...] | None:
        """Names of the fields of `attention`; None: the ranker has none."""
        return self._saved.attention_fields

    def request_tensors(self, row: pa.Table) -> dict[str, np.ndarray]:
        """The inputs of `serving_default` that belong to the request; `row` as in `score_items`."""
        return self._inputs.tensors(row, self._long_sums(row))

    def _long_sums(self, row: pa.Table) -> np.ndarray | None:
        """Bucket sums `[1, G, 2^tau, d]` of the user's long history, from the store or the request's own window."""
        if self._saved.history is None or self._saved.history.simhash is None:
            return None
        if self._tables is None:
            return self._saved.long_table(row, self._new_items).sums[np.newaxis]
        user_id = row["user_id"][0].as_py()
        table = None if user_id is None else self._tables(user_id)
        return None if table is None else table.sums[np.newaxis]

"""Ranking one request with the pushed model, in process: what `clickmill rank` runs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from features.spec import FeatureSpec
from serving.json_request import tensors_from_request
from serving.saved_model import SavedRanker


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

    def __init__(self, model_dir: str | Path):
        """Loads the latest version under `serving_models/<name>/`, or the version directory itself.

        Raises:
          FileNotFoundError: if there is no SavedModel.
        """
        self._saved = SavedRanker(model_dir)

    @property
    def directory(self) -> Path:
        return self._saved.directory

    @property
    def spec(self) -> FeatureSpec:
        """The features that a request may hold."""
        return self._saved.spec

    def rank(self, request: dict[str, Any], k: int | None = None) -> list[RankedItem]:
        """Returns the candidates of one JSON request (see `serving/json_request.py`), highest logit first.

        Args:
          request: the request; equal candidates keep their order.
          k: how many to return; all by default.

        Raises:
          RequestError: if the request cannot be ranked; the message says why.
          ValueError: if `k` is not positive.
        """
        if k is not None and k < 1:
            raise ValueError(f"`k` must be positive. Received: `k`={k}.")
        tensors = tensors_from_request(self.spec, request)
        candidates = request["candidates"]
        if not candidates:
            return []
        outputs = self._saved.serving_default(tensors)
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

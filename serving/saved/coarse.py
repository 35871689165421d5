"""An exported coarse ranker on raw requests: scores of many items for one request, from stored item vectors."""

from __future__ import annotations

from functools import cached_property

import numpy as np
import pyarrow as pa

from serving.requests.stage_inputs import RequestInputs, coarse_inputs, item_slate
from serving.saved.saved_model import SavedModel
from serving.saved.signature_specs import COARSE_RANK, USER_INTERESTS


class SavedCoarse(SavedModel):
    """An exported coarse ranker, opened: what `export_coarse` wrote."""

    kind, signature = "coarse ranker", COARSE_RANK

    def score(self, requests: pa.Table, item_ids: pa.Array) -> np.ndarray:
        """Scores items for one request from their stored vectors.

        Args:
          requests: one raw row with its windows (`features.histories.windows.attach_histories`).
          item_ids: [n] raw ids.

        Returns:
          [n] float32 probabilities; -1 for items that are not stored.

        Raises:
          ValueError: if there is more than one row, or a column is missing or does not fit its feature.
        """
        if requests.num_rows != 1:
            raise ValueError(f"`requests` must be one row. Received: {requests.num_rows} rows.")
        if not len(item_ids):
            return np.zeros(0, np.float32)
        return self.run(COARSE_RANK, self._inputs.tensors(requests) | item_slate(item_ids))["score"][0]

    def user_interests(self, requests: pa.Table) -> tuple[np.ndarray, np.ndarray]:
        """Returns the interests [B, K, d] float32 of raw requests with their windows, and which are valid [B, K]."""
        found = self.run(USER_INTERESTS, self._inputs.tensors(requests))
        return found["interests"], found["valid"]

    @cached_property
    def _inputs(self) -> RequestInputs:
        return coarse_inputs(self.spec, self.history, self.inputs(USER_INTERESTS))

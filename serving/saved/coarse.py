"""An exported coarse ranker on raw requests: scores of many items for one request, from stored item vectors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa

from serving.export.coarse import COARSE_RANK, USER_INTERESTS, item_tensor
from serving.requests.history_inputs import HistoryInputs
from serving.requests.tensors import request_tensors
from serving.saved.saved_model import exported_spec, resolve_version


class SavedCoarse:
    """An exported coarse ranker, loaded.

    Args:
      directory: what `export_coarse` wrote, or a base directory of versions.

    Raises:
      FileNotFoundError: if there is no such export.
    """

    def __init__(self, directory: str | Path):
        import models  # noqa: F401  sets the Keras of the project before TensorFlow is imported

        directory = resolve_version(directory)
        self.spec = exported_spec(directory, "coarse ranker")
        self.history = HistoryInputs.load(directory)
        import tensorflow as tf

        self._saved = tf.saved_model.load(str(directory))
        if self.history is None or COARSE_RANK not in self._saved.signatures:
            raise FileNotFoundError(f"{directory}: `directory` holds no exported coarse ranker.")
        inputs = self._saved.signatures[USER_INTERESTS].structured_input_signature[1]
        self._request_features = [f.name for f in self.spec.of_scope("request") if f.name in inputs]

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
        return self._run(COARSE_RANK, self._tensors(requests) | {"item_id": item_tensor(item_ids)})["score"]

    def user_interests(self, requests: pa.Table) -> tuple[np.ndarray, np.ndarray]:
        """Returns the interests [B, K, d] float32 of raw requests with their windows, and which are valid [B, K]."""
        found = self._run(USER_INTERESTS, self._tensors(requests))
        return found["interests"], found["valid"]

    def _tensors(self, requests: pa.Table) -> dict[str, np.ndarray]:
        windows = self.history.windows(with_table=False)
        return request_tensors(self.spec, requests, self._request_features, windows)

    def _run(self, signature: str, tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        import tensorflow as tf

        function = self._saved.signatures[signature]
        wanted = function.structured_input_signature[1]
        found = function(**{name: tf.constant(tensors[name], wanted[name].dtype) for name in wanted})
        return {name: values.numpy() for name, values in found.items()}

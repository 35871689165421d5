"""What each stage of a cascade takes of a request: the part of its signature's inputs that belongs to who asks.

One code for who runs an export and for who calls a server: both know a signature by the names of its inputs.
"""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from features.spec import FeatureSpec
from serving.requests.tensors import item_tensor, request_tensors, table_tensors, to_slates
from serving.saved.signature_specs import HistoryInputs


@dataclass(frozen=True)
class RequestInputs:
    """The inputs of one signature that raw request rows give; the items' inputs come beside.

    Attributes:
      spec: the features of the model.
      names: the request features that it takes.
      windows: the history features that it takes of each window.
      table: what it takes of a bucket table; None: it takes none.
    """

    spec: FeatureSpec
    names: tuple[str, ...]
    windows: dict[str, tuple[str, ...]] = field(default_factory=dict)
    table: HistoryInputs | None = None

    @property
    def takes_table(self) -> bool:
        """Whether a user's bucket sums are an input."""
        return self.table is not None and self.table.simhash is not None

    def tensors(self, requests: pa.Table, long_sums: np.ndarray | None = None) -> dict[str, np.ndarray]:
        """The inputs of B raw requests, by name.

        Args:
          requests: raw rows, with their windows where the model reads them; other columns are ignored.
          long_sums: [B, G, 2^tau, d] bucket sums of the model's version, where it takes some; None: nobody has any.

        Raises:
          InputError: if a column is missing or does not fit its feature, or the sums are of another shape.
        """
        tensors = request_tensors(self.spec, requests, self.names, self.windows)
        return tensors if self.table is None else tensors | table_tensors(self.table, long_sums, len(requests))


def two_tower_inputs(spec: FeatureSpec, signature: Container[str]) -> RequestInputs:
    """What a two-tower takes of a request.

    Args:
      spec: its features.
      signature: the names of the inputs of `retrieve` or `user_embedding`.
    """
    history = spec.history.features if spec.history else ()
    read = tuple(name for name in history if f"short_{name}" in signature)
    return RequestInputs(spec, _request_names(spec, signature), {"short": read} if read else {})


def coarse_inputs(spec: FeatureSpec, history: HistoryInputs, signature: Container[str]) -> RequestInputs:
    """What a coarse ranker takes of a request.

    Args:
      spec, history: its features, and what it takes of histories.
      signature: the names of the inputs of `coarse_rank` or `user_interests`.
    """
    return RequestInputs(spec, _request_names(spec, signature), history.windows(with_table=False))


def ranker_inputs(spec: FeatureSpec, history: HistoryInputs | None, signature: Container[str]) -> RequestInputs:
    """What a fine ranker takes of a request.

    Args:
      spec, history: its features, and what it takes of histories; None: nothing.
      signature: the names of the inputs of `serving_default`.
    """
    windows = {} if history is None else history.windows(with_table=True)
    return RequestInputs(spec, _request_names(spec, signature), windows, history)


def item_slate(item_ids: pa.Array) -> dict[str, np.ndarray]:
    """The items' part of `coarse_rank` for one request: `item_id` [1, n] and `num_candidates` [1]."""
    return to_slates({"item_id": item_tensor(item_ids)}, np.array([len(item_ids)]))


def item_ids_of(tensor: np.ndarray) -> pa.Array:
    """The item ids that a tensor of any shape holds, flat: text where the tensor has bytes."""
    ids = pa.array(tensor.ravel())
    return ids.cast(pa.string()) if pa.types.is_binary(ids.type) else ids


def _request_names(spec: FeatureSpec, signature: Container[str]) -> tuple[str, ...]:
    return tuple(feature.name for feature in spec.of_scope("request") if feature.name in signature)

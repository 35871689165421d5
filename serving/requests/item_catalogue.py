"""Raw candidate features of the whole catalogue as the input tensors of a ranker, looked up by row."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from features import arrow, storage
from features.errors import InputError, NotFoundError
from features.spec import FeatureSpec
from serving.requests.tensors import value_tensors
from serving.saved.signature_specs import NUM_CANDIDATES, arrow_type


class ItemCatalogue:
    """All items with what a ranker takes of a candidate.

    The columns are turned into tensors once, so that a request only gathers rows. A candidate feature that the items
    table lacks (what only an impression can know, such as its position) gets the missing mark: `missing_features`.

    Args:
      items: the raw catalogue (docs/reference/data_formats.md): `item_id` and features, one row an item.
      spec: of the ranker.

    Raises:
      ValueError: if there is no item, no `item_id`, or a column does not fit its feature.

    Attributes:
      item_ids: [n] raw ids in the catalogue's order.
      missing_features: candidate features of the spec that the catalogue does not hold.
    """

    def __init__(self, items: pa.Table, spec: FeatureSpec):
        if "item_id" not in items.column_names or not len(items):
            raise InputError(f"`items` must hold items, with their `item_id`. Received: {items.column_names}.")
        items = items.combine_chunks()
        self.item_ids = items["item_id"].combine_chunks()
        # A hash map made once: Arrow's `index_in` would hash the whole catalogue again for every request.
        self._row_of = {item: row for row, item in enumerate(self.item_ids.to_pylist())}
        features = spec.of_scope("candidate")
        self.missing_features = tuple(f.name for f in features if f.name not in items.column_names)
        columns = {f.name: items[f.name].combine_chunks() for f in features if f.name not in self.missing_features}
        self._tensors: dict[str, np.ndarray] = {}
        for feature in features:
            column = columns.get(feature.name)
            values = pa.nulls(len(items), arrow_type(feature)) if column is None else column
            self._tensors |= value_tensors(feature, values)

    @classmethod
    def load(cls, path: storage.AnyPath, spec: FeatureSpec) -> ItemCatalogue:
        """Reads the items from a Parquet file, for example `catalogue/items.parquet` of raw examples.

        Raises:
          NotFoundError: if there is no such file.
        """
        if not storage.is_file(path):
            raise NotFoundError(f"{path}: no such file of items; ingestion leaves one as catalogue/items.parquet.")
        return cls(arrow.read_parquet(path), spec)

    def __len__(self) -> int:
        return len(self.item_ids)

    def rows(self, item_ids: pa.Array) -> np.ndarray:
        """Row of each id, from 0; -1: not in the catalogue."""
        ids = item_ids.cast(self.item_ids.type)
        # Arrow makes Python values one by one, NumPy all at once; but of integers with nulls it makes floats.
        values = ids.to_pylist() if ids.null_count else ids.to_numpy(zero_copy_only=False).tolist()
        return np.fromiter(map(self._row_of.get, values, itertools.repeat(-1)), np.int64, len(values))

    def row_of(self, item_id: str | int | None) -> int:
        """Row of one id, from 0; -1: not in the catalogue."""
        return self._row_of.get(item_id, -1)

    def tensors(self, rows: np.ndarray | slice | Sequence[int]) -> dict[str, np.ndarray]:
        """The items in these rows as one slate, [1, n] or [1, n, V]: the candidates' part of `serving_default`."""
        count = len(self.item_ids[rows] if isinstance(rows, slice) else rows)
        found = {name: values[rows][np.newaxis] for name, values in self._tensors.items()}
        return found | {NUM_CANDIDATES: np.array([count], np.int32)}

"""The catalogue: every item of the items table once, in an order that all components share.

LogIngest writes it raw, FeatureEncoder encoded: the same items, sorted by id. An item's **row** is 1-based; 0 stands
for an item that the catalogue does not hold, and pads histories. A table with one row an item (signatures, embeddings)
is then looked up by row, whatever the type of the ids.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from features import storage
from features.arrow import list_splits, lists_of, one_chunk, read_parquet
from features.errors import InputError, NotFoundError
from features.storage import AnyPath

#: In the artifacts of the raw and of the encoded examples.
CATALOGUE_FILE = "catalogue/items.parquet"


def has_catalogue(examples_dir: AnyPath) -> bool:
    """Whether raw or encoded examples come with a catalogue: there was an items table."""
    return storage.is_file(storage.join(examples_dir, CATALOGUE_FILE))


def read_catalogue(examples_dir: AnyPath) -> pa.Table:
    """Reads the catalogue of raw examples (`item_id` and features) or of encoded ones (`_item_id` and features).

    Raises:
      NotFoundError: if there is none.
    """
    path = storage.join(examples_dir, CATALOGUE_FILE)
    if not storage.is_file(path):
        raise NotFoundError(f"{path}: no catalogue. Ingest the logs again, with an items table (`tables.items`).")
    return read_parquet(path)


def item_rows(catalogue_ids: pa.Array | pa.ChunkedArray, ids: pa.Array) -> np.ndarray:
    """Returns the row of each id in the catalogue.

    Args:
      catalogue_ids: [n] raw ids in the catalogue's order.
      ids: [N] raw ids of the same type; null: missing.

    Returns:
      [N] int32, 1-based; 0: not in the catalogue.

    Raises:
      InputError: if the types differ.
    """
    if ids.type != catalogue_ids.type:
        raise InputError(f"`ids` must be {catalogue_ids.type}, as the catalogue's are. Received: {ids.type}.")
    encoded = ids.dictionary_encode()
    rows = pc.index_in(encoded.dictionary, one_chunk(catalogue_ids)).take(encoded.indices)
    return pc.add(pc.fill_null(rows, -1), 1).to_numpy().astype(np.int32, copy=False)


def item_row_lists(catalogue_ids: pa.Array | pa.ChunkedArray, lists: pa.ListArray) -> pa.ListArray:
    """Returns `item_rows` of lists of ids, list by list; [B] lists of int32."""
    return lists_of(item_rows(catalogue_ids, lists.flatten()), list_splits(lists))

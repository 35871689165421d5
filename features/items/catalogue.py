"""The catalogue: every item of the items table once, in an order that all components share.

LogIngest writes it raw, FeatureEncoder encoded: the same items, sorted by id. An item's **row** is 1-based; 0 stands
for an item that the catalogue does not hold, and pads histories. A table with one row an item (signatures, embeddings)
is then looked up by row, whatever the type of the ids.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

#: In the artifacts of the raw and of the encoded examples.
CATALOGUE_FILE = "catalogue/items.parquet"


def has_catalogue(examples_dir: str | Path) -> bool:
    """Whether raw or encoded examples come with a catalogue: there was an items table."""
    return (Path(examples_dir) / CATALOGUE_FILE).is_file()


def read_catalogue(examples_dir: str | Path) -> pa.Table:
    """Reads the catalogue of raw examples (`item_id` and features) or of encoded ones (`_item_id` and features).

    Raises:
      FileNotFoundError: if there is none.
    """
    if not has_catalogue(examples_dir):
        raise FileNotFoundError(
            f"{Path(examples_dir) / CATALOGUE_FILE}: no catalogue. Ingest the logs again, with an items "
            "table (`tables.items`)."
        )
    return pq.read_table(Path(examples_dir) / CATALOGUE_FILE)


def item_rows(catalogue_ids: pa.Array | pa.ChunkedArray, ids: pa.Array) -> np.ndarray:
    """Returns the row of each id in the catalogue.

    Args:
      catalogue_ids: [n] raw ids in the catalogue's order.
      ids: [N] raw ids of the same type; null: missing.

    Returns:
      [N] int32, 1-based; 0: not in the catalogue.

    Raises:
      ValueError: if the types differ.
    """
    if ids.type != catalogue_ids.type:
        raise ValueError(f"`ids` must be {catalogue_ids.type}, as the catalogue's are. Received: {ids.type}.")
    if isinstance(catalogue_ids, pa.ChunkedArray):
        catalogue_ids = catalogue_ids.combine_chunks()
    encoded = ids.dictionary_encode()
    rows = pc.index_in(encoded.dictionary, catalogue_ids).take(encoded.indices)
    return pc.add(pc.fill_null(rows, -1), 1).to_numpy().astype(np.int32, copy=False)


def item_row_lists(catalogue_ids: pa.Array | pa.ChunkedArray, lists: pa.ListArray) -> pa.ListArray:
    """Returns `item_rows` of lists of ids, list by list; [B] lists of int32."""
    offsets = lists.offsets.to_numpy()
    rows = item_rows(catalogue_ids, lists.flatten())
    return pa.ListArray.from_arrays(pa.array(offsets - offsets[0]), pa.array(rows))

"""The vectors of the catalogue's items, as a table beside an exported model's own files."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from features import arrow, storage

#: Beside the SavedModel's own files: one row an item, in the catalogue's order.
ITEM_EMBEDDINGS_FILE = "assets.extra/item_embeddings.parquet"

#: The same without the items' ids, of two-towers that read them beside other features: what signatures are made of.
ANONYMOUS_EMBEDDINGS_FILE = "assets.extra/item_embeddings_without_ids.parquet"


def write_item_embeddings(item_ids: pa.Array, embeddings: np.ndarray, path: storage.AnyPath) -> None:
    """Writes `item_id`, `embedding` (list of float32, unit length); rows in the given order."""
    splits = np.arange(len(embeddings) + 1) * embeddings.shape[1]
    lists = arrow.lists_of(embeddings.astype(np.float32, copy=False).ravel(), splits)
    arrow.write_parquet(pa.table({"item_id": item_ids, "embedding": lists}), path)


def embeddings_to_sign(saved_model_dir: storage.AnyPath) -> str:
    """Returns the file whose embeddings are signed: without ids, so that items are signed alike before they are seen.

    A new item's id tells a two-tower nothing: with ids every third of its signatures would be another than the one that
    it gets by the next training. A two-tower that reads nothing but the id can sign only by that.
    """
    anonymous = storage.join(saved_model_dir, ANONYMOUS_EMBEDDINGS_FILE)
    return anonymous if storage.is_file(anonymous) else storage.join(saved_model_dir, ITEM_EMBEDDINGS_FILE)


def read_item_embeddings(path: storage.AnyPath) -> tuple[pa.Array, np.ndarray]:
    """Reads what `write_item_embeddings` wrote: item ids [n], embeddings [n, d] float32."""
    table = arrow.read_parquet(path).combine_chunks()
    values = arrow.to_numpy(arrow.one_chunk(table["embedding"]).flatten())
    return arrow.one_chunk(table["item_id"]), values.reshape(table.num_rows, -1)

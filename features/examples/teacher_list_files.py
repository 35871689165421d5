"""Teacher lists: what a fine ranker thinks of items that a group of requests shares, for models that learn its order.

A request's top ten of a whole catalogue lie among items that no impression showed. The fine ranker scores them for a
sample of requests; sharing the items of a group lets a student embed them once for all its requests.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from features import storage
from features.arrow import lists_of, read_parquet, splits_of, write_parquet
from features.errors import NotFoundError
from features.examples.config import TeacherListsConfig
from features.storage import AnyPath

#: Where coarse examples hold the lists that belong to them.
LISTS_FOLDER = "teacher_lists"


@dataclass(frozen=True)
class TeacherList:
    """A group of requests and the items that they share.

    Attributes:
      requests: [B] places among the requests of the split, in the order of the files.
      item_rows: [n] rows of the catalogue, from 1.
      logits: [B, n] float32 of the fine ranker.
    """

    requests: np.ndarray
    item_rows: np.ndarray
    logits: np.ndarray


def draw_items(
    retrieved: np.ndarray, num_items: int, config: TeacherListsConfig, rng: np.random.Generator
) -> np.ndarray:
    """Draws the items of a group.

    Args:
      retrieved: [B, r] catalogue rows from 1, what each request of the group retrieves.
      num_items: of the catalogue.
      config: how many.
      rng: the draw.

    Returns:
      [n] distinct rows from 1, in random order; n is at most `uniform` + about `retrieved`, less what was drawn twice.
    """
    uniform = rng.choice(num_items, min(config.uniform, num_items), replace=False) + 1
    share = min(-(-config.retrieved // len(retrieved)), retrieved.shape[1])
    near = rng.permuted(retrieved, axis=1)[:, :share]
    return rng.permutation(np.union1d(uniform, near))


def write_lists(lists: list[TeacherList], path: AnyPath) -> None:
    """Writes the lists of a split, one row a group."""

    def column(arrays: list[np.ndarray], dtype: type) -> pa.ListArray:
        values = np.concatenate([array.ravel() for array in arrays]) if arrays else np.zeros(0)
        return lists_of(values.astype(dtype), splits_of([array.size for array in arrays]))

    table = pa.table(
        {
            "request": column([each.requests for each in lists], np.int32),
            "item_row": column([each.item_rows for each in lists], np.int32),
            "teacher_logit": column([each.logits for each in lists], np.float32),
        }
    )
    write_parquet(table, path)


def read_lists(lists_dir: AnyPath, split: str) -> list[TeacherList]:
    """Reads the lists of a split.

    Raises:
      NotFoundError: if there are none.
    """
    path = lists_path(lists_dir, split)
    if not storage.is_file(path):
        raise NotFoundError(f"{path}: no teacher lists of split `{split}`; TeacherLists writes them.")
    found = []
    for row in read_parquet(path).to_batches():
        columns = [row.column(name) for name in ("request", "item_row", "teacher_logit")]
        for requests, items, logits in zip(*columns, strict=True):
            requests, items, logits = (each.values.to_numpy() for each in (requests, items, logits))
            found.append(TeacherList(requests, items, logits.reshape(len(requests), len(items))))
    return found


def lists_path(lists_dir: AnyPath, split: str) -> str:
    """The file of a split's lists."""
    return storage.join(lists_dir, f"teacher_lists-{split}.parquet")

"""Makes teacher lists: the fine ranker scores items of the whole catalogue for sampled requests."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from features import arrow, storage
from features.encoding.columns import key_column
from features.errors import InputError
from features.examples.shards import draw_requests, list_shards
from features.examples.teacher_list_files import (
    TeacherList,
    TeacherListsConfig,
    draw_items,
    lists_path,
    write_lists,
)
from features.histories.windows import attach_histories, read_behaviors
from features.items.catalogue import CATALOGUE_FILE
from serving.offline.cascade_scoring import FineOverCatalogue, best_rows, single_rows
from serving.offline.in_order import in_order
from serving.ranker import Ranker
from serving.requests.item_catalogue import ItemCatalogue
from serving.saved.two_tower import RetrievedRows


def make_teacher_lists(
    raw_dir: storage.AnyPath,
    behaviors_dir: storage.AnyPath,
    encoded_dir: storage.AnyPath,
    two_tower: storage.AnyPath,
    teacher: storage.AnyPath,
    output_dir: storage.AnyPath,
    config: TeacherListsConfig,
) -> dict[str, int]:
    """Draws requests of `train` and `eval`, and items for each group of them, and has the fine ranker score these.

    The output is a directory of encoded examples of the drawn requests alone (all but the splits are the same files),
    with `teacher_lists-<split>.parquet` beside: one row a group, see
    `features.examples.teacher_list_files.TeacherList`.

    Args:
      raw_dir: raw examples; retrieval and teacher read raw values.
      behaviors_dir: the raw behaviour log.
      encoded_dir: the same examples, encoded: what the student reads.
      two_tower: an exported two-tower over the same catalogue.
      teacher: an exported fine ranker.
      output_dir: where everything is written; each file appears whole.
      config: how many requests and items.

    Returns:
      Numbers of `requests`, and of `scored` (request, item) pairs.

    Raises:
      FileNotFoundError: if something is not there.
      ValueError: if raw and encoded examples, or index and catalogue, do not belong together.
    """
    for folder in storage.entries(encoded_dir):
        if storage.is_folder(folder) and not storage.name(folder).startswith("Split-"):
            storage.copy_tree(folder, storage.join(output_dir, storage.name(folder)))
    maker, totals = _ListMaker(raw_dir, two_tower, teacher, config), {"requests": 0, "scored": 0}
    for number, (split, count) in enumerate((("train", config.requests), ("eval", -(-config.requests // 10)))):
        tables = []
        for path, rows in draw_requests(list_shards(raw_dir, split), count, config.seed):
            place = (f"Split-{split}", storage.name(path))
            raw, drawn = (
                arrow.read_parquet(each).take(pa.array(rows)) for each in (path, storage.join(encoded_dir, *place))
            )
            if not raw["request_id"].equals(drawn[key_column("request_id")]):
                raise InputError(f"{path}: raw and encoded examples differ in order: encode them again.")
            arrow.write_parquet(drawn, storage.join(output_dir, *place))
            tables.append(attach_histories(raw, read_behaviors(behaviors_dir, path, maker.history), maker.history))
        lists = list(maker.score(tables, np.random.default_rng([config.seed, number])))
        write_lists(lists, lists_path(output_dir, split))
        totals["requests"] += sum(len(each.requests) for each in lists)
        totals["scored"] += sum(each.logits.size for each in lists)
    return totals


class BestItems(NamedTuple):
    """What a fine ranker lists for drawn requests.

    Attributes:
      requests: files of raw requests, and the rows that were drawn of each, R in all.
      user_ids: [R] whose each request is.
      item_ids: [R · top] request after request, best first; of equal scores the earlier item of the catalogue.
      top: how many items a list has.
    """

    requests: list[tuple[str, np.ndarray]]
    user_ids: pa.Array
    item_ids: pa.Array
    top: int


def list_best_items(
    raw_dir: storage.AnyPath,
    behaviors_dir: storage.AnyPath,
    split: str,
    teacher: storage.AnyPath,
    count: int,
    top: int,
    seed: int = 0,
) -> BestItems:
    """Draws requests of a split, and has the fine ranker score the whole catalogue for each.

    Args:
      raw_dir: raw examples, with their catalogue.
      behaviors_dir: the raw behaviour log.
      split: whose requests.
      teacher: an exported fine ranker.
      count: how many requests; all where there are fewer.
      top: how many items a list has; all where there are fewer.
      seed: of the draw.

    Raises:
      NotFoundError: if the split holds no file, or there is no catalogue.
    """
    ranker = Ranker(teacher)
    catalogue = ItemCatalogue.load(storage.join(raw_dir, CATALOGUE_FILE), ranker.spec)
    fine, top = FineOverCatalogue(ranker, catalogue), min(top, len(catalogue))
    drawn, users, best = draw_requests(list_shards(raw_dir, split), count, seed), [], []
    for path, rows in drawn:
        table = arrow.read_parquet(path).take(pa.array(rows))
        if ranker.spec.history is not None:
            table = attach_histories(
                table, read_behaviors(behaviors_dir, path, ranker.spec.history), ranker.spec.history
            )
        users.append(arrow.one_chunk(table["user_id"]))
        best += in_order(lambda row: best_rows(fine.logits(row), top), single_rows(table))
    items = catalogue.item_ids.take(pa.array(np.concatenate([np.zeros(0, np.int64), *best])))
    return BestItems(drawn, pa.concat_arrays(users) if users else pa.array([], pa.string()), items, top)


class _ListMaker:
    """What is loaded once."""

    def __init__(self, raw_dir: storage.AnyPath, two_tower, teacher, config: TeacherListsConfig):
        self._config, self._teacher = config, Ranker(teacher)
        self._catalogue = ItemCatalogue.load(storage.join(raw_dir, CATALOGUE_FILE), self._teacher.spec)
        self._retrieval = RetrievedRows(two_tower, pa.chunked_array([self._catalogue.item_ids]))
        self.history = self._retrieval.two_tower.spec.history

    def score(self, tables: list[pa.Table], rng: np.random.Generator):
        """Yields the lists of the requests in `tables`, grouped at random."""
        rows = [row for table in tables for row in single_rows(table)]
        order = rng.permutation(len(rows))
        for start in range(0, len(order), self._config.group):
            group = order[start : start + self._config.group]
            requests = pa.concat_tables([rows[i] for i in group])
            retrieved = self._retrieval.of(requests, self._config.retrieve)
            items = draw_items(retrieved, len(self._catalogue), self._config, rng)
            tensors = self._catalogue.tensors(items - 1)
            logits = in_order(partial(self._logits, tensors), [rows[i] for i in group])
            yield TeacherList(group, items, np.stack(list(logits)))

    def _logits(self, items: dict[str, np.ndarray], row: pa.Table) -> np.ndarray:
        return self._teacher.score_items(row, items)["logit"]

"""An exported two-tower on raw examples: embeds requests, retrieves items."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from features import arrow, storage
from features.config import nearest
from features.errors import InputError
from features.examples.shards import list_shards, request_batches
from features.histories.windows import attach_histories, read_behaviors
from features.items.catalogue import item_rows
from serving.export.item_embeddings import ITEM_EMBEDDINGS_FILE, read_item_embeddings
from serving.requests.stage_inputs import item_ids_of, two_tower_inputs
from serving.requests.tensors import value_tensors
from serving.saved.saved_model import SavedModel
from serving.saved.signature_specs import ANONYMOUS_EMBEDDING, ITEM_EMBEDDING, RETRIEVE, USER_EMBEDDING

_BATCH_REQUESTS = 4096
_BATCH_ITEMS = 4096


class EmbeddedTakes(NamedTuple):
    """A split's takes.

    Attributes:
      queries: [Q, d] float32, of the requests.
      item_ids: [Q] of the items taken.
      user_ids: [Q] of those who took them.
    """

    queries: np.ndarray
    item_ids: pa.Array
    user_ids: pa.Array


class SavedTwoTower(SavedModel):
    """An exported two-tower, opened: what `export_two_tower` wrote."""

    kind, signature = "two-tower", RETRIEVE

    def __init__(self, model_dir: storage.AnyPath):
        super().__init__(model_dir)
        self._inputs = two_tower_inputs(self.spec, self.inputs(USER_EMBEDDING))

    def embed_users(self, requests: pa.Table) -> np.ndarray:
        """Embeds raw requests, [B, d] float32.

        Args:
          requests: raw examples, with their short windows (`features.histories.windows.attach_histories`) where the
            model reads them.

        Raises:
          ValueError: if a column is missing or does not fit its feature.
        """
        return self.run(USER_EMBEDDING, self._tensors(requests))["embedding"]

    def retrieve(self, requests: pa.Table, k: int) -> tuple[pa.Array, np.ndarray]:
        """Finds each request's k items of the whole corpus, by exact search.

        Args:
          requests: as of `embed_users`, [B].
          k: how many; more than the corpus holds gives all of it.

        Returns:
          Item ids [B·k], request after request, best first, and their scores (cosines) [B, k] float32; of equal scores
          the earlier item of the catalogue comes first.

        Raises:
          ValueError: if a column is missing or does not fit its feature, or `k` is not positive.
        """
        if k < 1:
            raise ValueError(f"`k` must be positive. Received: `k`={k}.")
        found = self.run(RETRIEVE, self._tensors(requests) | {"k": np.full(len(requests), k, np.int32)})
        return item_ids_of(found["item_id"]), found["score"]

    def embed_items(self, items: pa.Table, to_sign: bool = False) -> np.ndarray:
        """Embeds raw items, also such as the index does not hold, [n, d] float32.

        Args:
          items: the raw features of `items` that the item tower reads; other columns are ignored.
          to_sign: whether the embeddings are those that signatures are made of
            (`serving.export.item_embeddings.embeddings_to_sign`).

        Raises:
          InputError: if a column is missing or does not fit its feature.
        """
        anonymous = to_sign and ANONYMOUS_EMBEDDING in self._module.signatures
        signature = ANONYMOUS_EMBEDDING if anonymous else ITEM_EMBEDDING
        inputs = self.inputs(signature)
        names = [feature.name for feature in self.spec.features if feature.name in inputs]
        missing = [name for name in names if name not in items.column_names]
        if missing:
            raise InputError(
                f"the items have no column `{missing[0]}`, which the item tower reads: add it, with null where an item "
                f"has no value.{nearest(missing[0], items.column_names)}"
            )
        found = [np.zeros((0, self._module.signatures[signature].structured_outputs["embedding"].shape[1]))]
        for start in range(0, len(items), _BATCH_ITEMS):
            part = items.slice(start, _BATCH_ITEMS)
            tensors: dict = {}
            for name in names:
                tensors |= value_tensors(self.spec[name], arrow.one_chunk(part[name]))
            found.append(self.run(signature, tensors)["embedding"])
        return np.concatenate(found).astype(np.float32)

    def _tensors(self, requests: pa.Table) -> dict:
        """Inputs of `user_embedding`."""
        return self._inputs.tensors(requests)

    def embed_takes(self, examples_dir: storage.AnyPath, behaviors_dir: storage.AnyPath, split: str) -> EmbeddedTakes:
        """Embeds the requests of a split's takes: one row a (request, item with a positive label) pair.

        Args:
          examples_dir: raw examples (docs/reference/data_formats.md).
          behaviors_dir: the raw behaviour log.
          split: `eval`, `test` or `train`.

        Raises:
          FileNotFoundError: if the split holds no file.
          UnscorableError: if a column that the model reads is missing, or has another form.
        """
        columns = ["user_id", "item_id", self.spec.label, "user_index", "history_end"]
        features = [self.spec[name] for name in self._inputs.names]
        queries, taken, users = [], [], []
        for path in list_shards(examples_dir, split):
            behaviors = read_behaviors(behaviors_dir, path, self.spec.history) if self._inputs.windows else None
            for table in request_batches(path, columns, features, _BATCH_REQUESTS):
                request, items = _takes(table, self.spec.label)
                taken.append(items)
                users.append(arrow.one_chunk(table["user_id"]).take(pa.array(request)))
                table = table.take(pa.array(np.unique(request)))
                if not len(table):
                    continue
                if behaviors is not None:
                    table = attach_histories(table, behaviors, self.spec.history, windows=("short",))
                rows = np.unique(request, return_inverse=True)[1]
                queries.append(self.embed_users(table)[rows])
        dim = self._module.signatures[USER_EMBEDDING].structured_outputs["embedding"].shape[1]
        queries.append(np.zeros((0, dim), np.float32))
        return EmbeddedTakes(np.concatenate(queries), pa.concat_arrays(taken), pa.concat_arrays(users))

    def embed_drawn(self, requests: Iterable[tuple[str, np.ndarray]], behaviors_dir: storage.AnyPath) -> np.ndarray:
        """Embeds drawn requests, [R, d] float32, in the order of the draw.

        Args:
          requests: files of raw requests, and rows of each (`features.examples.shards.draw_requests`).
          behaviors_dir: the raw behaviour log.

        Raises:
          UnscorableError: if a column that the model reads is missing, or has another form.
        """
        features, found = [self.spec[name] for name in self._inputs.names], []
        for path, rows in requests:
            read = request_batches(path, ["user_index", "history_end"], features, _BATCH_REQUESTS)
            table = pa.concat_tables(read).take(pa.array(rows))
            if self._inputs.windows:
                behaviors = read_behaviors(behaviors_dir, path, self.spec.history)
                table = attach_histories(table, behaviors, self.spec.history, windows=("short",))
            found.append(self.embed_users(table))
        return np.concatenate(found)


class RetrievedRows:
    """What an exported two-tower retrieves, as rows of a catalogue: for making training examples, not for serving.

    Args:
      directory: what `export_two_tower` wrote.
      item_ids: [n] of the catalogue.

    Raises:
      FileNotFoundError: if there is no such export.
      ValueError: if the index holds items that the catalogue does not.
    """

    def __init__(self, directory: storage.AnyPath, item_ids: pa.ChunkedArray):
        self.two_tower = SavedTwoTower(directory)
        ids, self._items = read_item_embeddings(storage.join(self.two_tower.directory, ITEM_EMBEDDINGS_FILE))
        self._rows = item_rows(item_ids, ids)
        if (self._rows == 0).any():
            raise InputError("the two-tower's index holds items that the catalogue does not: train it again.")

    def of(self, requests: pa.Table, count: int) -> np.ndarray:
        """Rows [B, min(count, items)], from 1, of the items nearest to raw requests, in no order."""
        count = min(count, len(self._items))
        if not len(requests):
            return np.zeros((0, count), np.int64)
        scores = self.two_tower.embed_users(requests) @ self._items.T
        if count == len(self._items):
            found = np.broadcast_to(np.arange(count), scores.shape)
        else:
            found = np.argpartition(-scores, count, axis=1)[:, :count]
        return self._rows[found].astype(np.int64)


def _takes(table: pa.Table, label: str) -> tuple[np.ndarray, pa.Array]:
    """Row of the request and id of the item of each positive candidate."""
    items, labels = arrow.one_chunk(table["item_id"]), arrow.one_chunk(table[label])
    positive = arrow.to_numpy(labels.flatten()) > 0
    request = np.repeat(np.arange(len(items)), arrow.list_lengths(items))
    return request[positive], items.flatten().filter(pa.array(positive))

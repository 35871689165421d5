"""Building the bucket tables of a ranker version. `serving/user_stores/builds.py` says how a version is published."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from features.histories.windows import USER
from features.spec import HistorySpec
from serving.user_stores.behavior_window import BehaviorWindow
from serving.user_stores.bse.record import RecordLayout
from serving.user_stores.bse.table_state import StateLayout, encode_exactly
from serving.user_stores.builds import RecordWriter, StoreBuild

if TYPE_CHECKING:
    from features.histories.build_tables import TableBlock

FORMAT = 2


class TableWriter(RecordWriter):
    """Writes tables into an unpublished store.

    Attributes:
      layout: of its records.
      history: of the windows that they are made of; None: the store is none that behaviours are appended to.
    """

    def __init__(self, directory: Path, layout: RecordLayout, history: HistorySpec | None = None):
        super().__init__(directory)
        self.layout = layout
        self.history = history

    def write(self, user_ids: pa.Array, sums: np.ndarray, counts: np.ndarray) -> None:
        """Writes a block of users in one transaction.

        Args:
          user_ids: [U] string or int64, no nulls.
          sums: [U, G, 2 ** tau, d] float32.
          counts: [U, G, 2 ** tau] int32.
        """
        self.put(zip(user_ids.to_pylist(), self.layout.encode(sums, counts), strict=True))

    def write_block(self, block: TableBlock) -> None:
        """Writes the tables of some users, and what appending to them takes, in one transaction."""
        users = block.user_ids.to_pylist()
        records, rests = encode_exactly(self.layout, block.sums, block.counts)
        states: dict[str | int, bytes] = {}
        if self.history is not None and block.histories is not None:
            layout, left = StateLayout(self.layout, self.history), dict(zip(users, rests, strict=True))
            columns = [block.histories[name].to_pylist() for name in layout.columns]
            for user, *values in zip(block.histories[USER].to_pylist(), *columns, strict=True):
                window = BehaviorWindow.of_log(dict(zip(layout.columns, values, strict=True)), layout.length)
                states[user] = layout.encode(window, left.get(user))
        self.put(zip(users, records, strict=True), states.items())


class StoreBuilder(StoreBuild):
    """Builds the tables of one ranker version: a context manager that discards what was not published.

    Attributes:
      writer: gets the tables.
    """

    writer: TableWriter

    def __init__(self, root: str | Path, version: str, layout: RecordLayout, history: HistorySpec | None = None):
        """Prepares a build; nothing is written before `with`.

        Args:
          root: the store, with all its versions.
          version: of the ranker whose embeddings the tables hold.
          layout: of the records.
          history: of the windows that the tables are made of, for a store that behaviours are appended to.

        Raises:
          InputError: if `version` cannot be a directory's name.
        """
        super().__init__(root, version)
        self.writer = TableWriter(self.directory, layout, history)

    def publish(self, details: dict | None = None) -> Path:
        """Makes the version visible, and current, in one rename each; returns its link.

        Args:
          details: further facts for the header.
        """
        layout = self.writer.layout
        shape = {name: getattr(layout, name) for name in ("num_groups", "num_buckets", "dim", "precision")}
        history = self.writer.history
        windows = {} if history is None else {"history": history.model_dump(mode="json")}
        return self.publish_with({"format": FORMAT, **shape, **windows, **(details or {})})

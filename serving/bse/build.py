"""Building the bucket tables of a ranker version. `serving/user_stores/builds.py` says how a version is published."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa

from serving.bse.record import RecordLayout
from serving.user_stores.builds import RecordWriter, StoreBuild

FORMAT = 2


class TableWriter(RecordWriter):
    """Writes tables into an unpublished store.

    Attributes:
      layout: of its records.
    """

    def __init__(self, directory: Path, layout: RecordLayout):
        super().__init__(directory)
        self.layout = layout

    def write(self, user_ids: pa.Array, sums: np.ndarray, counts: np.ndarray) -> None:
        """Writes a block of users in one transaction.

        Args:
          user_ids: [U] string or int64, no nulls.
          sums: [U, G, 2 ** tau, d] float32.
          counts: [U, G, 2 ** tau] int32.
        """
        self.put(user_ids.to_pylist(), self.layout.encode(sums, counts))


class StoreBuilder(StoreBuild):
    """Builds the tables of one ranker version: a context manager that discards what was not published.

    Attributes:
      writer: gets the tables.
    """

    writer: TableWriter

    def __init__(self, root: str | Path, version: str, layout: RecordLayout):
        """Prepares a build; nothing is written before `with`.

        Args:
          root: the store, with all its versions.
          version: of the ranker whose embeddings the tables hold.
          layout: of the records.

        Raises:
          InputError: if `version` cannot be a directory's name.
        """
        super().__init__(root, version)
        self.writer = TableWriter(self.directory, layout)

    def publish(self, details: dict | None = None) -> Path:
        """Makes the version visible, and current, in one rename each; returns its link.

        Args:
          details: further facts for the header.
        """
        layout = self.writer.layout
        shape = {name: getattr(layout, name) for name in ("num_groups", "num_buckets", "dim", "precision")}
        return self.publish_with({"format": FORMAT, **shape, **(details or {})})

"""An exported fine ranker: its signatures, and the names of the fields that it attends to."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa

from features import storage
from features.arrow import one_chunk, read_parquet
from features.histories.bucket_table import BucketTable
from features.histories.time_gaps import gap_buckets
from features.histories.windows import TIMESTAMP, history_column
from features.items.signatures import SIGNATURES_FILE
from serving.requests.tensors import feature_tensor, value_tensors
from serving.saved.saved_model import SavedModel
from serving.saved.signature_specs import (
    ATTENTION_FIELDS_FILE,
    ENCODE_BEHAVIORS,
    SERVING_DEFAULT,
    SIGNATURES_FOLDER,
    TIME,
)
from serving.user_stores.bse.item_signatures import NewItemSignatures


class SavedRanker(SavedModel):
    """An exported ranker, opened; a coarse one too, which has the same signatures.

    Its signature is `serving_default` (R requests, from `slate_tensors`), to `{"score": [R, N], "logit": [R, N],
    "long_history_used": [R]}`; `rank_requests` is the joint graph beside it (from `tensors_from_table`), to `{"score":
    [N], "logit": [N]}`. Some have `explain`, the inputs of `serving_default` to `{"attention": [R, N, layers, H, M,
    M]}`, and `encode_behaviors`, T behaviours for BSE to `{"embedding": [T, d], "signature": [T, G], "known": [T]}`.

    Attributes:
      attention_fields: names of the fields of `explain`, in its order; None: it has no such signature.
      signed_items: raw ids of the items whose signatures it looks up, in the catalogue's order; None: it looks none up.
    """

    kind, signature = "ranker", SERVING_DEFAULT

    def __init__(self, model_dir: storage.AnyPath):
        super().__init__(model_dir)
        fields = storage.join(self.directory, ATTENTION_FIELDS_FILE)
        signatures = storage.join(self.directory, SIGNATURES_FOLDER, SIGNATURES_FILE)
        self.signed_items = (
            one_chunk(read_parquet(signatures, ["item_id"])["item_id"]) if storage.is_file(signatures) else None
        )
        self.attention_fields = tuple(json.loads(storage.read_bytes(fields))) if storage.is_file(fields) else None

    def long_table(self, row: pa.Table, new_items: NewItemSignatures | None = None) -> BucketTable:
        """The bucket table of one raw request's own long window, as a store of the request's time would hold it.

        Only for rankers that take tables.

        Args:
          row: a raw request of one row with its windows.
          new_items: signatures of items that came after the training.
        """
        names = self.history.long_features
        columns = {name: one_chunk(row[history_column("long", name)]).flatten() for name in names}
        tensors: dict[str, np.ndarray] = {}
        for name, flat in columns.items():
            tensors |= value_tensors(self.spec[name], flat)
        found = self.run(ENCODE_BEHAVIORS, tensors)
        values = found["embedding"]
        if self.gap_weights is not None:
            now = feature_tensor(TIME, one_chunk(row[TIMESTAMP]))
            times = feature_tensor(TIME, one_chunk(row[history_column("long", TIMESTAMP)]).flatten())
            values = values * self.gap_weights[gap_buckets(now, times), np.newaxis]
        signatures, known = found["signature"], found["known"]
        if new_items is not None:
            signatures, known = new_items.complete(tensors["item_id"], signatures, known)
        return BucketTable.build(values, signatures.astype(np.uint8), self.history.simhash.num_buckets, known)

"""An exported fine ranker: its signatures, and the names of the fields that it attends to."""

from __future__ import annotations

import json

from features import storage
from features.arrow import one_chunk, read_parquet
from features.items.signatures import SIGNATURES_FILE
from serving.saved.saved_model import SavedModel
from serving.signature_specs import ATTENTION_FIELDS_FILE, SERVING_DEFAULT, SIGNATURES_FOLDER


class SavedRanker(SavedModel):
    """An exported ranker, opened; a coarse one too, which has the same signatures.

    Its signatures are `serving_default` (one request, from `single_request_tensors`) and `rank_requests` (B requests,
    from `tensors_from_table`), both to `{"score": [N], "logit": [N]}` float32. Some have `explain`, the inputs of
    `serving_default` to `{"attention": [N, layers, H, M, M]}`, and `encode_behaviors`, T behaviours for BSE to
    `{"embedding": [T, d], "signature": [T, G], "known": [T]}`.

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

"""An exported fine ranker: its signatures, and the names of the fields that it attends to."""

from __future__ import annotations

import json

from features import storage
from serving.saved.saved_model import SavedModel
from serving.signature_specs import ATTENTION_FIELDS_FILE, SERVING_DEFAULT


class SavedRanker(SavedModel):
    """An exported ranker, opened; a coarse one too, which has the same signatures.

    Its signatures are `serving_default` (one request, from `single_request_tensors`) and `rank_requests` (B requests,
    from `tensors_from_table`), both to `{"score": [N], "logit": [N]}` float32. Some have `explain`, the inputs of
    `serving_default` to `{"attention": [N, layers, H, M, M]}`, and `encode_behaviors`, T behaviours for BSE to
    `{"embedding": [T, d], "signature": [T, G], "known": [T]}`.

    Attributes:
      attention_fields: names of the fields of `explain`, in its order; None: it has no such signature.
    """

    kind, signature = "ranker", SERVING_DEFAULT

    def __init__(self, model_dir: storage.AnyPath):
        super().__init__(model_dir)
        fields = storage.join(self.directory, ATTENTION_FIELDS_FILE)
        self.attention_fields = tuple(json.loads(storage.read_bytes(fields))) if storage.is_file(fields) else None

"""How batches are made."""

from __future__ import annotations

from pydantic import Field

from features.config import Strict


class InputConfig(Strict):
    """How batches are made.

    Attributes:
      batch_size: candidates a batch, reached at the first request boundary at or past it.
      buffer_shards: shards that are pooled and shuffled together (and interleaved thereby).
      prefetch: batches made ahead.
    """

    batch_size: int = Field(1024, ge=1)
    buffer_shards: int = Field(4, ge=1)
    prefetch: int = Field(8, ge=1)

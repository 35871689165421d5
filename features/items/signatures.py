"""The signatures of a catalogue's items: hashed once from item embeddings, then a table look-up.

Embeddings of a trained tower often lie in a cone: they share a large mean, every hyperplane has most of them on one
side, and a hash that puts most items in few buckets is no more than mean pooling. Subtracting the mean first turns the
hyperplanes through the middle of the items. `occupancy_entropy` says how evenly the buckets are filled.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pyarrow as pa

from features import storage
from features.arrow import list_lengths, lists_of, one_chunk, read_parquet, to_numpy, write_parquet
from features.errors import InputError
from features.items.catalogue import item_rows
from features.items.config import SimHashConfig
from features.items.simhash import SimHash
from features.storage import AnyPath

SIGNATURES_FILE = "signatures.parquet"
SIMHASH_FILE = "simhash.json"

CONE_EXCESS = 1.25
"""Two random items sharing a bucket this many times as often as independent ones lie in a cone: see `in_a_cone`."""


@dataclass(frozen=True, eq=False)
class ItemSignatures:
    """Signatures in the order of the catalogue.

    Attributes:
      item_ids: [n] string or int64, raw.
      signatures: [n, G] uint8.
      config: the hash.
      dim: entries of the embeddings that were hashed.
      center: [dim] float32 that is subtracted from an embedding before it is hashed; None: nothing is.
    """

    item_ids: pa.Array
    signatures: np.ndarray
    config: SimHashConfig
    dim: int
    center: np.ndarray | None = None

    def sign(self, embeddings: np.ndarray) -> np.ndarray:
        """Signs further items as those of the catalogue were: [n, dim] float32 to [n, G] uint8."""
        return _sign(np.asarray(embeddings, np.float32), self.config, self.dim, self.center)

    def of(self, item_ids: pa.Array) -> np.ndarray:
        """Returns signatures by id: [N] ids of the type of `item_ids` to [N, G] int32, -1 where there is none.

        Raises:
          InputError: if the types differ.
        """
        rows = item_rows(self.item_ids, item_ids)
        found = self.table()[rows].astype(np.int32)
        return np.where(rows[:, np.newaxis] > 0, found, -1)

    def extended(self, item_ids: pa.Array, embeddings: np.ndarray) -> ItemSignatures:
        """Signs items by the same hash and centre, after those that it holds.

        An item that it holds keeps its signature, whatever its embedding is now: bucket tables were summed by it.

        Args:
          item_ids: [n] raw ids of the type of `item_ids`, each once.
          embeddings: [n, dim] float32, in the same order.

        Raises:
          InputError: if an id is missing or stands twice, or the types differ.
        """
        if item_ids.null_count or len(item_ids.unique()) != len(item_ids):
            raise InputError("items that are to be signed need an `item_id` each, and each its own.")
        new = item_rows(self.item_ids, item_ids) == 0
        signed = self.sign(np.asarray(embeddings)[new])
        ids = pa.concat_arrays([self.item_ids, item_ids.filter(pa.array(new))])
        return dataclasses.replace(self, item_ids=ids, signatures=np.concatenate([self.signatures, signed]))

    def table(self) -> np.ndarray:
        """Returns [n + 1, G] uint8 for a look-up by item row: row 0, which stands for no item, holds zeros."""
        none = np.zeros((1, self.config.num_groups), np.uint8)
        return np.concatenate([none, self.signatures])

    def occupancy_entropy(self) -> float:
        """Returns the entropy in bits of the share of items in each bucket, mean over groups.

        tau: all buckets are equally full. 0: all items share one bucket, and attention is mean pooling.
        """
        if not len(self.signatures):
            return 0.0
        buckets = self.config.num_buckets
        groups = np.arange(self.config.num_groups)
        cells = (self.signatures + groups * buckets).ravel()
        counts = np.bincount(cells, minlength=len(groups) * buckets).reshape(len(groups), buckets)
        share = counts / len(self.signatures)
        logs = np.log2(share, out=np.zeros_like(share), where=share > 0)
        return float(-(share * logs).sum(axis=1).mean())

    def save(self, directory: AnyPath) -> None:
        """Writes `signatures.parquet` (`item_id`, `signature`) and `simhash.json`."""
        splits = np.arange(len(self.signatures) + 1) * self.config.num_groups
        table = pa.table({"item_id": self.item_ids, "signature": lists_of(self.signatures.ravel(), splits)})
        write_parquet(table, storage.join(directory, SIGNATURES_FILE))
        # float32 values have exact decimal forms, so the centre comes back bit by bit.
        center = None if self.center is None else [float(value) for value in self.center]
        simhash = {"config": self.config.model_dump(), "dim": self.dim, "center": center}
        storage.write_text(storage.join(directory, SIMHASH_FILE), json.dumps(simhash, indent=1))

    @classmethod
    def load(cls, directory: AnyPath) -> ItemSignatures:
        """Reads what `save` wrote.

        Raises:
          FileNotFoundError: if a file is missing.
          InputError: if the signatures do not fit the hash.
        """
        written = json.loads(storage.read_text(storage.join(directory, SIMHASH_FILE)))
        config = SimHashConfig.model_validate(written["config"])
        table = read_parquet(storage.join(directory, SIGNATURES_FILE))
        ids, lists = (one_chunk(table[name]) for name in ("item_id", "signature"))
        flat = to_numpy(lists.flatten())
        groups = config.num_groups
        uniform = np.array_equal(list_lengths(lists), np.full(len(ids), groups))
        if not uniform or flat.max(initial=0) >= config.num_buckets:
            raise InputError(
                f"{directory}: the signatures do not fit `{SIMHASH_FILE}` ({groups} of {config.bits_per_signature} "
                "bits). Sign the items again."
            )
        center = None if written["center"] is None else np.array(written["center"], np.float32)
        return cls(ids, flat.reshape(len(ids), groups), config, written["dim"], center)


def sign_items(
    item_ids: pa.Array,
    embeddings: np.ndarray,
    config: SimHashConfig | None = None,
    center: bool | Literal["auto"] = "auto",
) -> ItemSignatures:
    """Hashes the embeddings of a catalogue.

    Args:
      item_ids: [n] raw ids.
      embeddings: [n, dim] float32, in the same order.
      config: the hash.
      center: subtract the mean embedding first; "auto": if they lie in a cone (`in_a_cone`).

    Raises:
      ValueError: if the lengths differ, or an embedding is not finite.
    """
    config = config or SimHashConfig()
    embeddings = np.asarray(embeddings, np.float32)
    if embeddings.ndim != 2 or len(embeddings) != len(item_ids):
        raise ValueError(
            f"`embeddings` must be [n, dim], one row for each of {len(item_ids)} `item_ids`. Received: "
            f"{list(embeddings.shape)}"
        )
    if not np.isfinite(embeddings).all():
        raise ValueError("`embeddings` must be finite. Received: a row with NaN or infinity.")
    if center == "auto":
        center = in_a_cone(embeddings, config.bits_per_signature)
    mean = embeddings.mean(axis=0, dtype=np.float64).astype(np.float32) if center and len(embeddings) else None
    dim = embeddings.shape[1]
    item_ids = one_chunk(item_ids)
    return ItemSignatures(item_ids, _sign(embeddings, config, dim, mean), config, dim, mean)


def mean_cosine(embeddings: np.ndarray) -> float:
    """Returns the mean cosine of two different rows, from the length R of the mean unit row: (n R² - 1) / (n - 1)."""
    n = len(embeddings)
    if n < 2:
        return 0.0
    # Summed in float64 without a copy of the catalogue in float64.
    lengths = np.sqrt(np.einsum("nd,nd->n", embeddings, embeddings, dtype=np.float64))
    weights = np.divide(1, lengths, out=np.zeros(n), where=lengths > 0)
    mean = np.einsum("n,nd->d", weights, embeddings, dtype=np.float64) / n
    return float((n * mean @ mean - 1) / (n - 1))


def in_a_cone(embeddings: np.ndarray, bits_per_signature: int) -> bool:
    """Whether the embeddings share so much of their direction that their hash blurs.

    Vectors at the mean cosine c of two items share a bucket with probability (1 - arccos(c) / pi) ** tau, independent
    ones with 2 ** -tau. Where the first is over a quarter more than the second (tau = 3: c > 0.12, a mean unit row
    longer than 0.35), a bucket holds noticeably more of what a candidate has nothing to do with. The mean cosine is
    corrected for the number of items, so that a small catalogue without a cone is not taken for one.
    """
    agreement = 2 * (1 - np.arccos(np.clip(mean_cosine(embeddings), -1, 1)) / np.pi)
    return bool(agreement**bits_per_signature > CONE_EXCESS)


def _sign(embeddings: np.ndarray, config: SimHashConfig, dim: int, center: np.ndarray | None) -> np.ndarray:
    return SimHash(dim, config).signatures(embeddings if center is None else embeddings - center)

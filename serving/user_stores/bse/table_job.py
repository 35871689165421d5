"""The BSE batch job: every user's bucket table for an exported ranker, from the behaviour log into the store.

Behaviours are embedded by the ranker's own signature `encode_behaviors`, so a table holds exactly what the ranker would
compute from the long history itself. `features/histories/build_tables.py` does the work on the shards.
"""

from __future__ import annotations

import datetime
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa

from features import storage
from features.errors import InputError, NotFoundError
from features.histories.build_tables import build_tables
from features.histories.time_gaps import gap_buckets
from features.histories.windows import TIMESTAMP
from features.spec import HistorySpec
from serving.requests.tensors import feature_tensor, value_tensors
from serving.saved.saved_model import SavedModel, resolve_version
from serving.saved.signature_specs import ENCODE_BEHAVIORS, TIME, HistoryInputs
from serving.user_stores.bse.build import StoreBuilder
from serving.user_stores.bse.item_signatures import NewItemSignatures
from serving.user_stores.bse.record import Precision, RecordLayout
from serving.user_stores.bse.store import BseStore
from serving.user_stores.builds import make_current
from serving.user_stores.built_from import end_of_log, fingerprint
from serving.user_stores.environment import StoreError

#: Part of what a build depends on: one without windows is no match for one that has them.
STATES = "windows"


class _SavedEncoder(SavedModel):
    """The part of a ranker that BSE runs."""

    kind, signature = "ranker of long histories", ENCODE_BEHAVIORS


class SavedModelBehaviorEncoder:
    """Embeds and signs behaviours by an exported ranker (`features.histories.build_tables.BehaviorEncoder`).

    It pickles as its directory; the SavedModel is loaded when it first encodes.

    Attributes:
      directory: the SavedModel.
      version: of the ranker's embeddings, signatures and windows.
      history: history features that the ranker embeds, lengths of the windows.
      simhash: the hash.
      dim: width of an embedding.
    """

    def __init__(self, model_dir: storage.AnyPath, signatures: storage.AnyPath | None = None):
        """Raises NotFoundError if there is no SavedModel, InputError if its ranker takes no bucket tables.

        Args:
          model_dir: where the ranker is.
          signatures: where `clickmill bse sign` left those of items that it was not trained with, whose behaviours
            would have none.
        """
        self.directory = resolve_version(model_dir)
        inputs = HistoryInputs.load(self.directory)
        if inputs is None or inputs.simhash is None:
            raise InputError(
                f"{self.directory}: the ranker takes no bucket tables. Give it a long history by SDIM and export it "
                "again."
            )
        self.version = inputs.version
        self.simhash = inputs.simhash
        self.dim = inputs.dim
        self.new_items = None if signatures is None else NewItemSignatures.load(signatures, self.directory)
        self.history = HistorySpec(
            features=inputs.long_features, short_length=inputs.short_length, long_length=inputs.long_length
        )

    def __getstate__(self) -> dict:
        return {name: value for name, value in self.__dict__.items() if name != "_ranker"}

    @cached_property
    def _ranker(self) -> _SavedEncoder:
        return _SavedEncoder(self.directory)

    @property
    def gap_weights(self) -> np.ndarray | None:
        """What a behaviour of an age counts in the ranker's tables; None: all count alike."""
        return self._ranker.gap_weights

    def encode(self, behaviors: pa.Table) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Encodes T behaviours given by their raw history features.

        Returns:
          Embeddings [T, d] float32, signatures [T, G] int32, and [T] bool: whether it has a signature.
        """
        spec = self._ranker.spec
        tensors: dict[str, np.ndarray] = {}
        for name in self.history.features:
            tensors |= value_tensors(spec[name], behaviors[name].combine_chunks())
        outputs = self._ranker.run(ENCODE_BEHAVIORS, tensors)
        signatures, known = outputs["signature"], outputs["known"]
        if self.new_items is not None:
            signatures, known = self.new_items.complete(tensors["item_id"], signatures, known)
        return outputs["embedding"], signatures, known


def encode_behavior(
    encoder: SavedModelBehaviorEncoder, values: dict, as_of: int | None = None
) -> tuple[np.ndarray, np.ndarray] | None:
    """Encodes one behaviour to what a table adds up, [d], and its signature [G]; None: no signature.

    Args:
      encoder: of the store's ranker.
      values: `{history feature: raw value, or a list of them}`, and its `timestamp` where it is known.
      as_of: the time of which the store's tables are (`BseStore.header`): what enters a table is as old as it was then.

    Raises:
      InputError: if a feature is missing, unknown or does not fit its kind.
    """
    names = encoder.history.features
    if sorted(set(values) - {TIMESTAMP}) != sorted(names):
        raise InputError(
            f"a behaviour must hold {', '.join(names)}, and may hold its {TIMESTAMP}. "
            f"Received: {', '.join(sorted(values)) or 'nothing'}"
        )
    try:
        table = pa.table({name: pa.array([values[name]]) for name in names})
        time = feature_tensor(TIME, pa.array([values.get(TIMESTAMP)]))
    except (pa.ArrowException, OverflowError) as error:
        raise InputError(f"a behaviour holds raw values of its features: {error}") from error
    embeddings, signatures, known = encoder.encode(table)
    if encoder.gap_weights is not None and as_of is not None:
        embeddings = embeddings * encoder.gap_weights[gap_buckets(as_of, time), np.newaxis]
    return (embeddings[0], signatures[0]) if known[0] else None


def build_behavior_tables(
    model_dir: storage.AnyPath,
    behaviors_dir: storage.AnyPath,
    store_dir: str | Path,
    *,
    precision: Precision = "fp32",
    as_of: int | None = None,
    signatures: storage.AnyPath | None = None,
    root=None,
    force: bool = False,
) -> dict:
    """Builds the tables of all users and publishes them as the store's current version.

    The window is that of a request at `as_of`: all behaviours before it but the last `short_length`, at most
    `long_length` of them. A ranker with recency gives them the age that they have then. If the store holds this ranker
    version, built from the same files as of the same time in the same precision, nothing is done.

    Args:
      model_dir: the exported ranker, one version or their base directory.
      behaviors_dir: the raw behaviour log, `behaviors-*.parquet`.
      store_dir: the store with all its versions.
      precision: of the sums in the store.
      as_of: UTC milliseconds; by default just after the newest behaviour of the log.
      signatures: of items that the ranker was not trained with, as of `SavedModelBehaviorEncoder`.
      root: a Beam pipeline whose runner and options are taken; in-process by default.
      force: build even if nothing has changed.

    Returns:
      `{"built": bool, "version", "precision", "as_of", "users", "users_without", "behaviors", "unknown_behaviors",
      "items", "record_bytes", "payload_bytes"}`; the counts are those of the build that the store holds.

    Raises:
      NotFoundError: if there is no ranker or no behaviour log.
      InputError: if the ranker takes no tables, or the log does not fit it.
      StoreError: if another process builds here.
    """
    encoder = SavedModelBehaviorEncoder(model_dir, signatures)
    files = storage.entries(behaviors_dir, "behaviors-*.parquet")
    if not files:
        raise NotFoundError(f"`behaviors_dir` holds no behaviors-*.parquet: ingest first. Received: {behaviors_dir}")
    config = encoder.simhash
    layout = RecordLayout(config.num_groups, config.num_buckets, encoder.dim, precision)
    as_of = end_of_log(files) if as_of is None else as_of
    new_items = "" if encoder.new_items is None else encoder.new_items.fingerprint
    source = fingerprint(files, [encoder.version, precision, as_of, new_items, STATES])
    found = None if force else _built_from(store_dir, encoder.version, source)
    if found is not None:
        make_current(store_dir, encoder.version)
        return {"built": False, **found}
    with StoreBuilder(store_dir, encoder.version, layout, encoder.history) as builder:
        counts = build_tables(files, encoder, builder.writer, root, as_of)
        facts = {
            "version": encoder.version,
            "precision": precision,
            "as_of": as_of,
            **counts,
            "record_bytes": layout.num_bytes,
            "payload_bytes": layout.num_bytes * counts["users"],
        }
        builder.publish(
            {
                "source": source,
                "as_of": as_of,
                "built_at": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
                "simhash": config.model_dump(),
                "facts": facts,
            }
        )
    return {"built": True, **facts}


def _built_from(store_dir: str | Path, version: str, source: str) -> dict | None:
    """The facts of the store's build of a version, if it was made from `source`."""
    try:
        with BseStore(store_dir, version) as store:
            return store.header["facts"] if store.header.get("source") == source else None
    except (FileNotFoundError, StoreError):
        return None

"""Applies a fitted encoding to whole files: raw examples, behaviours and catalogue in, ids and numbers out.

The same files, rows and order; features under their names, keys and labels under a `_` (`features.encoding.columns`).
A file is read, encoded and written batch by batch.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Literal

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from features import storage
from features.arrow import list_lengths, one_chunk, open_parquet
from features.beam_runner import make_pipeline
from features.encoding.columns import ITEM_ROW, KEYS, encoded_column, key_column
from features.encoding.feature_encoding import FeatureEncoding
from features.errors import InputError, NotFoundError
from features.examples.shards import BEHAVIORS_DIR
from features.items.catalogue import CATALOGUE_FILE, has_catalogue, item_row_lists, read_catalogue
from features.storage import AnyPath

FileKind = Literal["requests", "behaviors", "catalogue"]
_BATCH_REQUESTS = 16_384
_BATCH_USERS = 4_096
_BATCH_ITEMS = 65_536


@dataclasses.dataclass(eq=False, repr=False)
class EncodeExamples(beam.PTransform):
    """Encodes every split of raw examples, their catalogue and the behaviour log; applied to a pipeline.

    It gives pairs of a written path, relative to `output_dir`, and its rows.

    Attributes:
      examples_dir: raw examples, `Split-*/requests-*.parquet` and, if there was an items table,
        `catalogue/items.parquet`; the files must exist when the transform is applied, else it raises `NotFoundError`.
        A file that does not fit the encoding's spec raises `InputError` while the pipeline runs.
      behaviors_dir: the raw behaviour log, `behaviors-*.parquet`, or None.
      encoding_dir: what `FitEncoding` wrote.
      output_dir: gets `Split-*/requests-*.parquet`, `behaviors/behaviors-*.parquet` and `catalogue/items.parquet`.
    """

    examples_dir: AnyPath
    behaviors_dir: AnyPath | None
    encoding_dir: AnyPath
    output_dir: AnyPath

    def expand(self, root: beam.pvalue.PBegin) -> beam.PCollection:
        splits = storage.entries(self.examples_dir, "Split-*")
        requests = [file for split in splits for file in storage.entries(split, "*.parquet")]
        if not requests:
            raise NotFoundError(
                f"`examples_dir` holds no Split-*/*.parquet: ingest logs first. Received: {self.examples_dir}"
            )
        behaviors = [] if self.behaviors_dir is None else storage.entries(self.behaviors_dir, "*.parquet")
        jobs: list[tuple[FileKind, str, str]] = [
            ("requests", file, f"{storage.name(storage.parent(file))}/{storage.name(file)}") for file in requests
        ]
        jobs += [("behaviors", file, f"{BEHAVIORS_DIR}/{storage.name(file)}") for file in behaviors]
        if has_catalogue(self.examples_dir):
            jobs.append(("catalogue", storage.join(self.examples_dir, CATALOGUE_FILE), CATALOGUE_FILE))
        folders = (storage.join(path) for path in (self.examples_dir, self.encoding_dir, self.output_dir))
        return root | "Files" >> beam.Create(jobs, reshuffle=False) | "EncodeFile" >> beam.ParDo(_EncodeFile(*folders))


def encode_examples(
    examples_dir: AnyPath, behaviors_dir: AnyPath | None, encoding_dir: AnyPath, output_dir: AnyPath
) -> None:
    """Encodes examples in this process; see `EncodeExamples`."""
    with make_pipeline() as root:
        _ = root | EncodeExamples(examples_dir, behaviors_dir, encoding_dir, output_dir)


def encode_requests(
    encoding: FeatureEncoding, raw: pa.Table, catalogue_ids: pa.Array | pa.ChunkedArray | None = None
) -> pa.Table:
    """Encodes raw request rows, [B] to [B].

    Args:
      encoding: the fitted encoding.
      raw: rows of raw examples.
      catalogue_ids: raw ids of the catalogue; with them the rows get `_item_row`, see `features.items.catalogue`.

    Raises:
      InputError: if a feature's column is absent, does not fit its kind, or disagrees with `item_id` on how many
        candidates a request has.
    """
    columns: dict[str, pa.Array] = {}
    for name in KEYS:
        if name in raw.column_names:
            columns[key_column(name)] = raw[name]
    features = {feature.name for feature in encoding.spec.features}
    for name in raw.column_names:
        if name not in features and name not in KEYS:
            columns[encoded_column(name, raw.column_names)] = raw[name]
    item_ids = one_chunk(raw["item_id"])
    sizes = list_lengths(item_ids)
    for feature in encoding.spec.features:
        if feature.name not in raw.column_names:
            raise InputError(f"the examples have no column `{feature.name}`: ingest with this spec again.")
        encoded = encoding.encode(feature.name, raw[feature.name])
        if feature.scope == "candidate" and not np.array_equal(list_lengths(encoded), sizes):
            raise InputError(f"feature `{feature.name}`: its lists and those of `item_id` differ in length.")
        columns[feature.name] = encoded
    if catalogue_ids is not None:
        columns[ITEM_ROW] = item_row_lists(catalogue_ids, item_ids)
    return pa.table(columns)


def encode_behaviors(
    encoding: FeatureEncoding, raw: pa.Table, catalogue_ids: pa.Array | pa.ChunkedArray | None = None
) -> pa.Table:
    """Encodes rows of the behaviour log, [U] to [U]: the history features, `_user_id`, `_timestamp`, `_item_row`."""
    columns = {key_column(name): raw[name] for name in ("user_id", "timestamp")}
    if catalogue_ids is not None:
        columns[ITEM_ROW] = item_row_lists(catalogue_ids, one_chunk(raw["item_id"]))
    for name in encoding.spec.history.features if encoding.spec.history else ():
        if name not in raw.column_names:
            raise InputError(f"the behaviour log has no column `{name}`: ingest with this spec again.")
        columns[name] = encoding.encode(name, raw[name])
    return pa.table(columns)


def encode_catalogue(encoding: FeatureEncoding, raw: pa.Table) -> pa.Table:
    """Encodes rows of the catalogue, [n] to [n]: `_item_id` (raw) and every feature of `items`."""
    columns = {key_column("item_id"): raw["item_id"]}
    for feature in encoding.spec.of_table("items"):
        columns[feature.name] = encoding.encode(feature.name, raw[feature.name])
    return pa.table(columns)


@dataclasses.dataclass(eq=False, repr=False)
class _EncodeFile(beam.DoFn):
    examples_dir: str
    encoding_dir: str
    output_dir: str

    def setup(self) -> None:
        self._encoding = FeatureEncoding.load(self.encoding_dir)
        self._catalogue_ids = None
        if has_catalogue(self.examples_dir):
            self._catalogue_ids = one_chunk(read_catalogue(self.examples_dir)["item_id"])

    def process(self, job: tuple[FileKind, str, str]) -> Iterator[tuple[str, int]]:
        kind, source, name = job
        target = storage.join(self.output_dir, name)
        yield name, encode_file(self._encoding, source, target, kind, self._catalogue_ids)


def encode_file(
    encoding: FeatureEncoding,
    source: str,
    target: str,
    kind: FileKind = "requests",
    catalogue_ids: pa.Array | pa.ChunkedArray | None = None,
) -> int:
    """Encodes one raw Parquet file into another; returns the rows. An interrupted run leaves no file at `target`."""

    def encode(raw: pa.Table) -> pa.Table:
        if kind == "catalogue":
            return encode_catalogue(encoding, raw)
        return (encode_behaviors if kind == "behaviors" else encode_requests)(encoding, raw, catalogue_ids)

    size = {"requests": _BATCH_REQUESTS, "behaviors": _BATCH_USERS, "catalogue": _BATCH_ITEMS}[kind]
    rows = 0
    with open_parquet(source) as file, storage.aside(target) as local:
        # A table of no rows gives the schema, and stands for a file of no rows.
        first = encode(file.schema_arrow.empty_table())
        with pq.ParquetWriter(local, first.schema, compression="zstd") as writer:
            for batch in file.iter_batches(size):
                encoded = encode(pa.Table.from_batches([batch]))
                writer.write_table(encoded)
                rows += encoded.num_rows
    return rows

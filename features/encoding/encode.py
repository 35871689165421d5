"""Applies a fitted encoding to whole files: raw examples, behaviours and catalogue in, ids and numbers out.

The same files, rows and order; features under their names, keys and labels under a `_` (docs/data_formats.md). A file
is read, encoded and written batch by batch, aside, then renamed.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import apache_beam as beam
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from features.encoding.feature_encoding import FeatureEncoding
from features.items.catalogue import (
    CATALOGUE_FILE,
    has_catalogue,
    item_row_lists,
    read_catalogue,
)

FileKind = Literal["requests", "behaviors", "catalogue"]
KEYS = (
    "request_id",
    "user_id",
    "item_id",
    "timestamp",
    "history_end",
    "user_index",
    "position",
    "propensity",
)
BEHAVIORS_DIR = "behaviors"
_BATCH_REQUESTS = 16_384
_BATCH_USERS = 4_096
_BATCH_ITEMS = 65_536


def encode_examples(
    root,
    examples_dir: str | Path,
    behaviors_dir: str | Path | None,
    encoding_dir: str | Path,
    output_dir: str | Path,
):
    """Adds to a Beam pipeline: encode every split of `examples_dir`, its catalogue and the behaviour log.

    Args:
      root: a pipeline or its beginning; see `features.beam_runner.make_pipeline`.
      examples_dir: raw examples, `Split-*/requests-*.parquet` and, if there was an items table,
        `catalogue/items.parquet`; the files must exist when the pipeline is built.
      behaviors_dir: the raw behaviour log, `behaviors-*.parquet`, or None.
      encoding_dir: what `features.encoding.fit.fit_encoding` wrote.
      output_dir: gets `Split-*/requests-*.parquet`, `behaviors/behaviors-*.parquet` and `catalogue/items.parquet`.

    Returns:
      A PCollection of (written path relative to `output_dir`, rows).

    Raises:
      FileNotFoundError: if there are no examples.
      ValueError: while running, if a file does not fit the encoding's spec.
    """
    jobs: list[tuple[FileKind, str, str]] = [
        ("requests", str(path), str(Path(output_dir, path.parent.name, path.name)))
        for path in sorted(Path(examples_dir).glob("Split-*/*.parquet"))
    ]
    if not jobs:
        raise FileNotFoundError(
            f"`examples_dir` holds no Split-*/*.parquet: ingest logs first. Received: {examples_dir}"
        )
    behaviors = sorted(Path(behaviors_dir).glob("*.parquet")) if behaviors_dir is not None else []
    jobs += [("behaviors", str(path), str(Path(output_dir, BEHAVIORS_DIR, path.name))) for path in behaviors]
    if has_catalogue(examples_dir):
        jobs.append(("catalogue", str(Path(examples_dir, CATALOGUE_FILE)), str(Path(output_dir, CATALOGUE_FILE))))
    return (
        root
        | "Files" >> beam.Create(jobs, reshuffle=False)
        | "EncodeFile" >> beam.ParDo(_EncodeFile(str(examples_dir), str(encoding_dir), str(output_dir)))
    )


def encode_requests(
    encoding: FeatureEncoding, raw: pa.Table, catalogue_ids: pa.Array | pa.ChunkedArray | None = None
) -> pa.Table:
    """Encodes raw request rows, [B] to [B].

    Args:
      encoding: the fitted encoding.
      raw: rows of raw examples.
      catalogue_ids: raw ids of the catalogue; with them the rows get `_item_row`, see `features.items.catalogue`.

    Raises:
      ValueError: if a feature's column is absent, does not fit its kind, or disagrees with `item_id` on how many
        candidates a request has.
    """
    columns: dict[str, pa.Array] = {}
    for name in KEYS:
        if name in raw.column_names:
            columns[f"_{name}"] = raw[name]
    features = {feature.name for feature in encoding.spec.features}
    for name in raw.column_names:
        if name not in features and name not in KEYS:
            columns[f"_label_{name}"] = raw[name]
    sizes = pc.list_value_length(raw["item_id"]).combine_chunks()
    for feature in encoding.spec.features:
        if feature.name not in raw.column_names:
            raise ValueError(f"the examples have no column `{feature.name}`: ingest with this spec again.")
        encoded = encoding.encode(feature.name, raw[feature.name])
        if feature.scope == "candidate" and not pc.list_value_length(encoded).equals(sizes):
            raise ValueError(f"feature `{feature.name}`: its lists and those of `item_id` differ in length.")
        columns[feature.name] = encoded
    if catalogue_ids is not None:
        columns["_item_row"] = item_row_lists(catalogue_ids, raw["item_id"].combine_chunks())
    return pa.table(columns)


def encode_behaviors(
    encoding: FeatureEncoding, raw: pa.Table, catalogue_ids: pa.Array | pa.ChunkedArray | None = None
) -> pa.Table:
    """Encodes rows of the behaviour log, [U] to [U]: the history features, `_user_id`, `_timestamp`, `_item_row`."""
    columns = {"_user_id": raw["user_id"], "_timestamp": raw["timestamp"]}
    if catalogue_ids is not None:
        columns["_item_row"] = item_row_lists(catalogue_ids, raw["item_id"].combine_chunks())
    for name in encoding.spec.history.features if encoding.spec.history else ():
        if name not in raw.column_names:
            raise ValueError(f"the behaviour log has no column `{name}`: ingest with this spec again.")
        columns[name] = encoding.encode(name, raw[name])
    return pa.table(columns)


def encode_catalogue(encoding: FeatureEncoding, raw: pa.Table) -> pa.Table:
    """Encodes rows of the catalogue, [n] to [n]: `_item_id` (raw) and every feature of `items`."""
    columns = {"_item_id": raw["item_id"]}
    for feature in encoding.spec.of_table("items"):
        columns[feature.name] = encoding.encode(feature.name, raw[feature.name])
    return pa.table(columns)


class _EncodeFile(beam.DoFn):
    def __init__(self, examples_dir: str, encoding_dir: str, output_dir: str):
        self._examples_dir = examples_dir
        self._encoding_dir = encoding_dir
        self._output_dir = output_dir

    def setup(self):
        self._encoding = FeatureEncoding.load(self._encoding_dir)
        self._catalogue_ids = None
        if has_catalogue(self._examples_dir):
            self._catalogue_ids = read_catalogue(self._examples_dir)["item_id"].combine_chunks()

    def process(self, job: tuple[FileKind, str, str]) -> Iterator[tuple[str, int]]:
        kind, source, target = job
        rows = encode_file(self._encoding, source, target, kind, self._catalogue_ids)
        yield os.path.relpath(target, self._output_dir), rows


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
    Path(target).parent.mkdir(parents=True, exist_ok=True)
    aside = f"{target}.tmp"
    rows = 0
    with pq.ParquetFile(source) as file:
        # A table of no rows gives the schema, and stands for a file of no rows.
        first = encode(file.schema_arrow.empty_table())
        with pq.ParquetWriter(aside, first.schema, compression="zstd") as writer:
            for batch in file.iter_batches(size):
                encoded = encode(pa.Table.from_batches([batch]))
                writer.write_table(encoded)
                rows += encoded.num_rows
    os.replace(aside, target)
    return rows

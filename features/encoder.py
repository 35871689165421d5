"""Applies a fitted encoding to whole files: raw examples and behaviours in, ids and numbers out.

The same files, rows and order; features under their names, keys and labels under a `_` (docs/data_formats.md). A file
is read, encoded and written batch by batch, aside, then renamed.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import apache_beam as beam
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from features.encoding import FeatureEncoding

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


def encode_examples(
    root,
    examples_dir: str | Path,
    behaviors_dir: str | Path | None,
    encoding_dir: str | Path,
    output_dir: str | Path,
):
    """Adds to a Beam pipeline: encode every split of `examples_dir`, and the behaviour log.

    Args:
      root: a pipeline or its beginning; see `features.beam_runner.make_pipeline`.
      examples_dir: raw examples, `Split-*/requests-*.parquet`; the files must exist when the pipeline is built.
      behaviors_dir: the raw behaviour log, `behaviors-*.parquet`, or None.
      encoding_dir: what `features.vocabulary.fit_encoding` wrote.
      output_dir: gets `Split-*/requests-*.parquet` and `behaviors/behaviors-*.parquet`.

    Returns:
      A PCollection of (written path relative to `output_dir`, rows).

    Raises:
      FileNotFoundError: if there are no examples.
      ValueError: while running, if a file does not fit the encoding's spec.
    """
    jobs = [
        (str(path), str(Path(output_dir, path.parent.name, path.name)))
        for path in sorted(Path(examples_dir).glob("Split-*/*.parquet"))
    ]
    if not jobs:
        raise FileNotFoundError(
            f"`examples_dir` holds no Split-*/*.parquet: ingest logs first. Received: {examples_dir}"
        )
    behaviors = sorted(Path(behaviors_dir).glob("*.parquet")) if behaviors_dir is not None else []
    jobs += [(str(path), str(Path(output_dir, BEHAVIORS_DIR, path.name))) for path in behaviors]
    return (
        root
        | "Files" >> beam.Create(jobs, reshuffle=False)
        | "EncodeFile" >> beam.ParDo(_EncodeFile(str(encoding_dir), str(output_dir)))
    )


def encode_requests(encoding: FeatureEncoding, raw: pa.Table) -> pa.Table:
    """Encodes raw request rows, [B] to [B].

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
    return pa.table(columns)


def encode_behaviors(encoding: FeatureEncoding, raw: pa.Table) -> pa.Table:
    """Encodes rows of the behaviour log, [U] to [U]: the history features, `_user_id` and `_timestamp`."""
    columns = {"_user_id": raw["user_id"], "_timestamp": raw["timestamp"]}
    for name in encoding.spec.history.features if encoding.spec.history else ():
        if name not in raw.column_names:
            raise ValueError(f"the behaviour log has no column `{name}`: ingest with this spec again.")
        columns[name] = encoding.encode(name, raw[name])
    return pa.table(columns)


class _EncodeFile(beam.DoFn):
    def __init__(self, encoding_dir: str, output_dir: str):
        self._encoding_dir = encoding_dir
        self._output_dir = output_dir

    def setup(self):
        self._encoding = FeatureEncoding.load(self._encoding_dir)

    def process(self, job: tuple[str, str]) -> Iterator[tuple[str, int]]:
        source, target = job
        behaviors = Path(target).parent.name == BEHAVIORS_DIR
        rows = encode_file(self._encoding, source, target, behaviors=behaviors)
        yield os.path.relpath(target, self._output_dir), rows


def encode_file(encoding: FeatureEncoding, source: str, target: str, *, behaviors: bool) -> int:
    """Encodes one raw Parquet file into another; returns the rows. An interrupted run leaves no file at `target`."""
    encode, size = (encode_behaviors, _BATCH_USERS) if behaviors else (encode_requests, _BATCH_REQUESTS)
    Path(target).parent.mkdir(parents=True, exist_ok=True)
    aside = f"{target}.tmp"
    rows = 0
    with pq.ParquetFile(source) as file:
        # A table of no rows gives the schema, and stands for a file of no rows.
        first = encode(encoding, file.schema_arrow.empty_table())
        with pq.ParquetWriter(aside, first.schema, compression="zstd") as writer:
            for batch in file.iter_batches(size):
                encoded = encode(encoding, pa.Table.from_batches([batch]))
                writer.write_table(encoded)
                rows += encoded.num_rows
    os.replace(aside, target)
    return rows

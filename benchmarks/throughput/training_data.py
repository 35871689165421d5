"""Simulated rows for every side of the training benchmark: encoded requests, the same point-wise, and flat arrays."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

import clickmill as cm
from benchmarks.preparation import ingest_and_encode, log_tables

# Ten fields of one id each: what every side embeds in the same way. (DeepCTR keeps numbers out of the attention.)
SPEC = {
    "name": "training_benchmark",
    "embedding_dim": 16,
    "features": [
        {"name": "age_band", "table": "users"},
        {"name": "city", "table": "users"},
        {"name": "device", "table": "impressions"},
        {"name": "hour", "table": "impressions", "dtype": "int64"},
        {"name": "weekday", "table": "impressions", "dtype": "int64"},
        {"name": "item_id", "table": "items", "dtype": "int64", "vocabulary": {"min_count": 2, "oov_buckets": 8}},
        {"name": "category", "table": "items"},
        {"name": "subcategory", "table": "items"},
        {"name": "brand", "table": "items"},
        {"name": "price", "table": "items", "kind": "numeric", "transform": "bucketize", "num_buckets": 20},
    ],
}


HEAD = 10_240
"""Rows in `head.npz`, for a loader too slow for all of them."""


def prepare(work: Path, impressions: int) -> dict:
    """Simulates, ingests and encodes once a size.

    Returns:
      Paths `requests` and `pointwise` (encoded examples), `encoding`, `arrays` (.npz: one int64 array a field and
    `label`, one entry a candidate), `head` (its first rows), and `examples`, `requests_count`, `vocabulary_sizes`.
    """
    work = work / str(impressions)
    encoding_dir, requests = work / "encoding", work / "encoded"
    pointwise, arrays, done = work / "pointwise", work / "train.npz", work / "prepared.json"
    if not done.exists():
        spec = cm.FeatureSpec.model_validate(SPEC)
        tables = log_tables(work, {"impressions": impressions, "seed": 0})
        config = cm.IngestConfig.model_validate({"tables": tables, "split": {"by": "random", "test_fraction": 0.0}})
        ingest_and_encode(config, spec, work)
        counts = _export(requests, pointwise, arrays, spec)
        encoding = cm.FeatureEncoding.load(encoding_dir)
        sizes = {feature.name: encoding.vocabulary_size(feature.name) for feature in spec.features}
        done.write_text(json.dumps({**counts, "vocabulary_sizes": sizes}))
    paths = {"requests": requests, "pointwise": pointwise, "encoding": encoding_dir, "arrays": arrays}
    paths["head"] = arrays.with_name("head.npz")
    return {**{name: str(path) for name, path in paths.items()}, **json.loads(done.read_text())}


def _export(requests: Path, pointwise: Path, arrays: Path, spec) -> dict:
    parts, count = [], 0
    (pointwise / "Split-train").mkdir(parents=True, exist_ok=True)
    for path in sorted((requests / "Split-train").glob("*.parquet")):
        table = pq.read_table(path).combine_chunks()
        count += len(table)
        flat = _flatten(table)
        parts.append(flat)
        pq.write_table(_one_candidate_each(flat, table.schema), pointwise / "Split-train" / path.name)
    flat = pa.concat_tables(parts)
    columns = {feature.name: flat[feature.name].to_numpy().astype(np.int64) for feature in spec.features}
    label = flat[f"_label_{spec.label}"].to_numpy().astype(np.float32)
    np.savez(arrays, label=label, **columns)
    np.savez(
        arrays.with_name("head.npz"), **{name: values[:HEAD] for name, values in {**columns, "label": label}.items()}
    )
    return {"examples": len(flat), "requests_count": count}


def _flatten(table: pa.Table) -> pa.Table:
    """One row a candidate: lists are of candidates, everything else is the request's."""
    sizes = np.diff(table["_position"].combine_chunks().offsets.to_numpy())
    parent = pa.array(np.repeat(np.arange(len(table)), sizes))
    columns = {
        name: column.combine_chunks().flatten() if pa.types.is_list(column.type) else column.take(parent)
        for name, column in zip(table.column_names, table.columns, strict=True)
    }
    return pa.table(columns)


def _one_candidate_each(flat: pa.Table, schema: pa.Schema) -> pa.Table:
    offsets = pa.array(np.arange(len(flat) + 1, dtype=np.int32))
    columns = {
        field.name: pa.ListArray.from_arrays(offsets, flat[field.name].combine_chunks())
        if pa.types.is_list(field.type)
        else flat[field.name]
        for field in schema
    }
    return pa.table(columns)

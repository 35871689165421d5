"""A few raw requests that travel with the encoded examples: warm-up of the export, and the example of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from features.spec import FeatureSpec

#: In the artifact of the encoded examples.
RAW_SAMPLE_FILE = "raw_sample/requests.parquet"


def write_raw_sample(examples_dir: Path, requests: int, output: Path, split: str = "train") -> None:
    """Copies the first `requests` requests of a split of raw examples into one Parquet file; 0 writes nothing."""
    batches = read_requests(examples_dir, split, requests)
    if batches:
        output.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.Table.from_batches(batches), output, compression="zstd")


def read_requests(examples_dir: Path, split: str, requests: int) -> list[pa.RecordBatch]:
    """Reads the first `requests` requests of a split, as few batches as there are shards needed."""
    batches, missing = [], requests
    for path in sorted((examples_dir / f"Split-{split}").glob("requests-*.parquet")):
        if missing <= 0:
            break
        first = next(pq.ParquetFile(path).iter_batches(missing), None)
        if first is not None and first.num_rows:
            batches.append(first)
            missing -= first.num_rows
    return batches


def json_request(row: dict[str, Any], spec: FeatureSpec) -> dict[str, Any]:
    """Turns one raw request row (as Python values) into the JSON that `clickmill rank` reads."""
    users = {feature.name for feature in spec.of_table("users")}
    request = {feature.name: row[feature.name] for feature in spec.of_scope("request")}
    names = dict.fromkeys(["item_id", *(feature.name for feature in spec.of_scope("candidate"))])
    return {
        "request_id": row["request_id"],
        "timestamp": row["timestamp"],
        "user": {"user_id": row["user_id"]} | {name: value for name, value in request.items() if name in users},
        "context": {name: value for name, value in request.items() if name not in users},
        "candidates": [
            dict(zip(names, values, strict=True)) for values in zip(*(row[name] for name in names), strict=True)
        ],
    }

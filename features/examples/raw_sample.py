"""A few raw requests that travel with the encoded examples: warm-up of the export, and the example of a run."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from features import storage
from features.arrow import open_parquet, write_parquet
from features.histories.windows import TIMESTAMP, attach_histories, history_column, read_behaviors
from features.spec import FeatureSpec
from features.storage import AnyPath

#: In the artifact of the encoded examples.
RAW_SAMPLE_FILE = "raw_sample/requests.parquet"


def write_raw_sample(
    examples_dir: AnyPath,
    behaviors_dir: AnyPath,
    spec: FeatureSpec,
    requests: int,
    output: AnyPath,
    split: str = "train",
) -> None:
    """Copies the first `requests` requests of a split of raw examples into one Parquet file; 0 writes nothing."""
    tables = read_requests(examples_dir, behaviors_dir, spec, split, requests)
    if tables:
        write_parquet(pa.concat_tables(tables), output)


def read_requests(
    examples_dir: AnyPath, behaviors_dir: AnyPath, spec: FeatureSpec, split: str, requests: int
) -> list[pa.Table]:
    """Reads the first `requests` requests of a split, as few tables as there are shards needed.

    They stand on their own: where the spec has histories, the windows are written out (`features.histories.windows`).
    """
    tables, missing = [], requests
    for path in storage.entries(storage.join(examples_dir, f"Split-{split}"), "requests-*.parquet"):
        if missing <= 0:
            break
        with open_parquet(path) as file:
            first = next(file.iter_batches(missing), None)
        if first is not None and first.num_rows:
            table = pa.Table.from_batches([first])
            if spec.history is not None:
                table = attach_histories(table, read_behaviors(behaviors_dir, path, spec.history), spec.history)
            tables.append(table)
            missing -= first.num_rows
    return tables


def json_request(row: dict[str, Any], spec: FeatureSpec) -> dict[str, Any]:
    """Turns one raw request row (as Python values) into the JSON that `clickmill rank` reads, with its histories."""
    users = {"user_id", *(feature.name for feature in spec.of_table("users"))}
    request = {feature.name: row[feature.name] for feature in spec.of_scope("request")}
    names = dict.fromkeys(["item_id", *(feature.name for feature in spec.of_scope("candidate"))])
    histories = {}
    if spec.history and history_column("short", spec.history.features[0]) in row:
        columns = {
            name: [*row[history_column("long", name)], *row[history_column("short", name)]]
            for name in (*spec.history.features, TIMESTAMP)
        }
        histories["history"] = [
            dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)
        ]
    return {
        "request_id": row["request_id"],
        "timestamp": row["timestamp"],
        "user": {"user_id": row["user_id"]} | {name: value for name, value in request.items() if name in users},
        "context": {name: value for name, value in request.items() if name not in users},
        "candidates": [
            dict(zip(names, values, strict=True)) for values in zip(*(row[name] for name in names), strict=True)
        ],
        **histories,
    }

"""Small logs for the tests of LogIngest: write tables, run, read back."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import csv

from features.ingest.counts import IngestCounts
from features.ingest.ingest_logs import (
    IngestConfig,
    LogTables,
    SplitConfig,
    run_ingest,
)
from features.log_contract import BadRowsError, UntrainableLogError
from features.spec import FeatureSpec

T = 1_700_000_000_000
HOUR = 3_600_000

SPEC = FeatureSpec.model_validate(
    {
        "name": "case",
        "features": [
            {"name": "user_id", "table": "users"},
            {"name": "city", "table": "users"},
            {"name": "hour", "table": "impressions", "dtype": "int64"},
            {"name": "shelf", "table": "impressions", "scope": "candidate"},
            {"name": "item_id", "table": "items", "dtype": "int64"},
            {"name": "price", "table": "items", "kind": "numeric"},
            {"name": "tags", "table": "items", "kind": "multi_categorical"},
        ],
        "history": {"features": ["item_id", "tags"]},
    }
)


def impressions(rows: list[tuple], **more: list) -> pa.Table:
    """Rows of (request, time, user, item)."""
    names = ("request_id", "timestamp", "user_id", "item_id")
    columns = {name: [row[i] for row in rows] for i, name in enumerate(names)}
    columns |= {"hour": [7] * len(rows), "shelf": [f"s{i}" for i in range(len(rows))]} | more
    return pa.table(columns)


def clicks(rows: list[tuple], **more: list) -> pa.Table:
    """Rows of (request, item, time)."""
    names = ("request_id", "item_id", "timestamp")
    types = (pa.string(), pa.int64(), pa.int64())
    columns = {name: pa.array([row[i] for row in rows], types[i]) for i, name in enumerate(names)}
    return pa.table(columns | more)


ITEMS = pa.table(
    {
        "item_id": [1, 2, 3, 4],
        "price": [1.5, None, 0.0, 8.0],
        "tags": pa.array([["x", "y"], None, ["z"], ["x"]], pa.list_(pa.string())),
    }
)
USERS = pa.table({"user_id": ["ann", "bob", "cid"], "city": ["Oslo", None, "Łódź"]})


def write(table: pa.Table, path: Path, suffix: str = "parquet") -> None:
    path.mkdir(parents=True, exist_ok=True)
    file = path / f"part-0.{suffix}"
    if suffix == "parquet":
        pq.write_table(table, file)
    elif suffix == "jsonl":
        rows = table.to_pylist()
        file.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    else:
        columns = [
            pa.array([None if value is None else "|".join(value) for value in column.to_pylist()], pa.string())
            if pa.types.is_list(column.type)
            else column
            for column in table.columns
        ]
        csv.write_csv(pa.table(dict(zip(table.column_names, columns, strict=True))), file)


class Case:
    """One run over tables of a directory; what it wrote."""

    def __init__(
        self,
        directory: Path,
        tables: dict[str, pa.Table],
        spec=SPEC,
        suffix="parquet",
        out="out",
        judged=False,
        **config,
    ):
        for name, table in tables.items():
            write(table, directory / suffix / name, suffix)
        config = {"max_bad_row_fraction": 1.0, "attribution_window_hours": 1.0, "num_shards": 2} | config
        config.setdefault("split", SplitConfig(eval_fraction=0, test_fraction=0))
        self.config = IngestConfig(
            tables=LogTables(**{name: str(directory / suffix / name) for name in tables}), **config
        )
        self.examples, self.behaviors, self.dead = (directory / out / n for n in ("examples", "behaviors", "dead"))
        self.counts: IngestCounts = self._ingest(spec, judged)

    def _ingest(self, spec: FeatureSpec, judged: bool) -> IngestCounts:
        """Small logs are seldom worth a training: their verdict is only of interest where it is asked for."""
        try:
            return run_ingest(self.config, spec, self.examples, self.behaviors, self.dead)
        except BadRowsError:
            raise
        except UntrainableLogError:
            if judged:
                raise
            return IngestCounts.load(self.examples)

    def requests(self, split: str = "*") -> dict[str, dict]:
        """Returns {request_id: row} over all shards; each row knows its `shard`."""
        found = {}
        for file in sorted(self.examples.glob(f"Split-{split}/requests-*.parquet")):
            shard = int(file.name.split("-")[1])
            for row in pq.ParquetFile(file).read().to_pylist():
                assert row["request_id"] not in found
                found[row["request_id"]] = row | {"shard": shard, "split": file.parent.name[len("Split-") :]}
        return found

    def users(self) -> dict[tuple[int, int], dict]:
        """Returns {(shard, user_index): row} of the behaviour log."""
        found = {}
        for file in sorted(self.behaviors.glob("behaviors-*.parquet")):
            shard = int(file.name.split("-")[1])
            found |= {(shard, i): row for i, row in enumerate(pq.ParquetFile(file).read().to_pylist())}
        return found

    def history(self, request: dict) -> list[tuple[int, int]]:
        """Returns the (time, item) pairs of a request's history."""
        if request["user_index"] < 0:
            return []
        row = self.users()[request["shard"], request["user_index"]]
        assert row["user_id"] == request["user_id"]
        return list(zip(row["timestamp"], row["item_id"], strict=True))[: request["history_end"]]

    def letters(self) -> list[dict]:
        files = sorted(self.dead.glob("dead_letters-*.parquet"))
        return [row for file in files for row in pq.ParquetFile(file).read().to_pylist()]

"""Readers and conversions: formats, bad text, odd values."""

from __future__ import annotations

import gzip
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from features.ingest.checking.columns import convert, to_milliseconds
from features.ingest.joining.shuffle import (
    RecordBatchCoder,
    concatenate,
    kind_of,
    partition,
)
from features.ingest.reading import readers
from features.log_contract import LogContractError


def read(path, columns):
    batches = [batch for unit in readers.plan_reads(str(path)) for batch in readers.read_batches(unit, columns)]
    rows = [row for batch in batches for row in batch.batch.to_pylist()]
    return rows, [line for batch in batches for line in batch.rejected]


def test_json_lines_set_bad_lines_aside(tmp_path):
    lines = [json.dumps({"a": i, "b": f"t{i}"}) for i in range(2000)]
    lines[700], lines[1500] = '{"a": 1, "b"', "[1, 2]"
    (tmp_path / "x.jsonl").write_text("\n".join(lines) + "\n\n")
    rows, rejected = read(tmp_path, ["b", "a"])
    assert [row["a"] for row in rows] == [i for i in range(2000) if i not in (700, 1500)]
    assert rows[-1]["b"] == "t1999"
    assert [text for text, _ in rejected] == [lines[700], lines[1500]]


def test_json_lines_of_mixed_types_and_bytes(tmp_path):
    content = b'{"a": 1, "b": ["x"]}\n{"a": "two"}\n{"a": true, "b": [3]}\n{"a": "\xff"}\n'
    (tmp_path / "x.jsonl").write_bytes(content)
    rows, rejected = read(tmp_path, ["a", "b"])
    assert rows == [{"a": "1", "b": ["x"]}, {"a": "two", "b": None}, {"a": "true", "b": ["3"]}]
    assert len(rejected) == 1


def test_json_strings_like_dates_stay_strings(tmp_path):
    (tmp_path / "x.jsonl").write_text('{"a": "2020-01-01", "b": ["2020-01-01"]}\n{"a": "2020-01-02", "b": []}\n')
    assert read(tmp_path, ["a", "b"])[0] == [{"a": "2020-01-01", "b": ["2020-01-01"]}, {"a": "2020-01-02", "b": []}]


def test_csv_sets_bad_lines_aside_and_keeps_quoted_newlines(tmp_path):
    (tmp_path / "x.csv").write_text('a,b\n1,"x\ny"\n2\n3,\n')
    rows, rejected = read(tmp_path, ["b", "a", "c"])
    assert rows == [{"b": b"x\ny", "a": b"1", "c": None}, {"b": None, "a": b"3", "c": None}]
    assert [text for text, _ in rejected] == ["2"]


def test_compressed_text(tmp_path):
    with gzip.open(tmp_path / "x.csv.gz", "wt") as stream:
        stream.write("a\n" + "1\n" * 100_000)
    assert len(read(tmp_path, ["a"])[0]) == 100_000


def test_blocks_of_text_join(tmp_path, monkeypatch):
    monkeypatch.setattr(readers, "TEXT_BLOCK_BYTES", 64)
    (tmp_path / "x.jsonl").write_text("\n".join(json.dumps({"a": i}) for i in range(100)))
    assert [row["a"] for row in read(tmp_path, ["a"])[0]] == list(range(100))


def test_parquet_row_groups_are_units(tmp_path, monkeypatch):
    monkeypatch.setattr(readers, "BATCH_ROWS", 10)
    pq.write_table(pa.table({"a": range(300)}), tmp_path / "x.parquet", row_group_size=50)
    (tmp_path / "_SUCCESS.parquet").write_text("")
    units = readers.plan_reads(str(tmp_path))
    assert [unit.rows for unit in units] == [100, 100, 100]
    assert [row["a"] for row in read(tmp_path / "*.parquet", ["a"])[0]] == list(range(300))


def test_unreadable_files_are_named(tmp_path):
    (tmp_path / "x.parquet").write_text("no")
    with pytest.raises(LogContractError, match="x.parquet: no readable Parquet"):
        readers.plan_reads(str(tmp_path))


@pytest.mark.parametrize(
    ("values", "target", "expected", "bad"),
    [
        (["1", "+2", "x", None, "", " 5 ", "1.0"], "int64", [1, 2, None, None, None, 5, None], [2, 6]),
        ([1.0, 1.5, None, float("inf"), float("nan")], "int64", [1, None, None, None, None], [1, 3]),
        (["1e3", ".5", "nan", None], "float64", [1000.0, 0.5, None, None], [2]),
        ([1.0, float("nan"), None], "float64", [1.0, None, None], []),
        ([b"a", b"\xff", None], "string", ["a", None, None], [1]),
        ([1, None], "string", ["1", None], []),
        (["a|b", None, "c"], "list<string>", [["a", "b"], None, ["c"]], []),
        ([5, None], "list<string>", [["5"], None], []),
        ([["1", "x"], ["2"], None, []], "list<int64>", [[1, None], [2], None, []], [0]),
        ([{"a": 1}, None], "string", [None, None], [0]),
        ([None, None], "list<int64>", [None, None], []),
    ],
)
def test_conversions(values, target, expected, bad):
    array, misfit = convert(pa.array(values), target)
    assert array.to_pylist() == expected and np.flatnonzero(misfit).tolist() == bad


def test_conversion_of_slices_rebases_offsets():
    lists = pa.array([[1], [2, 3], None, [4]]).slice(1)
    assert convert(lists, "list<string>")[0].to_pylist() == [["2", "3"], None, ["4"]]


def test_timestamps_are_utc_milliseconds():
    zoned = pa.array([1_700_000_000_123_456], pa.timestamp("us", tz="Europe/Oslo"))
    assert to_milliseconds(zoned)[0].to_pylist() == [1_700_000_000_123]
    assert to_milliseconds(pa.array(["1700000000123"]))[0].to_pylist() == [1_700_000_000_123]


def test_partition_and_coder_lose_nothing():
    batch = pa.RecordBatch.from_arrays(
        [pa.array([[i, None] if i % 3 else None for i in range(100)]), pa.array(range(100))], names=["x", "_order"]
    )
    coder = RecordBatchCoder()
    parts = list(partition(batch, np.arange(100, dtype=np.uint16) % 7, "kind"))
    assert [shard for shard, _ in parts] == list(range(7))
    decoded = [coder.decode(coder.encode(part)) for _, part in parts]
    assert {kind_of(part) for part in decoded} == {"kind"}
    assert concatenate(decoded[::-1]).to_pylist() == batch.to_pylist()

"""Random logs, valid and invalid, as Hypothesis draws them: tables of CSV, JSON Lines and Parquet in 1 to 100 files.

A log is a few tables that belong together. Most rows are good and meet one another (few requests, users and items);
some have a value that is odd or wrong, some files a line that is no record.
"""

from __future__ import annotations

import bz2
import csv
import dataclasses
import datetime
import gzip
import io
import json
import math
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import strategies as st

from features.ingest.config import IngestConfig
from features.spec import FeatureSpec

T = 1_700_000_000_000
HOUR = 3_600_000
MAX_RECORD_BYTES = 1_024
LIMITS = dict.fromkeys(("duplicates", "ignored", "immature", "unknown_items", "unknown_users", "missing"), 1.0)

_texts = st.sampled_from(
    ["a", "b", "Łódź", "x y", "a,b", 'say "x"', "two\nlines", "x;y", "", "007", "1e5", "NaN", "😀"]
)
_odd_numbers = st.sampled_from(
    [7.0, 7.5, "7", "x", True, 2**53, 2**63 - 1, 2**63, -1, float("nan"), "9.0", 9007199254740993]
)
_odd_ids = st.sampled_from(
    [None, "", 7, 7.0, 1.5, 2**53 + 1, 2**70, [1], {"a": 1}, "é", "e\u0301", " r1", "R1", "a\nb", 'q"q']
)
_offsets = [0, 1, 2, HOUR // 2, HOUR - 1, HOUR, HOUR + 1, 2 * HOUR, 2 * HOUR + 1, 5 * HOUR, 26 * HOUR, 60 * HOUR]
_times = st.sampled_from([T + 1000 * offset // 1000 for offset in _offsets])
_odd_times = st.sampled_from(
    [None, 0, 1_700_000_000, "soon", T + 400 * 24 * HOUR, -5, 1.5, "2023-11-14", [1], 4_102_444_800_001]
)

#: By column: good values, and odd ones.
VALUES = {
    "request_id": (st.sampled_from(["r1", "r2", "r3", "r4", "r5", "ö"]), _odd_ids),
    "timestamp": (_times, _odd_times),
    "position": (st.integers(0, 4), st.sampled_from([None, -1, 1.0, 1.5, "2", "x", 2**31])),
    "propensity": (st.sampled_from([None, 0.5, 1.0, 1]), st.sampled_from([0.0, 1.5, "0.25", "x", -1, float("nan")])),
    "click": (st.sampled_from([0, 1, 0.5]), st.sampled_from([None, 2, -1, "1", "x", True, float("nan")])),
    "stars": (st.sampled_from([1, 2, 3, 4.5]), st.sampled_from([None, "4", "x", -1, 1e9])),
    "label": (st.sampled_from(["click", "order"]), st.sampled_from([None, "Click", "share", ""])),
    "part": (st.sampled_from(["train", "eval", "test"]), st.sampled_from([None, "dev", "Train", 1])),
    "worth": (st.sampled_from([None, 1.5, 2, 0.25]), st.sampled_from(["x", "3.5", [1], -1])),
    "action": (st.sampled_from(["view", "cart", None]), _texts),
    "city": (_texts, st.sampled_from([None, 5, 1.5, [1], {"a": "b"}])),
    "age": (st.integers(0, 99), _odd_numbers),
    "hour": (st.integers(0, 23), _odd_numbers),
    "shelf": (_texts, st.sampled_from([None, 5, 0.5, ["x"]])),
    "price": (
        st.sampled_from([0.5, 1, 2.25, None, 1e3]),
        st.sampled_from(["x", "1.5", float("nan"), float("inf"), True, [1]]),
    ),
    "tags": (
        st.sampled_from([None, ["x"], ["x", "y"], ["ö", "a b"]]),
        st.sampled_from(["x|y", "x", 5, [1, 2], {"a": 1}]),
    ),
    "codes": (st.sampled_from([None, [1], [1, 2, 3]]), st.sampled_from(["1|2", "1|x", [1.5], [2.0], ["7"], 7])),
}
COLUMNS = {
    "impressions": ("request_id", "timestamp", "user_id", "item_id"),
    "clicks": ("request_id", "item_id", "timestamp"),
    "items": ("item_id",),
    "users": ("user_id",),
    "behaviors": ("user_id", "item_id", "timestamp"),
}
OPTIONAL = {
    "impressions": ("position", "propensity"),
    "clicks": ("label",),
    "items": (),
    "users": (),
    "behaviors": ("action",),
}
FEATURES = (
    {"name": "city", "table": "users"},
    {"name": "years", "column": "age", "table": "users", "kind": "numeric", "dtype": "int64"},
    {"name": "hour", "table": "impressions", "dtype": "int64"},
    {"name": "shelf", "table": "impressions", "scope": "candidate"},
    {"name": "price", "table": "items", "kind": "numeric"},
    {"name": "tags", "table": "items", "kind": "multi_categorical"},
    {"name": "codes", "table": "items", "kind": "multi_categorical", "dtype": "int64"},
)


@dataclasses.dataclass(frozen=True)
class RandomLog:
    """A log: its files by relative path, and how it is ingested. `paths` of the tables are relative too."""

    files: dict[str, bytes]
    settings: dict[str, Any]
    spec: FeatureSpec

    def write(self, folder: Path) -> IngestConfig:
        """Writes the files and returns the configuration."""
        for name, data in self.files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        tables = {
            name: table | {"path": str(folder / table["path"])} for name, table in self.settings["tables"].items()
        }
        return IngestConfig.model_validate(self.settings | {"tables": tables})


@st.composite
def random_logs(draw: st.DrawFn) -> RandomLog:
    """Draws a log of one to five tables."""
    whole_ids = draw(st.booleans())
    ids = {
        "user_id": (st.integers(1, 3) if whole_ids else st.sampled_from(["ann", "bob", "ćid"]), _odd_ids),
        "item_id": (st.integers(1, 4) if whole_ids else st.sampled_from(["i1", "i2", "3", "4"]), _odd_ids),
    }
    others = [name for name in ("clicks", "items", "users", "behaviors") if draw(st.booleans())]
    tables = ["impressions", *others]
    features = [each for each in FEATURES if each["table"] in tables and draw(st.booleans())]
    item_feature = draw(st.sampled_from([None, "int64" if whole_ids else "string"]))
    if item_feature:
        features.append({"name": "item_id", "table": "items", "dtype": item_feature})
    if not features:
        features.append({"name": "hour", "table": "impressions", "dtype": "int64"})
    remembered = [each["name"] for each in features if each["table"] == "items" and each["name"] != "price"]
    spec = {"name": "random", "features": features}
    if remembered and draw(st.booleans()):
        spec["history"] = {"features": remembered}

    settings = _settings(draw, tables)
    by_table = {table: list(COLUMNS[table]) for table in tables}
    for table in tables:
        labelled = table == "clicks" and bool(settings["labels"])
        by_table[table] += [name for name in OPTIONAL[table] if labelled or draw(st.booleans())]
        by_table[table] += [
            each.get("column", each["name"])
            for each in features
            if each["table"] == table and each["name"] != "item_id"
        ]
    if settings["split"].get("by") == "column":
        by_table["impressions"].append("part")
    for label in settings["labels"]:
        if "value" in label:
            by_table["clicks"].append(label["value"])
    if "clicks" not in tables:
        by_table["impressions"] += ["click", *(label["column"] for label in settings["labels"])]

    files: dict[str, bytes] = {}
    for table in tables:
        columns = list(dict.fromkeys(by_table[table]))
        values = VALUES | ids
        unit = settings["tables"][table].get("timestamp_unit", "ms")
        rows = _rows(draw, columns, values, unit)
        for name, data in _files(draw, table, columns, rows, settings["tables"][table]):
            files[f"{table}/{name}"] = data
    return RandomLog(files, settings, FeatureSpec.model_validate(spec))


def _settings(draw: st.DrawFn, tables: list[str]) -> dict[str, Any]:
    fractions = {"eval_fraction": 0.2, "test_fraction": 0.3}
    split = draw(
        st.sampled_from(
            [
                {"eval_fraction": 0, "test_fraction": 0},
                fractions,
                {"by": "random", "seed": 5, **fractions},
                {"by": "column", "column": "part"},
                {"train_until": T + HOUR, "eval_until": T + 2 * HOUR},
                {"train_until": T + 1},
            ]
        )
    )
    labels: list[dict[str, Any]] = []
    if "clicks" in tables and draw(st.booleans()):
        labels.append({"name": "buy", "column": "order", "window_hours": 2.0})
        if draw(st.booleans()):
            labels[0]["value"] = "worth"
    elif "clicks" not in tables and draw(st.booleans()):
        labels.append({"name": "liked", "column": "stars", "at_least": 3})
    given = {}
    for table in tables:
        given[table] = {"path": table, "max_record_bytes": MAX_RECORD_BYTES}
        if draw(st.integers(0, 5)) == 0:
            given[table]["timestamp_unit"] = draw(st.sampled_from(["s", "us"]))
        if draw(st.integers(0, 5)) == 0:
            given[table]["delimiter"] = draw(st.sampled_from([";", "\t", "|"]))
    return {
        "tables": given,
        "labels": labels,
        "attribution_window_hours": 1.0,
        "label_maturity": draw(st.booleans()),
        "end_of_log": draw(st.sampled_from([None, None, None, T + 3 * HOUR])),
        "split": split,
        "num_shards": draw(st.integers(1, 3)),
        "max_bad_row_fraction": 1.0,
        "limits": LIMITS | {"bad_files": True},
    }


def _rows(draw: st.DrawFn, columns: list[str], values: dict[str, tuple], unit: str) -> list[dict[str, Any]]:
    """Draws rows of a table; about one in six has an odd value."""
    good = st.tuples(*(values[name][0] for name in columns))
    rows = [dict(zip(columns, row, strict=True)) for row in draw(st.lists(good, min_size=1, max_size=14))]
    for row in rows:
        if "timestamp" in row:
            row["timestamp"] = _written(draw, row["timestamp"], unit)
        if draw(st.integers(0, 5)) == 0:
            name = draw(st.sampled_from(columns))
            row[name] = draw(values[name][1])
    if draw(st.integers(0, 3)) == 0:  # A row that repeats, as it is or with one other value.
        again = dict(draw(st.sampled_from(rows)))
        name = draw(st.sampled_from(columns))
        if name != "timestamp":
            again[name] = draw(values[name][0])
        rows.append(again)
    return draw(st.permutations(rows)) if draw(st.booleans()) else rows


def _written(draw: st.DrawFn, time: int, unit: str) -> Any:
    """Returns an instant as logs write it."""
    number = {"s": time // 1000, "ms": time, "us": time * 1000}[unit]
    how = draw(st.integers(0, 11))
    moment = datetime.datetime.fromtimestamp(time // 1000, datetime.timezone.utc) + datetime.timedelta(
        milliseconds=time % 1000
    )
    if how == 0:
        return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    if how == 1:
        return moment.astimezone(datetime.timezone(datetime.timedelta(hours=2))).isoformat(timespec="milliseconds")
    if how == 2:
        return str(number)
    return float(number) if how == 3 else number


def _files(
    draw: st.DrawFn, table: str, columns: list[str], rows: list[dict[str, Any]], settings: dict[str, Any]
) -> list[tuple[str, bytes]]:
    """Deals the rows to files of any format."""
    count = draw(st.sampled_from([1, 1, 1, 2, 3, len(rows)]))
    if draw(st.integers(0, 60)) == 0:
        count, rows = 100, [rows[i % len(rows)] for i in range(100)]
    count = min(count, len(rows))
    found = []
    for number in range(count):
        kind = draw(st.sampled_from(["csv", "tsv", "jsonl", "parquet"]))
        part, names = rows[number::count], list(columns)
        if draw(st.booleans()):
            names = draw(st.permutations(names))
        optional = [name for name in names if name not in COLUMNS[table]]
        if number and optional and draw(st.integers(0, 4)) == 0 and "part" not in names:
            names.remove(draw(st.sampled_from(optional)))  # Another file of the table may have it.
        name = f"{'day=1/' if draw(st.integers(0, 9)) == 0 else ''}part-{number:03d}.{kind}"
        if kind == "parquet":
            found.append((name, _parquet(draw, names, part)))
            continue
        if kind == "jsonl":
            records = [
                json.dumps({n: _finite(row[n]) for n in names}, ensure_ascii=draw(st.booleans())).encode()
                for row in part
            ]
        else:
            delimiter = settings.get("delimiter", "\t" if kind == "tsv" else ",")
            records = _csv(draw, names, part, delimiter)
        records = _spoilt(draw, records, kind)
        end = draw(st.sampled_from([b"\n", b"\n", b"\r\n"]))
        data = end.join(records) + draw(st.sampled_from([b"", end]))
        if draw(st.integers(0, 9)) == 0:
            data = b"\xef\xbb\xbf" + data
        packing = draw(st.sampled_from(["", "", "", ".gz", ".zst", ".bz2"]))
        found.append((name + packing, _packed(data, packing)))
    return found


def _finite(value: Any) -> Any:
    """Returns a number that JSON cannot write as text."""
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _csv(draw: st.DrawFn, names: list[str], rows: list[dict[str, Any]], delimiter: str) -> list[bytes]:
    null = draw(st.sampled_from(["", "\\N", "NULL", "nan"]))
    quoting = draw(st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_MINIMAL, csv.QUOTE_ALL]))

    def field(value: Any) -> str:
        if value is None:
            return null
        if isinstance(value, list):
            return "|".join(map(field, value))
        return json.dumps(value) if isinstance(value, dict) else str(value)

    records = []
    for values in [names, *([field(row[name]) for name in names] for row in rows)]:
        stream = io.StringIO()
        csv.writer(stream, delimiter=delimiter, quoting=quoting, lineterminator="").writerow(values)
        records.append(stream.getvalue().encode())
    return records


def _spoilt(draw: st.DrawFn, records: list[bytes], kind: str) -> list[bytes]:
    """Puts lines that are no record between the others; a file keeps its first line."""
    records = list(records)
    for _ in range(draw(st.sampled_from([0, 0, 0, 1, 2]))):
        at = draw(st.integers(1, len(records)))
        line = records[at - 1]
        if kind == "jsonl":
            choices = [
                b"",
                b"{",
                b'{"a": 1',
                b"[1, 2]",
                b"7",
                b"null",
                line + b",",
                line + b"\x00",
                line + b"\xff",
                b'"' + b"x" * 2000,
                b'{"a":' * 300,
            ]
        else:
            choices = [
                b"",
                b"x",
                line + line,
                b'"' + line,
                line + b'"',
                line + b"\x00",
                line + b"\xff",
                b'"a"b' + line,
                b"x" * 2000,
                line.replace(b"r", b'"r', 1),
            ]
        records.insert(at, draw(st.sampled_from(choices)))
    return records


def _packed(data: bytes, packing: str) -> bytes:
    if packing == ".gz":
        return gzip.compress(data, 1, mtime=0)
    if packing == ".bz2":
        return bz2.compress(data, 1)
    if packing == ".zst":
        sink = pa.BufferOutputStream()
        with pa.CompressedOutputStream(sink, "zstd") as stream:
            stream.write(data)
        return sink.getvalue().to_pybytes()
    return data


def _parquet(draw: st.DrawFn, names: list[str], rows: list[dict[str, Any]]) -> bytes:
    arrays = [_column(draw, name, [row[name] for row in rows]) for name in names]
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table(arrays, names=names), sink, row_group_size=draw(st.sampled_from([2, 1000])))
    return sink.getvalue().to_pybytes()


def _column(draw: st.DrawFn, name: str, values: list[Any]) -> pa.Array:
    """Returns a column of one type: that of the values where they agree, else text."""
    present = [value for value in values if value is not None]
    kinds = {type(value) for value in present}
    if kinds == {list}:
        inner = {type(each) for value in present for each in value}
        if len(inner) == 1 and all(isinstance(x, str) or abs(x) < 2**63 for value in present for x in value):
            return pa.array(values)
        return pa.array([None if v is None else [str(x) for x in v] for v in values], pa.list_(pa.string()))
    if kinds == {int} and all(-(2**63) <= value < 2**64 for value in present):
        small = all(-(2**31) <= value < 2**31 for value in present)
        big = any(value >= 2**63 for value in present)
        if big and min(present) < 0:  # No type of integers holds both.
            return pa.array([None if value is None else float(value) for value in values], pa.float64())
        if name == "timestamp" and not big and draw(st.booleans()):
            return pa.array(values, pa.int64())
        return pa.array(
            values,
            pa.uint64()
            if big and min(present) >= 0
            else pa.float64()
            if big
            else draw(st.sampled_from([pa.int64(), pa.int32()]))
            if small
            else pa.int64(),
        )
    if kinds <= {int, float} and kinds and all(abs(value) < 2**53 or value != value for value in present):
        return pa.array([None if value is None else float(value) for value in values], pa.float64())
    if kinds == {bool}:
        return pa.array(values)
    texts = pa.array([None if v is None else v if isinstance(v, str) else json.dumps(v) for v in values], pa.string())
    form = draw(st.integers(0, 3))
    return texts.dictionary_encode() if form == 0 else texts.cast(pa.large_string()) if form == 1 else texts

"""JSON Lines: exact integers, one object a line, and rows that cost no neighbour."""

from __future__ import annotations

import json

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.ingest.checking.columns import convert
from features.ingest.config import TableConfig
from features.ingest.reading import json_reader, records, units
from features.ingest.reading.files import find_files
from features.log_contract import LogContractError


def read(path, columns, **config):
    """Returns {line: row as checking converts it; a value that does not fit is `...`}, and {line: (text, what)}."""
    table = TableConfig(path=str(path), **config)
    rows, rejected = {}, {}
    for unit in units.plan_reads(find_files(table, "impressions", list(columns)), table):
        for raw in units.read_batches(unit, table, columns):
            values = []
            for name, target in columns.items():
                array, misfit = convert(raw.batch[name], target)
                values.append([... if bad else value for value, bad in zip(array.to_pylist(), misfit, strict=True)])
            for line, *row in zip(units.locate(unit, raw.positions), *values, strict=True):
                assert line not in rows
                rows[line] = row
            for each in raw.rejected:
                rejected[units.locate(unit, [each.position])[0]] = (each.text, each.what)
    return dict(sorted(rows.items())), rejected


def write(path, *lines):
    path.write_text("".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines))


def test_bad_lines_are_set_aside(tmp_path):
    lines = [json.dumps({"a": i, "b": f"t{i}"}) for i in range(2000)]
    lines[700], lines[1500], lines[1600] = '{"a": 1, "b"', "[1, 2]", ""
    write(tmp_path / "x.jsonl", *lines)
    rows, rejected = read(tmp_path, {"b": "string", "a": "int64"})
    assert [row[1] for row in rows.values()] == [i for i in range(2000) if i not in (700, 1500, 1600)]
    assert list(rows) == [i + 1 for i in range(2000) if i not in (700, 1500, 1600)]
    assert {line: text for line, (text, _) in rejected.items()} == {701: lines[700], 1501: lines[1500]}


@pytest.mark.parametrize(
    ("target", "values", "expected"),
    [
        ("string", [2**63 + i for i in range(10)], [str(2**63 + i) for i in range(10)]),
        ("string", [2**63, "x", 7.0], [str(2**63), "x", "7"]),
        ("string", [2**53 + 1, 2**53 + 2, 7.0], [str(2**53 + 1), str(2**53 + 2), "7"]),
        ("string", [10**50, 1], [str(10**50), "1"]),
        ("string", [1, "1", "i1", True, None, 0.5, 1e300], ["1", "1", "i1", "true", None, "0.5", ...]),
        ("string", [1.0, 2.5, 1e300], ["1", "2.5", ...]),
        ("string", ["a", ["b"], {"c": 1}, "d"], ["a", ..., ..., "d"]),
        ("string", [["b"], ["c"]], [..., ...]),
        ("string", ["2020-01-01", "2020-01-02"], ["2020-01-01", "2020-01-02"]),
        ("int64", [2**53 + 1, 2**53 + 2, 7.0], [2**53 + 1, 2**53 + 2, 7]),
        ("int64", [2**63, 1, "2", 2.5], [..., 1, 2, ...]),
        ("int64", [2**63 - 1, -(2**63), 1e17], [2**63 - 1, -(2**63), ...]),
        ("int64", [{"a": 1}, 1], [..., 1]),
        ("float64", [1, 2.5, "3", [4]], [1.0, 2.5, 3.0, ...]),
        ("list<string>", [[None, "x"], ["y"]], [[None, "x"], ["y"]]),
        ("list<string>", [None, [None, None, "x"], []], [None, [None, None, "x"], []]),
        (
            "list<string>",
            [["a"], "b|c", 5, [1.0], [[1]], [2**70]],
            [["a"], ["b", "c"], ["5"], ["1"], ..., [str(2**70)]],
        ),
        ("list<int64>", [[1, None], [2.0], [2**53 + 1], ["3"]], [[1, None], [2], [2**53 + 1], [3]]),
        ("list<int64>", [[1], [2**53 + 1], [2.0]], [[1], [2**53 + 1], [2]]),
    ],
)
def test_values_are_those_of_the_file(tmp_path, target, values, expected):
    write(tmp_path / "x.jsonl", *({"a": value, "b": i} for i, value in enumerate(values)))
    rows, rejected = read(tmp_path, {"a": target, "b": "int64"})
    assert list(rows.values()) == [[value, i] for i, value in enumerate(expected)] and not rejected


def test_large_integers_are_read_by_arrow(tmp_path, monkeypatch):
    """A log whose ids are all unsigned 64-bit hashes must not go row by row."""
    monkeypatch.setattr(json_reader, "read_rows", None)
    write(tmp_path / "x.jsonl", *({"a": 2**64 - i, "b": i} for i in range(100)), {"b": 1}, {"a": None})
    rows, _ = read(tmp_path, {"a": "string"})
    assert [row[0] for row in rows.values()] == [str(2**64 - i) for i in range(100)] + [None, None]


@pytest.mark.parametrize("odd", ['{"a": "007"}', '{"a": 1e20}', '{"a": 7.0}', '{"\\u0061": "007"}'])
def test_what_looks_like_an_integer_to_arrow_alone_stays_what_it_is(tmp_path, odd):
    write(tmp_path / "x.jsonl", {"a": 2**64}, odd)
    expected = {"007": "007", "1e2": ..., "7.0": "7"}[next(key for key in ("007", "1e2", "7.0") if key in odd)]
    assert [row[0] for row in read(tmp_path, {"a": "string"})[0].values()] == [str(2**64), expected]


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ('{"a": 1', "not a JSON object"),
        ('{"a": 1}{"a": 2}', "not a JSON object"),
        ('{"a": 1}, ', "not a JSON object"),
        ('{"a": 1, "a": 2}', "the key `a` stands in it more than once"),
        ('{"a": ' + "[" * 20_000 + "]" * 20_000 + "}", "more than 100 deep"),
        ('{"z":' + '{"y":' * 10_000 + "1" + "}" * 10_001, "more than 100 deep"),
        ('{"a": "\\ud800"}', "`a` holds a lone surrogate"),
        ('{"a": ["\\ud800"]}', "`a` holds a lone surrogate"),
        ('{"a": "x\0"}', "NUL"),
        ('{"a": 1}\r{"a": 2}', "carriage return"),
        ('{"a": "' + "x" * 70_000 + '"}', "longer than `max_record_bytes`"),
        ('{"a": "\udcff"}', "not of the table's `encoding`, at byte 7"),
    ],
    ids=range(12),
)
def test_a_line_that_is_none_costs_itself_alone(tmp_path, line, what):
    good = ['{"a": 9223372036854775808}', '{"a": "[{", "z": 1}', ' {"a": 1} \t']
    text = "\n".join([good[0], line, *good[1:]])
    (tmp_path / "x.jsonl").write_bytes(text.encode("utf-8", "surrogateescape"))
    rows, rejected = read(tmp_path, {"a": "string"})
    assert rows == {1: [str(2**63)], 3: ["[{"], 4: ["1"]}
    assert list(rejected) == [2] and what in rejected[2][1] and rejected[2][0][:6] == line[:6]


def test_objects_over_two_lines_and_two_on_one_are_refused(tmp_path):
    write(tmp_path / "x.jsonl", '{"a":', "1}", '{"a": 2}{"a": 3}', '{"a": 4}')
    rows, rejected = read(tmp_path, {"a": "int64"})
    assert rows == {4: [4]} and list(rejected) == [1, 2, 3]


def test_keys_that_are_not_read_may_be_anything(tmp_path):
    write(tmp_path / "x.jsonl", '{"z": 1, "a": 1}', '{"z": [2, {"a": 3}], "a": 2}', '{"z": "\\ud800", "a": 3, "z": 1}')
    assert read(tmp_path, {"a": "int64", "absent": "string"})[0] == {1: [1, None], 2: [2, None], 3: [3, None]}


def test_blocks_and_types_may_differ(tmp_path, monkeypatch):
    monkeypatch.setattr(records, "BLOCK_BYTES", 64)
    monkeypatch.setattr("features.ingest.reading.streams.CHUNK_BYTES", 64)
    values = [None if i < 20 else str(i) if i < 40 else 2**63 + i if i < 60 else i for i in range(100)]
    write(tmp_path / "x.jsonl", *({"a": value, "t": [] if i < 50 else [None, i]} for i, value in enumerate(values)))
    rows, _ = read(tmp_path, {"a": "string", "t": "list<int64>"})
    expected = [[None if value is None else str(value), [] if i < 50 else [None, i]] for i, value in enumerate(values)]
    assert list(rows.values()) == expected


_TARGETS = ("string", "int64", "float64", "list<string>", "list<int64>")
_SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.integers(-20, 20),
    st.sampled_from([7.0, 2.5, 1e15, 2.0**53, -(2.0**53), 1e300, 1e-7, -0.0, 0.1]),
    st.sampled_from(["", "x", "007", "7.0", "a|b", "2020-01-01", "ł"]),
)


@given(
    st.sampled_from(_TARGETS),
    st.lists(st.one_of(_SCALARS, st.lists(_SCALARS, max_size=3), st.just({"k": 1})), min_size=1, max_size=12),
)
@settings(max_examples=150, deadline=None)
def test_a_row_is_the_same_alone_and_beside_others(tmp_path_factory, target, values):
    folder = tmp_path_factory.mktemp("json")
    write(folder / "x.jsonl", *({"a": value} for value in values))
    together, rejected = read(folder, {"a": target})
    assert not rejected
    alone = []
    for value in values:
        write(folder / "x.jsonl", {"a": value})
        (row,) = read(folder, {"a": target})[0].values()
        alone.append(row)
    assert list(together.values()) == alone


def test_columns_that_first_appear_late_are_found(tmp_path):
    lines = [json.dumps({"a": i, "pad": "x" * 100}) for i in range(12_000)]
    lines[-1] = json.dumps({"a": 1, "läte": 2})
    write(tmp_path / "x.jsonl", *lines)
    table = TableConfig(path=str(tmp_path))
    (file,) = find_files(table, "impressions", ["a", "läte", "never"]).files
    assert file.columns == {"a": pa.null(), "pad": pa.null(), "läte": pa.null()}
    assert list(read(tmp_path, {"läte": "int64"})[0].values())[-1] == [2]


@pytest.mark.parametrize("content", ['[{"a": 1}, {"a": 2}]', '\n [\n{"a": 1}\n]'])
def test_an_array_over_the_file_is_an_error(tmp_path, content):
    (tmp_path / "x.json").write_text(content)
    with pytest.raises(LogContractError, match="x.json: is a JSON array: write one object a line"):
        read(tmp_path, {"a": "int64"})

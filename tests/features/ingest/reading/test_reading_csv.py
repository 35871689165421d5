"""CSV: one record a line, quotes that hold and quotes that do not, and what is set aside."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.ingest.config import TableConfig
from features.ingest.reading import records, units
from features.ingest.reading.files import find_files
from features.log_contract import LogContractError


def read(path, *columns, **config):
    """Returns the rows, each with its line first, and (line, text, what) of the records that are none."""
    table = TableConfig(path=str(path), **config)
    rows, rejected = [], []
    for unit in units.plan_reads(find_files(table, "impressions", columns), table):
        for raw in units.read_batches(unit, table, dict.fromkeys(columns, "string")):
            assert raw.batch.schema.names == list(columns)
            lines = units.locate(unit, raw.positions)
            rows += [(line, *row.values()) for line, row in zip(lines, raw.batch.to_pylist(), strict=True)]
            for each in raw.rejected:
                rejected.append((units.locate(unit, [each.position])[0], each.text, each.what))
    return rows, rejected


def test_every_line_is_a_record(tmp_path):
    (tmp_path / "x.csv").write_text('a,b,c\n1,2,3\n\n4,,"6"\r\n\r\n7,N"o"t,"8,""9"""\n')
    rows, rejected = read(tmp_path, "c", "a", "b", "d")
    assert rows == [(2, "3", "1", "2", None), (4, "6", "4", None, None), (6, '8,"9"', "7", 'N"o"t', None)]
    assert rejected == []


def test_a_stray_quote_costs_its_own_row(tmp_path):
    lines = [f"r{i},{i},u{i % 7}" for i in range(20_000)]
    lines[5_000] = 'r5000,"5000,u2'
    lines[15_000] = 'r15000,15000",u6'
    (tmp_path / "x.csv").write_text("\n".join(["request_id,item_id,user_id", *lines]) + "\n")
    rows, rejected = read(tmp_path, "request_id", "item_id")
    assert len(rows) == 19_999 and (15_002, "r15000", '15000"') in rows
    ((line, text, what),) = rejected
    assert (line, text) == (5_002, lines[5_000]) and "line 5003, which is a record by itself" in what


@pytest.mark.parametrize(
    ("body", "rows", "bad"),
    [
        ('1,"x\ny"\n2,z', [(2, "1", "x\ny"), (4, "2", "z")], []),
        ('1,"x\n\ny\n"\n2,z', [(2, "1", "x\n\ny\n"), (6, "2", "z")], []),
        ('"1\n2",3\n4,5', [(2, "1\n2", "3"), (4, "4", "5")], []),
        ('"1\n2","3\n4"\n4,5', [(2, "1\n2", "3\n4"), (5, "4", "5")], []),
        ('"1\n2","3"4\n4,5', [(4, "4", "5")], [(2, "followed by '4'"), (3, "followed by '4'")]),
        ('1,"x\n2,y\n3,z"\n4,"w"', [(3, "2", "y"), (4, "3", 'z"'), (5, "4", "w")], [(2, "record by itself")]),
        ('1,"x\n2,y"\n3,z', [(3, "2", 'y"'), (4, "3", "z")], [(2, "record by itself")]),
        ('1,"x', [], [(2, "does not close to the end of the file")]),
        ('1,"x"y\n2,z', [(3, "2", "z")], [(2, "followed by 'y'")]),
        ("1\n1,2\n1,2,3\n,", [(3, "1", "2"), (5, None, None)], [(2, "1 values, the header has 2"), (4, "3 values")]),
        ("1,a\rb\n2,c", [(3, "2", "c")], [(2, "carriage return")]),
        ("1,a\0b\n2,c", [(3, "2", "c")], [(2, "NUL")]),
        ("1," + "a" * 1100 + "\n2,c", [(3, "2", "c")], [(2, "longer than `max_record_bytes`=1024")]),
    ],
)
def test_records(tmp_path, body, rows, bad):
    (tmp_path / "x.csv").write_text("a,b\n" + body, newline="")
    found, rejected = read(tmp_path, "a", "b", max_record_bytes=1024)
    assert found == rows and [line for line, _, _ in rejected] == [line for line, _ in bad]
    assert all(what in rejected[i][2] for i, (_, what) in enumerate(bad))


def test_a_quoted_value_that_is_too_long_costs_its_lines(tmp_path):
    (tmp_path / "x.csv").write_text('a,b\n1,"' + "a\n" * 600 + '"\n2,c')
    rows, rejected = read(tmp_path, "a", "b", max_record_bytes=1024)
    assert rows == [(603, "2", "c")] and "does not close within `max_record_bytes`=1024" in rejected[0][2]
    assert [line for line, _, _ in rejected] == list(range(2, 603))


def test_bytes_that_are_no_text_cost_their_row(tmp_path):
    (tmp_path / "x.csv").write_bytes("a,b\nł,1\n\xff,2\n3,é\n".encode().replace(b"\xc3\xbf", b"\xff"))
    rows, rejected = read(tmp_path, "a", "b")
    assert rows == [(2, "ł", "1"), (4, "3", "é")]
    assert [(line, text) for line, text, _ in rejected] == [(3, "\\xff,2")]


def test_null_values_and_delimiters_are_settings(tmp_path):
    (tmp_path / "x.csv").write_text("a;b;c\nNULL;\\N;nan\nnull;-;x|y\n")
    assert read(tmp_path, "a", "b", "c", delimiter=";")[0] == [(2, None, None, None), (3, "null", "-", "x|y")]
    assert read(tmp_path, "a", "b", delimiter=";", null_values=["-"])[0] == [(2, "NULL", "\\N"), (3, "null", None)]
    (tmp_path / "x.csv").rename(tmp_path / "x.dat")
    (tmp_path / "y.tsv").write_text("a\tb,c\n1\t2\n")
    assert read(tmp_path, "a", "b,c")[0] == [(2, "1", "2")]


def test_blocks_join_records_that_span_them(tmp_path, monkeypatch):
    monkeypatch.setattr(records, "BLOCK_BYTES", 100)
    monkeypatch.setattr("features.ingest.reading.streams.CHUNK_BYTES", 37)
    body = [(f"{i}", f"x{i}\n" * (i % 9) + "y") for i in range(300)]
    (tmp_path / "x.csv").write_text("a,b\n" + "".join(f'{a},"{b}"\n' for a, b in body))
    rows, rejected = read(tmp_path, "a", "b")
    assert [row[1:] for row in rows] == body and not rejected
    assert [row[0] for row in rows] == [2 + sum(i % 9 + 1 for i in range(n)) for n in range(300)]


def test_a_line_without_end_takes_no_memory_and_no_neighbour(tmp_path, monkeypatch):
    monkeypatch.setattr(records, "BLOCK_BYTES", 1 << 12)
    monkeypatch.setattr("features.ingest.reading.streams.CHUNK_BYTES", 1 << 10)
    (tmp_path / "x.csv").write_text("a,b\n1,2\n" + "x" * 200_000 + "\n3,4\n")
    rows, rejected = read(tmp_path, "a", "b", max_record_bytes=2048)
    assert rows == [(2, "1", "2"), (4, "3", "4")]
    assert [(line, len(text)) for line, text, _ in rejected] == [(3, records.SHOWN_BYTES)]


@pytest.mark.parametrize("quoted", [False, True])
def test_large_text_is_read_in_parts(tmp_path, monkeypatch, quoted):
    monkeypatch.setattr(units, "SPLIT_BYTES", 4_000)
    monkeypatch.setattr(units, "CHUNK_BYTES", 700)
    lines = [f"{i},x{i}" for i in range(3_000)]
    lines[1_200] = '1200,"x\n1200"'
    lines[2_500] = "2500,"
    if quoted:
        lines = [f'{i},"x{i}"' for i in range(3_000)]
    (tmp_path / "x.csv").write_text("\n".join(["a,b", *lines]))
    table = TableConfig(path=str(tmp_path), max_record_bytes=1024)
    plan = units.plan_reads(find_files(table, "impressions"), table)
    # Where a quote is near every line end, no part can begin.
    assert (len(plan) == 1) if quoted else (len(plan) > 4)
    assert [unit.index for unit in plan] == list(range(len(plan)))
    text = (tmp_path / "x.csv").read_text()
    for unit in plan[1:]:
        assert text[unit.start - 1] == "\n" and '"' not in text[unit.start - 1024 : unit.start + 1024]
    rows, rejected = read(tmp_path, "a", "b", max_record_bytes=1024)
    assert [row[1] for row in rows] == [str(i) for i in range(3_000)] and not rejected
    shift = 0 if quoted else 1
    assert [row[0] for row in rows] == [2 + i + shift * (i > 1_200) for i in range(3_000)]


def naive(text: str, fields: int, longest: int) -> tuple[list, list]:
    """Reads by the contract, character by character: (line, values) of records, and the lines that are none."""
    lines = text.split("\n")
    if lines[-1] == "":
        lines.pop()

    def parse(joined: str) -> list[str] | None:
        values, i = [], 0
        while True:
            value = ""
            if joined[i : i + 1] == '"':
                i += 1
                while True:
                    if i >= len(joined):
                        return None
                    if joined[i] == '"':
                        if joined[i + 1 : i + 2] != '"':
                            break
                        i += 1
                    value += joined[i]
                    i += 1
                i += 1
                if i < len(joined) and joined[i] != ",":
                    return None
            else:
                while i < len(joined) and joined[i] not in ",\n":
                    value += joined[i]
                    i += 1
                if i < len(joined) and joined[i] == "\n":
                    return None
            values.append(value)
            if i >= len(joined):
                return values
            i += 1

    def literal(line: str) -> bool:
        return line.count(",") + 1 == fields

    found, bad, at = [], [], 0
    while at < len(lines):
        if lines[at] == "":
            at += 1
            continue
        values, last = parse(lines[at]), at
        if values is None:
            for last in range(at + 1, len(lines)):
                joined = "\n".join(lines[at : last + 1])
                if len(joined) > longest:
                    break
                values = parse(joined)
                if values is not None:
                    break
            inner = lines[at + 1 : last]
            swallowed = any(line and len(parse(line) or []) == fields for line in inner)
            if last == at + 1 and literal(lines[at]) and literal(lines[last]):
                swallowed = True
            if values is None or swallowed:
                values, last = None, at
        if values is not None and len(values) == fields:
            found.append((at + 1, *[value or None for value in values]))
            at = last + 1
        elif values is not None:
            bad.append(at + 1)
            at = last + 1
        else:
            bad.append(at + 1)
            at += 1
    return found, bad


@given(st.integers(0, 2**32), st.integers(1, 3), st.sampled_from([1 << 24, 40]))
@settings(max_examples=300, deadline=None)
def test_records_are_those_of_the_contract(tmp_path_factory, seed, fields, block):
    generator = random.Random(seed)
    alphabet = generator.choice(['a,"\n', 'ab,,"\n\n', 'aaa,\n"', 'a,\n""""', 'aaaaa,,,\n\n"'])
    text = "".join(generator.choice(alphabet) for _ in range(generator.randrange(1, 150)))
    header = ",".join("xyz"[:fields])
    path = tmp_path_factory.mktemp("csv") / "x.csv"
    path.write_text(f"{header}\n{text}")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(records, "BLOCK_BYTES", block)
        patch.setattr("features.ingest.reading.streams.CHUNK_BYTES", max(block // 3, 7))
        rows, rejected = read(path, *"xyz"[:fields], max_record_bytes=1024)
    expected, bad = naive(text, fields, 1024)
    assert [(row[0] - 1, *row[1:]) for row in rows] == expected
    assert [line - 1 for line, _, _ in rejected] == bad


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ('a,"b', "x.csv: its header has a quote that does not close"),
        ('a,"b"c', "its header has a quote"),
        ("a,b,a", "more than one column `a`"),
        ("a\0,b", "its header holds NUL bytes"),
        ("a,b" + "c" * 70_000, "its header is longer than `max_record_bytes`"),
    ],
)
def test_a_header_that_is_none_is_an_error(tmp_path, header, message):
    (tmp_path / "x.csv").write_text(f"{header}\n1,2\n")
    with pytest.raises(LogContractError, match=message):
        read(tmp_path, "a", "b")

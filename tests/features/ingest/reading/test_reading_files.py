"""Which files a table has, what each is, and which columns it has."""

from __future__ import annotations

import gzip
import inspect
import os

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from features import storage
from features.ingest.config import TableConfig
from features.ingest.reading import units
from features.ingest.reading.files import check_columns, find_files
from features.log_contract import LogContractError

_WRITES_CHECKSUMS = "write_page_checksum" in inspect.signature(pq.ParquetWriter.__init__).parameters


def names(found, root):
    return [os.path.relpath(file.path, root) for file in found.files]


def read(path, *columns, **config):
    table = TableConfig(path=str(path), **config)
    plan = units.plan_reads(find_files(table, "impressions", columns), table)
    batches = [raw for unit in plan for raw in units.read_batches(unit, table, dict.fromkeys(columns, "string"))]
    return [tuple(row.values()) for raw in batches for row in raw.batch.to_pylist()]


def test_files_are_read_or_named(tmp_path):
    for name in ("a.csv", "b.tsv", "c.CSV.gz", "sub/d.csv", "part [1].csv", "e.csv.zip", "f.csv.2026-11-14", "README"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(gzip.compress(b"a\n1\n") if name.endswith("gz") else b"a\n1\n")
    for name in ("_SUCCESS", ".part.csv.crc", "_delta_log/x.csv", ".x.csv"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x")
    pq.write_table(pa.table({"a": ["1"]}), tmp_path / "part-00003")
    found = find_files(TableConfig(path=str(tmp_path)), "impressions")
    assert names(found, tmp_path) == ["a.csv", "b.tsv", "c.CSV.gz", "part [1].csv", "part-00003", "sub/d.csv"]
    assert [storage.name(path) for path in found.passed_over] == ["README", "e.csv.zip", "f.csv.2026-11-14"]
    assert [file.format for file in found.files] == ["csv", "csv", "csv", "csv", "parquet", "csv"]
    assert read(tmp_path, "a") == [("1",)] * 6
    assert read(tmp_path / "part [1].csv", "a") == [("1",)]
    assert read(tmp_path / "f.csv.*", "a", format="csv") == [("1",)]
    assert len(find_files(TableConfig(path=f"{tmp_path}/*"), "impressions").files) == 6
    with pytest.raises(LogContractError, match="impressions`: .*/README: no .parquet.*format.*Passed over.*README"):
        read(tmp_path / "README", "a")


def test_links_are_followed_once(tmp_path):
    (tmp_path / "elsewhere/deep").mkdir(parents=True)
    (tmp_path / "elsewhere/deep/x.csv").write_text("a\n1\n")
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs/y.csv").write_text("a\n2\n")
    (tmp_path / "logs/linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "logs/again").symlink_to(tmp_path / "logs")  # A loop.
    (tmp_path / "logs/a-second-name.csv").symlink_to(tmp_path / "logs/y.csv")
    (tmp_path / "elsewhere/up").symlink_to(tmp_path / "logs")
    found = find_files(TableConfig(path=str(tmp_path / "logs")), "impressions")
    assert names(found, tmp_path) == ["logs/linked/deep/x.csv", "logs/y.csv"]
    assert names(find_files(TableConfig(path=f"{tmp_path}/logs/*"), "impressions"), tmp_path) == names(found, tmp_path)


@pytest.mark.parametrize("kind", ["link", "pipe"])
def test_links_to_nothing_and_pipes_are_named(tmp_path, kind):
    (tmp_path / "a.csv").write_text("a\n1\n")
    for name in ("_hidden.csv", "b.csv"):
        if kind == "link":
            (tmp_path / name).symlink_to(tmp_path / "nothing.csv")
        else:
            os.mkfifo(tmp_path / name)
        if name == "_hidden.csv":
            assert read(tmp_path, "a") == [("1",)]
    with pytest.raises(LogContractError, match=r"b\.csv is (a link that leads nowhere|no file)"):
        read(tmp_path, "a")
    with pytest.raises(LogContractError, match=r"b\.csv is (a link that leads nowhere|no file)"):
        read(tmp_path / "b.csv", "a")


def test_folders_are_columns(tmp_path):
    for folder in ("day=2026-11-25/shop=a%2Fb", "day=2026-11-26/shop=__HIVE_DEFAULT_PARTITION__"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "x.csv").write_text("a\n1\n2\n")
        (tmp_path / folder / "y.jsonl").write_text('{"a": 1}\n{"a": 2, "shop": "own"}\n')
        pq.write_table(pa.table({"a": ["1", "2"], "day": ["own", None]}), tmp_path / folder / "z.parquet")
    found = find_files(TableConfig(path=str(tmp_path)), "impressions", ["day", "shop"])
    assert found.files[0].columns == {"a": pa.string(), "day": pa.string(), "shop": pa.string()}
    rows = read(tmp_path, "day", "a", "shop")
    first = "2026-11-25"
    assert rows[:2] == [(first, "1", "a/b"), (first, "2", "a/b")]
    assert rows[2:4] == [(first, 1, None), (first, 2, "own")]  # The file has a column of that name.
    assert rows[4:7] == [("own", "1", "a/b"), (None, "2", "a/b"), ("2026-11-26", "1", None)]
    assert read(f"{tmp_path}/*/shop=a*/x.csv", "day", "a") == [(first, "1"), (first, "2")]


def test_columns_differ_from_file_to_file(tmp_path):
    (tmp_path / "a.csv").write_text("a\n1\n")
    (tmp_path / "b.csv").write_text("label,a\norder,2\n")
    (tmp_path / "c.jsonl").write_text('{"a": 3, "label": "view"}\n')
    (tmp_path / "d.csv").write_text("label\nx\n")
    files = find_files(TableConfig(path=str(tmp_path)), "clicks").files
    assert [list(file.columns) for file in files] == [["a"], ["label", "a"], ["a", "label"], ["label"]]
    assert read(tmp_path, "a", "label") == [("1", None), ("2", "order"), (3, "view"), (None, "x")]


def test_empty_files_hold_no_rows_and_lack_no_column(tmp_path):
    for name in ("a.csv", "b.jsonl"):
        (tmp_path / name).write_text("")
    (tmp_path / "c.csv").write_text("\n\n")
    (tmp_path / "d.csv").write_text("a")
    (tmp_path / "e.csv.gz").write_bytes(gzip.compress(b""))
    (tmp_path / "f.csv").write_text("a\n1\n")
    pq.write_table(pa.table({"a": pa.array([], pa.string())}), tmp_path / "g.parquet")
    found = find_files(TableConfig(path=str(tmp_path)), "impressions", ["a"])
    for file in found.files:
        check_columns(file, "impressions", ["a"])
    assert [file.empty for file in found.files] == [True, True, True, False, True, False, False]
    assert read(tmp_path, "a") == [("1",)]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "b.csv",
            "r1,5\nr2,6\n",
            r"b.csv: has no column `a`, .*is of another table, or has no header.*first line: 'r1,5'",
        ),
        ("b.csv", "a;b\n1;2\n", r"b.csv: has no column `a`, .*separated by ';', not by ','"),
        ("b.csv", '{"a": 1}\n', r"b.csv: has no column `a`, .*looks like JSON Lines"),
        ("b.csv", "A,b\n1,2\n", r"b.csv: has no column `a`, which each file of table `impressions` needs"),
        ("manifest.json", '{"files": 3}\n', r"manifest.json: has no column `a`, .*It has: files"),
        ("manifest.json", '{\n"files": 3\n}\n', r"manifest.json: has no column `a`, .*must be one JSON object"),
        ("b.jsonl", "\0" * 1000, r"b.jsonl: has no column `a`"),
    ],
)
def test_files_that_lack_a_required_column_are_named(tmp_path, name, content, message):
    (tmp_path / "a.csv").write_text("a,b\n1,2\n")
    (tmp_path / name).write_text(content)
    found = find_files(TableConfig(path=str(tmp_path)), "impressions", ["a"])
    with pytest.raises(LogContractError, match=message):
        for file in found.files:
            check_columns(file, "impressions", ["a"])


PARQUET = pa.table({"a": ["1"] * 1000})


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.csv", "a,b\n1,2\n".encode("utf-16"), "x.csv: .*UTF-16: set the table's `encoding: utf-16`"),
        ("x.jsonl", '{"a": 1}'.encode("utf-32"), "x.jsonl: .*UTF-32: set the table's `encoding: utf-32`"),
        ("x.csv", "a,b\n1,2\n".encode("utf-16-le"), "x.csv: its header holds NUL bytes.*utf-16-le"),
        ("x.csv", PARQUET, "x.csv: is no plain text.* but a Parquet file"),
        ("x.csv", gzip.compress(b"a\n1\n"), r"x.csv: .* but a gzip file \(.gz\)"),
        ("x.csv", b"PK\x03\x04....", "x.csv: .* a zip archive or an Excel file"),
        ("x.csv", b"a,b\r1,2\r3,4\r", "x.csv: ends its lines by carriage returns alone"),
        ("x.csv", b"\0" * 5000, "x.csv: its header holds NUL bytes"),
        ("x.csv", b"a,\xff\n1,2\n", "x.csv: its header is not of the encoding"),
        ("x.parquet", b"a,b\n1,2\n", "x.parquet: is no Parquet file.*text that is not packed"),
        ("x.parquet", b"", "x.parquet: is no Parquet file.*is empty"),
        ("x.parquet", b"PARE" + b"x" * 100 + b"PARE", "x.parquet: is an encrypted Parquet file"),
        ("x.parquet", b"PAR1" + b"x" * 100 + b"PAR1", "x.parquet: is a Parquet file whose footer cannot be read"),
        ("x.parquet", b"PAR1" + b"x" * 100, "x.parquet: is a Parquet file whose footer cannot be read"),
        ("x.parquet", b"PAR1", "x.parquet: is a Parquet file whose footer cannot be read"),
    ],
    ids=range(15),
)
def test_files_that_are_not_what_their_name_says_are_named(tmp_path, name, content, message):
    if isinstance(content, pa.Table):
        pq.write_table(content, tmp_path / "p")
        content = (tmp_path / "p").read_bytes()
        (tmp_path / "p").unlink()
    (tmp_path / name).write_bytes(content)
    with pytest.raises(LogContractError, match=message):
        find_files(TableConfig(path=str(tmp_path)), "impressions")


def test_a_damaged_page_names_the_row_group(tmp_path):
    table = pa.table({"a": [str(i * 7919 % 10_007) for i in range(4000)], "b": range(4000)})
    pq.write_table(table, tmp_path / "x.parquet", row_group_size=1000, use_dictionary=False, compression="zstd")
    footer = pq.ParquetFile(tmp_path / "x.parquet").metadata
    column = footer.row_group(2).column(0)
    content = bytearray((tmp_path / "x.parquet").read_bytes())
    for place in range(column.data_page_offset, column.data_page_offset + column.total_compressed_size):
        content[place] ^= 0x5A
    (tmp_path / "x.parquet").write_bytes(content)
    with pytest.raises(LogContractError, match=r"x.parquet: row group 2 \(rows from 2001\) .*damaged"):
        read(tmp_path, "a")
    assert len(read(tmp_path, "b")) == 4000


@pytest.mark.skipif(not _WRITES_CHECKSUMS, reason="Arrow 10 neither writes nor verifies checksums of pages")
def test_checksums_of_pages_are_verified(tmp_path):
    table = pa.table({"a": pa.array(range(1000), pa.int64())})
    pq.write_table(table, tmp_path / "x.parquet", use_dictionary=False, compression="none", write_page_checksum=True)
    content = bytearray((tmp_path / "x.parquet").read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / "x.parquet").write_bytes(content)
    with pytest.raises(LogContractError, match="x.parquet: row group 0 .*CRC"):
        read(tmp_path, "a")


def test_row_groups_are_units_and_positions_are_rows_of_the_file(tmp_path, monkeypatch):
    monkeypatch.setattr(units, "BATCH_ROWS", 10)
    pq.write_table(pa.table({"a": [str(i) for i in range(300)]}), tmp_path / "x.parquet", row_group_size=50)
    table = TableConfig(path=str(tmp_path))
    plan = units.plan_reads(find_files(table, "impressions"), table)
    assert [(unit.index, unit.rows) for unit in plan] == [(0, 100), (1, 100), (2, 100)]
    for columns in ({"a": "string"}, {"absent": "string"}):
        places = [
            place
            for unit in plan
            for raw in units.read_batches(unit, table, columns)
            for place in units.locate(unit, raw.positions)
        ]
        assert places == list(range(1, 301))


def test_a_column_twice_in_parquet_is_an_error(tmp_path):
    table = pa.table([["1"], ["2"], ["3"]], names=["a", "b", "a"])
    pq.write_table(table, tmp_path / "x.parquet")
    assert read(tmp_path, "b") == [("2",)]
    with pytest.raises(LogContractError, match="x.parquet: has more than one column `a`"):
        read(tmp_path, "a", "b")


def test_tables_lie_on_any_file_system(tmp_path):
    root = "memory://reading-tests/logs"
    try:
        storage.write_bytes(f"{root}/day=1/x.csv.gz", gzip.compress(b"a\n1\n"))
        storage.write_text(f"{root}/day=2/y.jsonl", '{"a": "2"}\n')
        storage.write_text(f"{root}/_SUCCESS", "")
        assert read(root, "a", "day") == [("1", "1"), ("2", "2")]
        assert read(f"{root}/*/x.csv.gz", "day") == [("1",)]
    finally:
        storage.delete("memory://reading-tests")

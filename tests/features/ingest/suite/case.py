"""A kind of bad input: how its files are made, and what must come of it. The cases are in `*_cases.py` beside this."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

T = 1_700_000_000_000
MINUTE, HOUR, DAY = 60_000, 3_600_000, 86_400_000
HEADER = "request_id,timestamp,user_id,item_id,click,hour"
ITEMS = "item_id,price\n" + "".join(f"i{n},{n}.5\n" for n in range(5))
GOOD = 20
BAD_LINE = 12
"""The line of the first bad row that `spoilt` puts among the good ones."""

SPEC: dict[str, Any] = {
    "name": "suite",
    "features": [
        {"name": "hour", "table": "impressions", "dtype": "int64"},
        {"name": "price", "table": "items", "kind": "numeric"},
    ],
}

Content = str | bytes | pa.Table | Callable[[Path], object]


@dataclasses.dataclass(frozen=True)
class BadInput:
    """A kind of bad input.

    Attributes:
      name: of the kind.
      files: {path in the log's folder: what is in it}. Its first part is the table. A function makes the file itself.
      letters: {table: {reason: lines of its dead letters}}, over all files of the table; None: an error comes.
      error: parts of the message of the error that must come; `letters` may stand beside it.
      counts: {table: {field: value}} that must hold, among others.
      config, spec: keys of the configuration and of the spec that are otherwise.
      tables: {table: keys of its configuration beside the path}.
      check: is given the folder, where `out` holds what was written; raises what is wrong.
      runs: 2: the second into the same directories.
      limit: seconds.
    """

    name: str
    files: Mapping[str, Content]
    letters: Mapping[str, Mapping[str, Sequence[int]]] | None = None
    error: Sequence[str] = ()
    counts: Mapping[str, Mapping[str, Any]] = dataclasses.field(default_factory=dict)
    config: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    spec: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    tables: Mapping[str, Mapping[str, Any]] = dataclasses.field(default_factory=dict)
    check: Callable[[Path], None] | None = None
    limit: float = 20

    def write(self, folder: Path) -> None:
        """Makes the files."""
        files = {"items/items.csv": ITEMS, **self.files}
        for name, content in files.items():
            path = folder / "log" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if callable(content):
                content(path)
            elif isinstance(content, pa.Table):
                pq.write_table(content, path)
            else:
                path.write_bytes(content.encode() if isinstance(content, str) else content)

    def settings(self, folder: Path) -> dict[str, Any]:
        """Returns the configuration of the ingestion, as YAML holds it."""
        names = dict.fromkeys(["items", *(name.split("/")[0] for name in self.files)])
        tables = {name: {"path": str(folder / "log" / name), **self.tables.get(name, {})} for name in names}
        values = {"tables": tables, "split": {"eval_fraction": 0, "test_fraction": 0}, "max_bad_row_fraction": 1.0}
        return {**values, "num_shards": 2, "attribution_window_hours": 1.0, **self.config}


def good(count: int = GOOD, start: int = 0) -> list[str]:
    """Returns good lines of impressions: a request of two rows after the other, every third row clicked."""
    return [
        f"r{n // 2},{T + n // 2 * MINUTE},u{n // 2 % 3},i{n % 5},{int(n % 3 == 0)},{n % 24}"
        for n in range(start, start + count)
    ]


def lines(*rows: str | bytes, end: str = "\n", header: str | None = HEADER) -> bytes:
    """Returns the bytes of a text file."""
    given = rows if header is None else (header, *rows)
    return b"".join((row.encode() if isinstance(row, str) else row) + end.encode() for row in given)


def spoilt(*bad: str | bytes) -> bytes:
    """Returns a CSV of impressions with ten good rows, the bad ones (from line `BAD_LINE`) and ten good ones."""
    return lines(*good(10), *bad, *good(10, 10))


def row(request: Any = "bad", time: Any = T, user: Any = "u9", item: Any = "i1", click: Any = 0, hour: Any = 3) -> str:
    """Returns a line of impressions, good as it stands."""
    return ",".join(map(str, (request, time, user, item, click, hour)))


def as_json(line: str, **changes: Any) -> str:
    """Returns a line of `good` as JSON, with other values."""
    request, time, user, item, click, hour = line.split(",")
    values = {"request_id": request, "timestamp": int(time), "user_id": user, "item_id": item}
    return json.dumps(values | {"click": int(click), "hour": int(hour)} | changes)


def spoilt_json(*bad: str | bytes) -> bytes:
    """As `spoilt`, in JSON Lines: the first bad line is `BAD_LINE` - 1."""
    return lines(*map(as_json, good(10)), *bad, *map(as_json, good(10, 10)), header=None)


def table_of(rows: Sequence[str], **columns: Any) -> pa.Table:
    """Returns lines of `good` as an Arrow table, some columns otherwise."""
    values = [json.loads(as_json(each)) for each in rows]
    names = HEADER.split(",")
    return pa.table({name: [value[name] for value in values] for name in names} | columns)


def one_letter(name: str, reason: str, *bad: str | bytes, **more: Any) -> BadInput:
    """A CSV whose bad rows all have a reason."""
    found = range(BAD_LINE, BAD_LINE + len(bad))
    letters = {"impressions": {reason: list(found)}}
    return BadInput(name, {"impressions/a.csv": spoilt(*bad)}, letters, **more)


def kept(name: str, *rows: str | bytes, **more: Any) -> BadInput:
    """A CSV whose odd rows are all kept."""
    counts = {"impressions": {"kept": GOOD + len(rows)}}
    return BadInput(name, {"impressions/a.csv": spoilt(*rows)}, {}, **{"counts": counts, **more})


def refused(name: str, files: Mapping[str, Content], *parts: str, **more: Any) -> BadInput:
    """Files for which an error comes."""
    return BadInput(name, files, None, parts, **more)


#: A good file that other files stand beside.
FIRST = {"impressions/a.csv": lines(*good())}

"""Which of somebody's files is which table of the contract, and how it is written: by name and by a look inside."""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from collections.abc import Sequence

import pyarrow as pa

from features import storage
from features.errors import InputError, NotFoundError
from features.ingest.config import TableConfig
from features.ingest.reading.files import find_files
from features.log_contract import TABLES

#: What logs of other houses call the columns of the contract, in the order of preference.
SYNONYMS = {
    "request_id": ("request_id", "session_id", "search_id", "impression_id", "query_id", "slate_id", "list_id"),
    "user_id": ("user_id", "user", "uid", "customer_id", "member_id", "visitor_id", "viewer_id", "account_id"),
    "item_id": (
        *("item_id", "item", "iid", "product_id", "movie_id", "article_id", "news_id", "video_id", "ad_id", "doc_id"),
        *("track_id", "listing_id", "offer_id", "sku", "asin"),
    ),
    "timestamp": ("timestamp", "time", "ts", "event_time", "event_timestamp", "datetime", "created_at", "date"),
    "position": ("position", "rank", "slot"),
    "propensity": ("propensity", "propensity_score", "pscore"),
    "label": ("label", "event_type", "event", "action", "behavior_type"),
}

_DELIMITERS = (",", "\t", ";", "|")
_PEEK_BYTES = 1 << 16
_SUFFIX = re.compile(r"\.(parquet|pq|tsv|jsonl|ndjson|json)(\.|$)", re.IGNORECASE)


@dataclasses.dataclass(frozen=True)
class GuessedTable:
    """A table as it was found.

    Attributes:
      config: where it lies and how it is written; its `columns` name the keys where the log calls them otherwise.
      columns: of its files, with their Arrow types; text is `string`, JSON `null`.
    """

    config: TableConfig
    columns: dict[str, pa.DataType]

    def key(self, name: str) -> str | None:
        """Returns what the files call a column of the contract; None: they have none."""
        source = self.config.source(name)
        return source if source in self.columns else None


def guess_tables(paths: Sequence[str]) -> dict[str, GuessedTable]:
    """Finds the tables of a log.

    Args:
      paths: of tables as `impressions=PATH`; of files or folders that are named as their table; of folders that hold
        such; or of files that are told by their columns.

    Raises:
      InputError: if a file's table cannot be told, or no table of impressions is there.
    """
    named: dict[str, TableConfig] = {}
    unnamed: list[TableConfig] = []
    for path in paths:
        name, equals, rest = path.partition("=")
        if equals and name in TABLES:
            named[name] = _look_inside(rest)
        else:
            for found in _tables_in(path):
                name = storage.name(found).split(".")[0].lower()
                if name in TABLES:
                    named.setdefault(name, _look_inside(found))
                else:
                    unnamed.append(_look_inside(found))
    tables = {name: _with_columns(name, config) for name, config in named.items()}
    for config in unnamed:
        table = _with_columns("", config)
        name = _role(table)
        if name is None:
            raise InputError(
                f"{config.path}: which table this is cannot be told by its columns ({', '.join(table.columns)}). "
                f"Say it: `impressions={config.path}`, or {', '.join(list(TABLES)[1:])}; or leave the file out."
            )
        if name in tables:
            raise InputError(
                f"{config.path} and {tables[name].config.path} both look like `{name}`: say which is, as in "
                f"`{name}={config.path}`, and what the other is."
            )
        tables[name] = table
    if "impressions" not in tables:
        raise InputError(
            f"no table of impressions found in {', '.join(paths)}: one with a user, an item and a time in each row. "
            "Say which it is: `impressions=PATH`."
        )
    return {name: tables[name] for name in TABLES if name in tables}


def plain_name(column: str) -> str:
    """Returns a name of letters, digits and `_` for a column: `userId` and `user_id:token` are `user_id`."""
    name = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", column.split(":")[0])
    name = re.sub(r"[^A-Za-z0-9]+", "_", name).strip("_").lower()
    return name if name[:1].isalpha() else f"column_{name}"


def _tables_in(path: str) -> list[str]:
    """A path itself; of a folder that holds tables (by name, or one a file), what it holds."""
    if not storage.is_folder(path) or storage.name(path).split(".")[0].lower() in TABLES:
        if not storage.match(path):
            raise NotFoundError(f"{path}: no such file or folder.")
        return [path]
    inside = [each for each in storage.entries(path) if not storage.name(each).startswith("_")]
    by_name = [each for each in inside if storage.name(each).split(".")[0].lower() in TABLES]
    found = by_name or [each for each in inside if storage.is_file(each) and _is_data(each)]
    if not found:
        raise InputError(
            f"{path}: no table found. Name folders or files {', '.join(TABLES)}, or say which is which: "
            "`impressions=PATH`."
        )
    return found


def _is_data(path: str) -> bool:
    """Whether a file holds rows: Parquet, JSON objects, or text whose first lines part into as many fields."""
    start = _start(path)
    return start[:4] == b"PAR1" or start.lstrip()[:1] == b"{" or _delimiter(start) is not None or _packed(path)


def _packed(path: str) -> bool:
    return path.lower().endswith((".gz", ".bz2", ".zst"))


def _look_inside(path: str) -> TableConfig:
    """How a table's files are written, where their names do not say it."""
    files = [file for file in storage.match(path) if not re.search(r"(^|/)[_.]", file[len(path) :])]
    if not files:
        raise NotFoundError(f"{path}: no such file, or a folder without one.")
    if _SUFFIX.search(storage.name(files[0])) or _packed(files[0]):
        return TableConfig(path=path)
    start = _start(files[0])
    if start[:4] == b"PAR1":
        return TableConfig(path=path, format="parquet")
    if start.lstrip()[:1] == b"{":
        return TableConfig(path=path, format="jsonl")
    csv = re.search(r"\.csv$", files[0], re.IGNORECASE) is not None
    delimiter = _delimiter(start)
    return TableConfig(path=path, format=None if csv else "csv", delimiter=None if delimiter == "," else delimiter)


def _start(path: str) -> bytes:
    with storage.open_read(path) as stream:
        return stream.read(_PEEK_BYTES)


def _delimiter(start: bytes) -> str | None:
    """The character that parts the first lines into the same number of fields, two at least; None: there is none."""
    lines = start.decode("utf-8", "replace").splitlines()[:50]
    lines = [line for line in (lines[:-1] or lines) if line.strip()]
    if not lines:
        return None
    scores = {}
    for delimiter in _DELIMITERS:
        counts = Counter(line.count(delimiter) for line in lines)
        if lines[0].count(delimiter):
            scores[delimiter] = (counts[lines[0].count(delimiter)], lines[0].count(delimiter))
    return max(scores, key=lambda each: scores[each]) if scores else None


def _with_columns(name: str, config: TableConfig) -> GuessedTable:
    found = find_files(config, name or "log", [])
    columns = {column: kind for file in found.files for column, kind in file.columns.items()}
    plain = {plain_name(column): column for column in reversed(columns)}
    keys = TABLES[name].required + TABLES[name].optional if name else tuple(SYNONYMS)
    renamed = {}
    for key in keys:
        source = next((plain[each] for each in SYNONYMS.get(key, (key,)) if each in plain), None)
        if source is not None and source != key and key not in columns:
            renamed[key] = source
    return GuessedTable(config.model_copy(update={"columns": renamed}), columns)


def _role(table: GuessedTable) -> str | None:
    has = {key: table.key(key) is not None for key in SYNONYMS}
    if has["user_id"] and has["item_id"] and has["timestamp"]:
        return "impressions"
    if has["request_id"] and has["item_id"] and has["timestamp"]:
        return "clicks"
    if has["item_id"] and not has["user_id"]:
        return "items"
    return "users" if has["user_id"] and not has["item_id"] else None

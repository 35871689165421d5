"""The tables of a log, row by row: which files, which columns, which rows are good, why the others are not."""

from __future__ import annotations

import dataclasses
import functools
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from features.ingest.config import IngestConfig, TableConfig
from features.spec import FeatureSpec
from tests.drills.ingest.naive_ingest.records import Record, format_of, read_file
from tests.drills.ingest.naive_ingest.values import (
    MAX_TIMESTAMP,
    MIN_TIMESTAMP,
    SCALARS,
    Misfit,
    as_float,
    as_integer,
    as_list,
    as_milliseconds,
    as_text,
    missing,
)

KEYS = {
    "impressions": ("request_id", "timestamp", "user_id", "item_id"),
    "clicks": ("request_id", "timestamp", "item_id"),
    "items": ("item_id",),
    "users": ("user_id",),
    "behaviors": ("timestamp", "user_id", "item_id"),
}
SPLIT_NAMES = ("train", "eval", "test")
#: In the order of the contract: of a row with several faults the first one is the reason.
RANKS = {
    reason: rank
    for rank, reason in enumerate(
        (
            "null_request_id",
            "bad_timestamp",
            "null_user_id",
            "null_item_id",
            "bad_position",
            "bad_propensity",
            "bad_label",
            "bad_split",
            "bad_value",
        )
    )
}


@dataclasses.dataclass
class Row:
    """A good row: `order` is its place in the table, `values` are by name in Clickmill."""

    table: str
    file: str
    line: int
    order: tuple[int, int]
    values: dict[str, Any]

    def __getitem__(self, name: str) -> Any:
        return self.values[name]


@dataclasses.dataclass(frozen=True)
class Letter:
    table: str
    reason: str
    file: str
    line: int


class Fault(Exception):
    """What is wrong with a value."""

    def __init__(self, reason: str):
        super().__init__(reason)
        self.reason = reason


@dataclasses.dataclass(frozen=True)
class Column:
    """A column that is read: its name in the files, in Clickmill, and what makes its value (raises `Fault`)."""

    source: str
    name: str
    convert: Callable[[Any], Any]


def files_of(table: TableConfig) -> list[tuple[Path, dict[str, str]]]:
    """Returns the files of a table, in the order of their paths, each with the values of its partition directories."""
    base = Path(table.path)
    if base.is_file():
        return [(base, {})]
    found, below_it, walked = [], [], set()
    for folder, folders, names in os.walk(base, followlinks=True):
        if os.path.realpath(folder) in walked:  # A link to a folder above.
            folders.clear()
            continue
        walked.add(os.path.realpath(folder))
        below_it += [Path(folder, name) for name in names]
    for path in sorted(below_it, key=str):
        below = path.relative_to(base).parts
        if path.is_file() and not any(part[0] in "_." for part in below) and format_of(path, table):
            found.append((path, dict(part.split("=", 1) for part in below[:-1] if "=" in part)))
    return found


@dataclasses.dataclass
class Log:
    """The tables as read: files with their columns and records, and what follows from all of them."""

    config: IngestConfig
    spec: FeatureSpec
    tables: dict[str, list[tuple[Path, set[str] | None, list[Record]]]]

    @classmethod
    def read(cls, config: IngestConfig, spec: FeatureSpec) -> Log:
        tables = {}
        for name, table in config.tables.given().items():
            tables[name] = []
            for path, partitions in files_of(table):
                columns, records = read_file(path, table)
                for record in records:
                    if record.values is not None:
                        for partition, value in partitions.items():
                            record.values.setdefault(partition, value)
                tables[name].append((path, None if columns is None else {*columns, *partitions}, records))
        return cls(config, spec, tables)

    def has(self, table: str, source: str) -> bool:
        """Whether any file of the table has the column."""
        for _, columns, records in self.tables[table]:
            if columns is None:
                if any(record.values and source in record.values for record in records):
                    return True
            elif source in columns:
                return True
        return False

    @functools.cached_property
    def id_types(self) -> dict[str, str]:
        """The type of `user_id` and `item_id`."""
        return {key: self._id_type(key) for key in ("user_id", "item_id")}

    def _id_type(self, key: str) -> str:
        for feature in self.spec.features:
            if feature.name == key and feature.column == key and feature.dtype == "int64":
                return "int64"
        for name, table in self.config.tables.given().items():
            if key not in KEYS[name]:
                continue
            for path, _, _ in self.tables[name]:
                if format_of(path, table) != "parquet":
                    return "string"
                if not pa.types.is_integer(pq.ParquetFile(path).schema_arrow.field(table.source(key)).type):
                    return "string"
        return "int64"

    def columns(self, table: str) -> list[Column]:
        """The columns of a table that are read."""
        config, spec, given = self.config, self.spec, self.config.tables.given()[table]

        def column(name: str, convert: Callable[[Any], Any], source: str | None = None) -> Column:
            return Column(given.source(source or name), name, convert)

        found = []
        for key in KEYS[table]:
            if key == "timestamp":
                convert = functools.partial(_instant, unit=given.timestamp_unit, zone=getattr(spec, "timezone", None))
            else:
                convert = functools.partial(_key, name=key, dtype=self.id_types.get(key, "string"))
            found.append(column(key, convert))
        if table == "impressions":
            if self.has(table, given.source("position")):
                found.append(column("position", _position))
            if self.has(table, given.source("propensity")):
                found.append(column("propensity", _propensity))
            if config.tables.clicks is None:
                for label in config.label_configs(spec):
                    convert = functools.partial(_label, at_least=label.at_least)
                    found.append(column(f"label {label.name}", convert, label.column))
            if config.split.column is not None:
                found.append(column("split", _split, config.split.column))
        if table == "clicks":
            if self.has(table, given.source("label")):
                found.append(column("label", _click_label))
            for label in config.label_configs(spec):
                if label.value is not None:
                    found.append(column(f"value {label.name}", _float_value, label.value))
        if table == "behaviors" and self.has(table, given.source("action")):
            found.append(column("action", functools.partial(_value, dtype="string", several=False)))
        for feature in spec.features:
            if feature.table == table and feature.column not in ("request_id", "timestamp", "user_id", "item_id"):
                convert = functools.partial(_value, dtype=feature.dtype, several=feature.multi_valued)
                found.append(column(f"feature {feature.name}", convert, feature.column))
        return found

    def rows(self, table: str) -> Iterator[Row | Letter]:
        """Yields every record of a table, in its order: a good row, or a dead letter."""
        given, columns = self.config.tables.given()[table], self.columns(table)
        nulls = set(given.null_values)
        for number, (path, _, records) in enumerate(self.tables[table]):
            is_csv = format_of(path, given) == "csv"
            for place, record in enumerate(records):
                if record.values is None:
                    yield Letter(table, "unparsable_row", str(path), record.line)
                    continue
                values, faults = {}, []
                for column in columns:
                    value = record.values.get(column.source)
                    if is_csv and isinstance(value, str) and value in nulls:
                        value = None
                    try:
                        values[column.name] = column.convert(value)
                    except Fault as fault:
                        faults.append(fault.reason)
                if faults:
                    yield Letter(table, min(faults, key=RANKS.__getitem__), str(path), record.line)
                else:
                    yield Row(table, str(path), record.line, (number, place), values)


def _key(value: Any, name: str, dtype: str) -> Any:
    try:
        value = SCALARS[dtype](value)
    except Misfit:
        raise Fault("bad_value") from None
    if value is None or value == "":
        raise Fault(f"null_{name}")
    return value


def _instant(value: Any, unit: str, zone: str | None) -> int:
    try:
        value = as_milliseconds(value, unit, zone)
    except Misfit:
        value = None
    if value is None or not MIN_TIMESTAMP <= value <= MAX_TIMESTAMP:
        raise Fault("bad_timestamp")
    return value


def _position(value: Any) -> int | None:
    try:
        value = as_integer(value)
    except Misfit:
        raise Fault("bad_position") from None
    if value is not None and not 0 <= value < 2**31:
        raise Fault("bad_position")
    return value


def _propensity(value: Any) -> float | None:
    try:
        value = as_float(value)
    except Misfit:
        raise Fault("bad_propensity") from None
    if value is not None and not 0 < value <= 1:
        raise Fault("bad_propensity")
    return value


def _label(value: Any, at_least: float | None) -> float:
    try:
        value = as_float(value)
    except Misfit:
        value = None
    if value is None:
        raise Fault("bad_label")
    if at_least is not None:
        return float(value >= at_least)
    if not 0 <= value <= 1:
        raise Fault("bad_label")
    return value


def _click_label(value: Any) -> str:
    try:
        value = as_text(value)
    except Misfit:
        value = None
    if value is None:
        raise Fault("bad_label")
    return value


def _split(value: Any) -> str:
    if value not in SPLIT_NAMES:
        raise Fault("bad_split")
    return value


def _float_value(value: Any) -> float | None:
    return _value(value, "float64", False)


def _value(value: Any, dtype: str, several: bool) -> Any:
    try:
        return as_list(value, dtype) if several else SCALARS[dtype](value)
    except Misfit:
        raise Fault("bad_value") from None


__all__ = ["KEYS", "Letter", "Log", "Row", "files_of", "missing"]

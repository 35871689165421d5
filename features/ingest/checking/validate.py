"""Row checks of LogIngest: raw batches to clean typed batches; bad rows to dead letters."""

from __future__ import annotations

import dataclasses
from collections import Counter

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from features.arrow import to_numpy
from features.config import nearest
from features.ingest.checking.columns import arrow_type, convert, none_bad, target_of, to_milliseconds
from features.ingest.checking.letters import UNIT_SHIFT, dead_letters, rows_as_json
from features.ingest.config import SPLITS, IngestConfig
from features.ingest.reading.readers import RawBatch, ReadUnit, read_schema
from features.log_contract import (
    MAX_TIMESTAMP,
    MIN_TIMESTAMP,
    TABLES,
    LogContractError,
    Reason,
)
from features.spec import KEY_COLUMNS, FeatureSpec

_NULL_KEY = {name: Reason(f"null_{name}") for name in ("request_id", "user_id", "item_id")}


@dataclasses.dataclass(frozen=True)
class Column:
    """A column to read: `source` in the file, `name` and `target` type afterwards, `role` chooses its check.

    Features are named `f:<feature>` and labels `l:<label>` on the way, so that they cannot meet the keys.
    """

    source: str
    name: str
    target: str
    role: str


@dataclasses.dataclass(frozen=True)
class TablePlan:
    """How a table is read and checked. `labels`: of `clicks.label`, in the order of their codes."""

    table: str
    path: str
    columns: tuple[Column, ...]
    labels: tuple[str, ...] = ()

    @property
    def sources(self) -> list[str]:
        return list(dict.fromkeys(column.source for column in self.columns))

    def has(self, name: str) -> bool:
        return any(column.name == name for column in self.columns)

    def empty(self) -> pa.RecordBatch:
        """Returns no rows, with the columns and types of checked rows."""
        types = {"position": pa.int32(), "label": pa.float32(), "split": pa.int8(), "click_label": pa.int8()}
        fields = [(c.name, types.get(c.role) or arrow_type(c.target)) for c in self.columns] + [("_order", pa.int64())]
        return pa.RecordBatch.from_arrays(
            [pa.array([], kind) for _, kind in fields], names=[name for name, _ in fields]
        )


def plan_tables(config: IngestConfig, spec: FeatureSpec) -> dict[str, TablePlan]:
    """Looks at the first file of each table and decides which columns are read, with which types.

    Raises:
      LogContractError: if a table that the spec needs is not given, or a required, feature, label or split column is
        missing; it names the nearest column that is there.
    """
    paths = {table: given.path for table, given in config.tables.given().items()}
    schemas = {table: read_schema(path) for table, path in paths.items()}
    for feature in spec.features:
        if feature.table not in paths and feature.column not in KEY_COLUMNS:
            raise LogContractError(
                f"feature `{feature.name}` comes from the table `{feature.table}`, which is not given: "
                f"set `tables.{feature.table}`."
            )
    key_types = {key: _key_type(key, spec, schemas["impressions"]) for key in ("user_id", "item_id")}
    key_types |= {"request_id": "string", "timestamp": "int64"}
    plans = {}
    for table, path in paths.items():
        names = schemas[table].names
        columns = [Column(key, key, key_types[key], key) for key in TABLES[table].required]
        for name, target in (("position", "int64"), ("propensity", "float64"), ("action", "string")):
            if name in TABLES[table].optional and name in names:
                columns.append(Column(name, name, target, name))
        if table == "clicks" and "label" in names:
            columns.append(Column("label", "_label_code", "string", "click_label"))
        if table == "impressions":
            if config.tables.clicks is None:
                columns += [Column(n, f"l:{n}", "float64", "label") for n in config.label_columns(spec)]
            if config.split.column is not None:
                columns.append(Column(config.split.column, "_split", "string", "split"))
        for feature in spec.features:
            if feature.table == table and feature.column not in KEY_COLUMNS:
                columns.append(Column(feature.column, f"f:{feature.name}", target_of(feature), "value"))
        for column in columns:
            if column.source not in names:
                raise LogContractError(
                    f"table `{table}` ({path}) has no column `{column.source}`.{nearest(column.source, names)} "
                    f"It has: {', '.join(names)}."
                )
        plans[table] = TablePlan(table, path, tuple(columns), config.label_columns(spec))
    return plans


def _key_type(key: str, spec: FeatureSpec, schema: pa.Schema) -> str:
    """Ids keep the type they are logged in, unless a feature made of the key says otherwise."""
    for feature in spec.features:
        if feature.column == key and feature.name == key:
            return feature.dtype
    return "int64" if key in schema.names and pa.types.is_integer(schema.field(key).type) else "string"


#: Why, which rows [N] bool, of which column, and what it must be.
_Bad = list[tuple[Reason, np.ndarray, Column, str]]


class RowChecker:
    """Checks the batches of one table."""

    def __init__(self, plan: TablePlan):
        self.plan = plan

    def check(self, raw: RawBatch, unit: ReadUnit) -> tuple[pa.RecordBatch, pa.RecordBatch | None, Counter]:
        """Returns the clean rows, the dead letters (None: no bad row) and the counts.

        Clean rows have the plan's columns and `_order`: int64, the place of the row in the table.
        """
        batch = raw.batch
        rows = batch.num_rows
        bad: _Bad = []
        arrays: dict[str, pa.Array] = {}
        for column in self.plan.columns:
            values = batch[column.source]
            if column.role == "timestamp":
                array, misfit = to_milliseconds(values)
            else:
                array, misfit = convert(values, column.target)
            array = self._check_column(column, array, misfit, bad)
            arrays[column.name] = array
        if self.plan.table == "clicks" and "_label_code" not in arrays:
            arrays["_label_code"] = pa.array(np.zeros(rows, np.int8))
        arrays["_order"] = pa.array(raw.positions + (unit.index << UNIT_SHIFT))
        clean = pa.RecordBatch.from_arrays(list(arrays.values()), names=list(arrays))

        dead, reasons = self._set_aside(raw, bad, unit)
        if bad:
            clean = clean.filter(pa.array(~np.logical_or.reduce([mask for _, mask, _, _ in bad])))
        tally = Counter({("reason", self.plan.table, reason.value): n for reason, n in reasons.items()})
        tally["table", self.plan.table, "rows_in"] = rows + len(raw.rejected)
        if "_label_code" in arrays:
            asked = pc.greater_equal(clean["_label_code"], 0)
            kept = clean.filter(asked)
            tally["table", self.plan.table, "ignored"] = clean.num_rows - kept.num_rows
            clean = kept
        return clean, dead, tally

    def _check_column(self, column: Column, array: pa.Array, misfit: np.ndarray, bad: _Bad) -> pa.Array:
        """Appends what is wrong to `bad` and returns the column for the clean rows (bad ones are dropped later)."""

        def flag(reason: Reason, mask: pa.Array | np.ndarray, what: str) -> None:
            mask = mask if isinstance(mask, np.ndarray) else to_numpy(pc.fill_null(mask, True))
            if mask.any():
                bad.append((reason, mask, column, what))

        role = column.role
        if role in _NULL_KEY:
            flag(Reason.BAD_VALUE, misfit, f"must be of type {column.target}")
            if array.null_count:
                flag(_NULL_KEY[role], array.is_null(), "is missing")
            if column.target == "string":
                flag(_NULL_KEY[role], pc.equal(array, ""), "is empty")
        elif role == "timestamp":
            inside = pc.and_(pc.greater_equal(array, MIN_TIMESTAMP), pc.less_equal(array, MAX_TIMESTAMP))
            flag(Reason.BAD_TIMESTAMP, pc.invert(inside), "must be UTC milliseconds from 1973 to 2100")
        elif role == "position":
            inside = pc.and_(pc.greater_equal(array, 0), pc.less(array, 2**31))
            flag(Reason.BAD_POSITION, pc.invert(inside), "must be an integer from 0")
            array = array.cast(pa.int32(), safe=False)
        elif role == "propensity":
            outside = pc.or_(pc.less_equal(array, 0.0), pc.greater(array, 1.0))
            flag(Reason.BAD_PROPENSITY, misfit | to_numpy(pc.fill_null(outside, False)), "must be in (0, 1]")
        elif role == "label":
            inside = pc.and_(pc.greater_equal(array, 0.0), pc.less_equal(array, 1.0))
            flag(Reason.BAD_LABEL, pc.invert(inside), "must be in [0, 1]")
            array = array.cast(pa.float32(), safe=False)
        elif role == "click_label":
            flag(Reason.BAD_LABEL, misfit | to_numpy(array.is_null()), "is missing")
            array = pc.fill_null(pc.index_in(array, pa.array(self.plan.labels, pa.string())), -1).cast(pa.int8())
        elif role == "split":
            code = pc.index_in(array, pa.array(SPLITS))
            flag(Reason.BAD_SPLIT, code.is_null(), f"must be one of {', '.join(SPLITS)}")
            array = code.cast(pa.int8())
        else:
            flag(Reason.BAD_VALUE, misfit, f"must be of type {column.target}")
        return array

    def _set_aside(self, raw: RawBatch, bad: _Bad, unit: ReadUnit) -> tuple[pa.RecordBatch | None, Counter]:
        batch, rejected = raw.batch, raw.rejected
        reasons: Counter = Counter()
        if not bad and not rejected:
            return None, reasons
        any_bad = np.logical_or.reduce([mask for _, mask, _, _ in bad]) if bad else none_bad(batch.num_rows)
        rows = np.flatnonzero(any_bad)
        found: dict[int, tuple[Reason, str]] = {}
        for reason, mask, column, what in bad:
            values = batch[column.source]
            for row in np.flatnonzero(mask):
                if row not in found:
                    found[row] = (reason, f"`{column.source}`={values[row].as_py()!r}: {what}.")
        names = [found[row][0] for row in rows] + [each.reason for each in rejected]
        details = [found[row][1] for row in rows] + [each.what for each in rejected]
        texts = rows_as_json(batch, any_bad) + [each.text for each in rejected]
        reasons.update(names)
        places = [int(raw.positions[row]) for row in rows] + [each.position for each in raw.rejected]
        return dead_letters(self.plan.table, names, details, texts, [unit] * len(names), places), reasons

"""Row checks of LogIngest: raw batches to clean typed batches; bad rows to dead letters."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from features.arrow import null_where, to_numpy
from features.ingest.checking.columns import convert, none_bad
from features.ingest.checking.letters import UNIT_SHIFT, dead_letters, rows_as_json
from features.ingest.checking.plan import UNIT_SEPARATOR, Column, TablePlan
from features.ingest.checking.timestamps import to_milliseconds
from features.ingest.config import SPLITS
from features.ingest.counts import MOST_FREQUENT
from features.ingest.reading.units import RawBatch, ReadUnit
from features.log_contract import MAX_TIMESTAMP, MIN_TIMESTAMP, Reason

_NULL_KEY = {name: Reason(f"null_{name}") for name in ("request_id", "user_id", "item_id")}
_PRECEDENCE = {reason: place for place, reason in enumerate(Reason)}

#: Of a value, in a detail; the row itself is told too.
_MAX_VALUE = 200

#: Why, which rows [N] bool, of which column, and what it must be.
_Bad = list[tuple[Reason, np.ndarray, Column, str]]


class RowChecker:
    """Checks the batches of one table."""

    def __init__(self, plan: TablePlan):
        self.plan = plan

    def check(self, raw: RawBatch, unit: ReadUnit) -> tuple[pa.RecordBatch, pa.RecordBatch | None, Counter]:
        """Returns the clean rows, the dead letters (None: no bad row) and the counts.

        Clean rows have the plan's columns and `_order`: int64, the place of the row in the table. The counts are
        under ("table", table, field), ("reason", table, reason) and ("ignored", value of `clicks.label`).
        """
        table, rows = self.plan.table, raw.batch.num_rows
        bad: _Bad = []
        arrays: dict[str, pa.Array] = {}
        for column in self.plan.columns:
            arrays[column.name] = self._check_column(column, raw.batch[column.source], bad)
        arrays = self._with_request_id(arrays)
        if table == "clicks" and "_label_code" not in arrays:
            arrays["_label_code"] = pa.array(np.zeros(rows, np.int8))
        arrays["_order"] = pa.array(raw.positions + (unit.index << UNIT_SHIFT))
        clean = pa.RecordBatch.from_arrays(list(arrays.values()), names=list(arrays))

        dead, reasons = self._set_aside(raw, bad, unit)
        if bad:
            clean = clean.filter(pa.array(~np.logical_or.reduce([mask for _, mask, _, _ in bad])))
        tally: Counter = Counter({("reason", table, reason.value): n for reason, n in reasons.items()})
        tally["table", table, "rows_in"] = rows + len(raw.rejected)
        if "_label_code" in arrays:
            asked = pc.greater_equal(clean["_label_code"], 0)
            kept = clean.filter(asked)
            tally["table", table, "ignored"] = clean.num_rows - kept.num_rows
            if kept.num_rows < clean.num_rows:
                tally.update(self._ignored_labels(raw, clean.filter(pc.invert(asked))))
            clean = kept
        return clean, dead, tally

    def _ignored_labels(self, raw: RawBatch, ignored: pa.RecordBatch) -> Counter:
        """Which labels nobody asked for, so that a misspelt one can be told."""
        (source,) = (column.source for column in self.plan.columns if column.role == "click_label")
        places = ignored["_order"].to_numpy() & ((1 << UNIT_SHIFT) - 1)
        values = convert(raw.batch[source], "string")[0].take(pa.array(np.searchsorted(raw.positions, places)))
        counted = Counter(dict(zip(*(field.to_pylist() for field in pc.value_counts(values).flatten()), strict=True)))
        return Counter({("ignored", str(value)): n for value, n in counted.most_common(MOST_FREQUENT)})

    def _with_request_id(self, arrays: dict[str, pa.Array]) -> dict[str, pa.Array]:
        """Makes the request id of its parts, where the log has none."""
        parts = [column.name for column in self.plan.columns if column.role == "request_part"]
        if not parts:
            return arrays
        texts = [pc.fill_null(arrays[name], "") for name in parts]
        joined = pc.binary_join_element_wise(*texts, UNIT_SEPARATOR)
        return {"request_id": joined} | {name: array for name, array in arrays.items() if name not in parts}

    def _check_column(self, column: Column, values: pa.Array, bad: _Bad) -> pa.Array:
        """Appends what is wrong to `bad` and returns the column for the clean rows (bad ones are dropped later)."""

        def flag(reason: Reason, mask: pa.Array | np.ndarray, what: str) -> None:
            mask = mask if isinstance(mask, np.ndarray) else to_numpy(pc.fill_null(mask, True))
            if mask.any():
                bad.append((reason, mask, column, what))

        role = column.role
        if role == "timestamp":
            return self._check_timestamp(values, flag)
        array, misfit = convert(values, column.target)
        if role in _NULL_KEY or role == "request_part":
            flag(Reason.BAD_VALUE, misfit, _must_be(column.target))
            null_key = _NULL_KEY.get(role, Reason.NULL_REQUEST_ID)
            if array.null_count:
                flag(null_key, to_numpy(array.is_null()) & ~misfit, "is missing")
            if column.target == "string":
                flag(null_key, to_numpy(pc.fill_null(pc.equal(array, ""), False)), "is empty")
        elif role == "position":
            outside = pc.or_(pc.less(array, 0), pc.greater_equal(array, 2**31))
            wrong = misfit | to_numpy(pc.fill_null(outside, False))
            flag(Reason.BAD_POSITION, wrong, "must be an integer from 0")
            array = null_where(array, wrong).cast(pa.int32())
        elif role == "propensity":
            outside = pc.or_(pc.less_equal(array, 0.0), pc.greater(array, 1.0))
            flag(Reason.BAD_PROPENSITY, misfit | to_numpy(pc.fill_null(outside, False)), "must be in (0, 1]")
        elif role == "label":
            array = self._check_label(column, array, flag)
        elif role == "click_label":
            flag(Reason.BAD_LABEL, misfit | to_numpy(array.is_null()), "is missing")
            array = pc.fill_null(pc.index_in(array, pa.array(self.plan.labels, pa.string())), -1).cast(pa.int8())
        elif role == "split":
            code = pc.index_in(array, pa.array(SPLITS))
            flag(Reason.BAD_SPLIT, code.is_null(), f"must be one of {', '.join(SPLITS)}")
            array = code.cast(pa.int8())
        elif role != "kept":
            flag(Reason.BAD_VALUE, misfit, _must_be(column.target))
        return array

    def _check_timestamp(self, values: pa.Array, flag: Any) -> pa.Array:
        array, _, no_zone = to_milliseconds(values, self.plan.config.timestamp_unit, self.plan.timezone)
        outside = pc.or_(pc.less(array, MIN_TIMESTAMP), pc.greater(array, MAX_TIMESTAMP))
        flag(Reason.BAD_TIMESTAMP, no_zone, "has no zone: set `timezone` in the feature spec")
        flag(
            Reason.BAD_TIMESTAMP,
            to_numpy(pc.fill_null(outside, True)) & ~no_zone,
            "must be a time from 1973 to 2100: UTC milliseconds (or set the table's `timestamp_unit`), or ISO 8601",
        )
        return array

    @staticmethod
    def _check_label(column: Column, array: pa.Array, flag: Any) -> pa.Array:
        if column.at_least is not None:
            flag(Reason.BAD_LABEL, array.is_null(), "must be a number")
            return pc.greater_equal(array, column.at_least).cast(pa.int8()).cast(pa.float32())
        inside = pc.and_(pc.greater_equal(array, 0.0), pc.less_equal(array, 1.0))
        flag(Reason.BAD_LABEL, pc.invert(inside), "must be in [0, 1] (or say `at_least` of the label)")
        return array.cast(pa.float32(), safe=False)

    def _set_aside(self, raw: RawBatch, bad: _Bad, unit: ReadUnit) -> tuple[pa.RecordBatch | None, Counter]:
        batch, rejected = raw.batch, raw.rejected
        reasons: Counter = Counter()
        if not bad and not rejected:
            return None, reasons
        any_bad = np.logical_or.reduce([mask for _, mask, _, _ in bad]) if bad else none_bad(batch.num_rows)
        rows = np.flatnonzero(any_bad)
        found: dict[int, tuple[Reason, str]] = {}
        for reason, mask, column, what in sorted(bad, key=lambda each: _PRECEDENCE[each[0]]):
            values = batch[column.source]
            for row in np.flatnonzero(mask):
                if row not in found:
                    found[row] = (reason, f"`{column.source}`={_told(values[row].as_py())}: {what}.")
        names = [found[row][0] for row in rows] + [each.reason for each in rejected]
        details = [found[row][1] for row in rows] + [each.what for each in rejected]
        texts = rows_as_json(batch, any_bad) + [each.text for each in rejected]
        reasons.update(names)
        places = [int(raw.positions[row]) for row in rows] + [each.position for each in rejected]
        return dead_letters(self.plan.table, names, details, texts, [unit] * len(names), places), reasons


def _must_be(target: str) -> str:
    return {
        "string": "must be text (or a whole number below 2^53)",
        "int64": "must be a whole number of 64 bits",
        "float64": "must be a number",
        "list<string>": "must be texts",
        "list<int64>": "must be whole numbers of 64 bits",
    }[target]


def _told(value: Any) -> str:
    """A value as it stands in the file, for a reader."""
    if isinstance(value, bytes):
        value = value.decode("utf-8", "backslashreplace")
    text = repr(value)
    return text if len(text) <= _MAX_VALUE else f"{text[:_MAX_VALUE]}…"

"""Dead letters: bad rows as they were, with what is wrong with them and where they stand."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from features.arrow import columns_of
from features.ingest.reading.units import ReadUnit, locate
from features.log_contract import Reason

DEAD_LETTER_SCHEMA = pa.schema(
    [(name, pa.string()) for name in ("table", "reason", "detail", "row", "source")] + [("line", pa.int64())],
)

#: Of a row, in bytes of UTF-8: the rest says no more about what is wrong.
MAX_ROW_BYTES = 4096

#: Checked rows carry the unit and the place in it where they were read: `unit << UNIT_SHIFT | position`.
UNIT_SHIFT = 40


def dead_letters(
    table: str,
    reasons: Sequence[Reason],
    details: Sequence[str],
    rows: Sequence[str],
    units: Sequence[ReadUnit],
    positions: Sequence[int],
) -> pa.RecordBatch:
    """Returns a batch of `DEAD_LETTER_SCHEMA`; the sequences have one entry a bad row.

    Args:
      table: of the log.
      reasons: why.
      details: what is wrong, with the value.
      rows: the rows as text; cut at `MAX_ROW_BYTES`.
      units: where each row was read.
      positions: and where in that unit.
    """
    by_unit: dict[int, list[int]] = {}
    for place, unit in enumerate(units):
        by_unit.setdefault(unit.index, []).append(place)
    lines: list[int | None] = [None] * len(rows)
    for places in by_unit.values():
        found = locate(units[places[0]], [int(positions[place]) for place in places])
        for place, line in zip(places, found, strict=True):
            lines[place] = line
    texts: list[list[str]] = [
        [table] * len(rows),
        [reason.value for reason in reasons],
        [_cut(detail) for detail in details],
        [_cut(row) for row in rows],
        [unit.path for unit in units],
    ]
    arrays = [pa.array(column, pa.string()) for column in texts]
    return pa.RecordBatch.from_arrays([*arrays, pa.array(lines, pa.int64())], schema=DEAD_LETTER_SCHEMA)


def letters_of_checked(
    table: str, batch: pa.RecordBatch, reason: Reason, detail: str, mask: np.ndarray, units: Sequence[ReadUnit]
) -> pa.RecordBatch:
    """Returns dead letters of checked rows, which do not fit together with others.

    Args:
      table: of the log.
      batch: checked rows [N], with `_order`.
      reason: why.
      detail: what is wrong.
      mask: [N] bool: which rows.
      units: of the table, by index.
    """
    order = columns_of(batch)["_order"].to_numpy()[mask]
    found = [units[unit] for unit in order >> UNIT_SHIFT]
    # Without the marks that keep features and labels apart from the keys on the way.
    names = [re.sub(r"^[flv]:", "", name) for name in batch.schema.names]
    rows = rows_as_json(pa.RecordBatch.from_arrays(batch.columns, names=names), mask)
    return dead_letters(table, [reason] * len(rows), [detail] * len(rows), rows, found, order & ((1 << UNIT_SHIFT) - 1))


def rows_as_json(batch: pa.RecordBatch, mask: np.ndarray) -> list[str]:
    """Returns the rows of `batch` where `mask` [N] holds, each as JSON; columns are told by what a feature is called.

    Only bad rows come here, so Python is fine.
    """
    bad = batch.filter(pa.array(mask))
    names = [name for name in bad.schema.names if not name.startswith("_")]
    columns = [bad[name].to_pylist() for name in names]
    return [
        json.dumps(dict(zip(names, row, strict=True)), ensure_ascii=False, default=_text)
        for row in zip(*columns, strict=True)
    ]


def _text(value: Any) -> str:
    """What JSON has no type for: bytes of a text file, as the text they are, and dates."""
    return value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else str(value)


def _cut(text: str) -> str:
    whole = text.encode("utf-8", "backslashreplace")
    if len(whole) <= MAX_ROW_BYTES:
        return whole.decode("utf-8")
    return whole[:MAX_ROW_BYTES].decode("utf-8", "ignore") + "…"

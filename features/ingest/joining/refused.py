"""Rows that were read well and do not fit together: their dead letters and the counts of them."""

from __future__ import annotations

from collections import Counter
from datetime import date

import numpy as np
import pyarrow as pa

from features.arrow import columns_of
from features.ingest.checking.letters import UNIT_SHIFT, letters_of_checked
from features.ingest.reading.units import ReadUnit
from features.ingest.spans.config import DAY, start_of
from features.log_contract import Reason

_DETAILS = {
    Reason.UNKNOWN_IMPRESSION: "the request has no impression of this item.",
    Reason.CLICK_BEFORE_IMPRESSION: "the click is older than its impression.",
    Reason.UNKNOWN_REQUEST: "no impression has this request_id.",
    Reason.BAD_POSITION: "`position` is missing, and other rows of the request have one.",
}


class Refused:
    """Gathers dead letters of checked rows.

    Args:
      units: of each table, by index.
      day: of a span: rows of the days before it were accounted for by earlier spans, and are only counted.
    """

    def __init__(self, units: dict[str, list[ReadUnit]], day: str | None = None):
        self._units = units
        self._earlier = {
            table: np.array([day is not None and unit.file.day != day for unit in found], bool)
            for table, found in units.items()
        }
        self.letters: list[pa.RecordBatch] = []
        self.tally: Counter = Counter()

    def add(self, table: str, batch: pa.RecordBatch, reason: Reason, mask: np.ndarray, detail: str = "") -> None:
        """Sets aside the rows of `batch` where `mask` [N] holds; `detail` where the reason alone does not say it."""
        earlier = mask & self.earlier(table, batch)
        if earlier.any():
            self.tally["table", table, "earlier"] += int(earlier.sum())
            mask = mask & ~earlier
        if mask.any():
            detail = detail or _DETAILS[reason]
            self.letters.append(letters_of_checked(table, batch, reason, detail, mask, self._units[table]))
            self.tally["reason", table, reason.value] += int(mask.sum())

    def earlier(self, table: str, batch: pa.RecordBatch) -> np.ndarray:
        """Returns which checked rows lie in the folder of a day before the span, [N] bool; none where there is none."""
        if not self._earlier[table].any():
            return np.zeros(batch.num_rows, bool)
        return self._earlier[table][columns_of(batch)["_order"].to_numpy() >> UNIT_SHIFT]

    def ends(self, table: str, batch: pa.RecordBatch, end: int) -> np.ndarray | int:
        """Returns after which instant each checked row lies in the future, [N] or one of all: the end of the log.

        In a folder of a day it is the end of that day: what was refused on its own day is so on the next.
        """
        days = [unit.file.day for unit in self._units[table]]
        if not self._earlier[table].any() or None in days:
            return end
        of_unit = [start_of(date.fromisoformat(str(day)) + DAY) - 1 for day in days]
        return np.array(of_unit)[columns_of(batch)["_order"].to_numpy() >> UNIT_SHIFT]

    def add_conflicts(self, table: str, batch: pa.RecordBatch, users: np.ndarray, apart: np.ndarray) -> None:
        """Sets aside rows of requests that have two users, [N] bool, or rows more than two days apart."""
        self.add(table, batch, Reason.REQUEST_CONFLICT, users, "the request has rows of two users.")
        days = "the request has rows more than two days apart."
        self.add(table, batch, Reason.REQUEST_CONFLICT, apart & ~users, days)

    def add_future(self, table: str, batch: pa.RecordBatch, mask: np.ndarray, end: int | None) -> None:
        """Sets aside rows later than `end`, UTC milliseconds."""
        detail = f"later than {end}: the end of the log{' and a window' if table == 'clicks' else ''}."
        self.add(table, batch, Reason.IN_THE_FUTURE, mask, detail)

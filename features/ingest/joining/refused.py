"""Rows that were read well and do not fit together: their dead letters and the counts of them."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pyarrow as pa

from features.ingest.checking.letters import letters_of_checked
from features.ingest.reading.units import ReadUnit
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
    """

    def __init__(self, units: dict[str, list[ReadUnit]]):
        self._units = units
        self.letters: list[pa.RecordBatch] = []
        self.tally: Counter = Counter()

    def add(self, table: str, batch: pa.RecordBatch, reason: Reason, mask: np.ndarray, detail: str = "") -> None:
        """Sets aside the rows of `batch` where `mask` [N] holds; `detail` where the reason alone does not say it."""
        if mask.any():
            detail = detail or _DETAILS[reason]
            self.letters.append(letters_of_checked(table, batch, reason, detail, mask, self._units[table]))
            self.tally["reason", table, reason.value] += int(mask.sum())

    def add_conflicts(self, table: str, batch: pa.RecordBatch, users: np.ndarray, apart: np.ndarray) -> None:
        """Sets aside rows of requests that have two users, [N] bool, or rows more than two days apart."""
        self.add(table, batch, Reason.REQUEST_CONFLICT, users, "the request has rows of two users.")
        days = "the request has rows more than two days apart."
        self.add(table, batch, Reason.REQUEST_CONFLICT, apart & ~users, days)

    def add_future(self, table: str, batch: pa.RecordBatch, mask: np.ndarray, end: int | None) -> None:
        """Sets aside rows later than `end`, UTC milliseconds."""
        detail = f"later than {end}: the end of the log{' and a window' if table == 'clicks' else ''}."
        self.add(table, batch, Reason.IN_THE_FUTURE, mask, detail)

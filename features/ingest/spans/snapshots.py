"""What the shards of a span share: its instants, and which snapshot of items and users held when."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from features.ingest.checking.letters import UNIT_SHIFT

if TYPE_CHECKING:
    from features.ingest.reading.units import ReadUnit


@dataclasses.dataclass(frozen=True)
class SpanPlan:
    """The instants of a span, UTC milliseconds: it trains on the requests in `(settled_until, mature_until]`.

    Attributes:
      day: the span, as 2026-11-24.
      settled_until: requests until then belong to earlier spans.
      mature_until: requests after it wait for a later one.
      end: the last instant of the day.
      since: of tables with snapshots, from when on that of each day holds.
    """

    day: str
    settled_until: int
    mature_until: int
    end: int
    since: dict[str, dict[str, int]] = dataclasses.field(default_factory=dict)

    @property
    def instants(self) -> dict[str, int]:
        """What stands in the place of what an ingestion finds out from its log."""
        return {"end_of_log": self.end, "mature_until": self.mature_until, "settled_until": self.settled_until}


@dataclasses.dataclass(frozen=True)
class Snapshots:
    """The snapshots of a table.

    Attributes:
      since: from when on each holds, UTC milliseconds, rising; empty: the table is one, and always holds.
      of_unit: the snapshot of each unit of the table.
    """

    since: tuple[int, ...] = ()
    of_unit: tuple[int, ...] = ()

    def parts(self, rows: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
        """Yields the rows of each snapshot; `rows` [N] were checked and have `_order` as their last column."""
        if not self.since:
            yield rows
            return
        snapshot = np.asarray(self.of_unit)[rows.columns[-1].to_numpy() >> UNIT_SHIFT]
        for number in range(len(self.since)):
            yield rows.filter(pa.array(snapshot == number))


ALWAYS = Snapshots()
"""Of a table that is no snapshot."""


def snapshots_of(span: SpanPlan | None, table: str, units: Iterable[ReadUnit]) -> Snapshots:
    """Returns the snapshots that the units of a table are pieces of."""
    since = {} if span is None else span.since.get(table, {})
    if not since:
        return ALWAYS
    days = sorted(since)
    return Snapshots(tuple(since[day] for day in days), tuple(days.index(str(unit.file.day)) for unit in units))

"""Which folders of days a span reads, and the instants that it lies between.

An impression of time t, with the longest attribution window A and the lateness L, is trained on by the span in which
t + A + L lies: its clicks have all come by then. So a span of day D takes the requests of `(end of D-1 - A - L,
end of D - A - L]` from the folders of D and of the days before that these lie in. Nothing is kept from one span to the
next: each request has one span, whatever was run before, in whatever order and however often.
"""

from __future__ import annotations

import contextlib
import datetime
from collections.abc import Iterable

from features import storage
from features.errors import NothingNewError
from features.ingest.config import IngestConfig
from features.ingest.spans.config import DAY, MAX_DAYS, at_day, day_of, is_by_day, start_of
from features.ingest.spans.snapshots import SpanPlan
from features.spec import FeatureSpec

SIDE_TABLES = ("items", "users")


class SpanNotReadyError(NothingNewError):
    """A day whose logs are not there (yet). The message says which table lacks them."""


class Days:
    """The days of the tables of a log.

    Args:
      config: of the ingestion; its tables lie by day.
      spec: the features.
    """

    def __init__(self, config: IngestConfig, spec: FeatureSpec):
        self._tables = config.tables.given()
        self._spans, self._config = config.spans, config
        self._wait = (config.maturity_ms(spec) or 0) + round(config.spans.lateness_hours * 3_600_000)
        self._there: dict[str, bool] = {}

    def has(self, table: str, day: datetime.date) -> bool:
        """Whether a table has files of a day."""
        path = at_day(self._tables[table].path, day)
        if path not in self._there:
            self._there[path] = bool(storage.match(path))
        return self._there[path]

    def holds(self, day: datetime.date) -> bool:
        """Whether a span has anything to take requests from."""
        return any(self.has("impressions", each) for each in self._taken_from(day))

    def require(self, day: datetime.date) -> None:
        """Raises `SpanNotReadyError` unless all tables of events have files of a day."""
        for table in ("impressions", "clicks", "behaviors"):
            if table in self._tables and not self.has(table, day):
                raise SpanNotReadyError(
                    f"`{table}` has no files of {day} yet: {at_day(self._tables[table].path, day)} holds none. Run the "
                    "span again when they are there."
                )

    def paths(self) -> list[str]:
        """Returns where all files lie that the window of the configuration reads."""
        found = {table.path for table in self._tables.values() if not is_by_day(table.path)}
        for day in self.of_window():
            with contextlib.suppress(SpanNotReadyError):
                for name, days in self.plan(day)[1].items():
                    found |= {at_day(self._tables[name].path, each) for each in days}
        return sorted(found)

    def of_window(self) -> list[datetime.date]:
        """Returns the days that there are of the window, and of those whose behaviours it sees, the oldest first."""
        window = self._config.days
        days = window.days + self._spans.history_days
        return [day for day in (window.span - DAY * back for back in reversed(range(days))) if self.holds(day)]

    def plan(self, day: datetime.date) -> tuple[SpanPlan, dict[str, list[datetime.date]]]:
        """Returns the instants of a span, and the days that are read of each table that lies by day.

        Raises:
          SpanNotReadyError: if a day has impressions and no clicks, which would all be taken for not clicked, or
            `items` or `users` lie by day and have no snapshot that could be read.
        """
        end = start_of(day + DAY) - 1
        taken = self._taken_from(day)
        # Rows of one request may lie on both sides of midnight, and be the first ones' span's.
        margin = [taken[0] - DAY] if self._wait else []
        read = [each for each in [*margin, *taken] if self.has("impressions", each)]
        days: dict[str, list[datetime.date]] = {"impressions": read}
        if "clicks" in self._tables:
            days["clicks"] = read
            for each in read:
                if not self.has("clicks", each):
                    raise SpanNotReadyError(
                        f"{each} has impressions and no clicks: all would count as not clicked. Run the span {day} "
                        "again when the clicks are there, or move the impressions of that day away."
                    )
        if "behaviors" in self._tables:
            days["behaviors"] = [self._with_behaviors(day)]
        since: dict[str, dict[str, int]] = {}
        for table in SIDE_TABLES:
            if table in self._tables and is_by_day(self._tables[table].path):
                days[table] = self._snapshots(table, day, taken)
                since[table] = {each.isoformat(): start_of(each + self._known_after) for each in days[table]}
        settled, mature = end - 86_400_000 - self._wait, end - self._wait
        return SpanPlan(day.isoformat(), settled, mature, end, since), days

    @property
    def _known_after(self) -> datetime.timedelta:
        """How long after the beginning of its day a snapshot holds."""
        return DAY if self._spans.snapshots_at == "end" else DAY * 0

    def _taken_from(self, day: datetime.date) -> list[datetime.date]:
        first = day_of(start_of(day) - self._wait)
        return [first + DAY * each for each in range((day - first).days + 1)]

    def _snapshots(self, table: str, day: datetime.date, taken: Iterable[datetime.date]) -> list[datetime.date]:
        """The snapshots that held on the days that requests are taken from, and the newest, for the catalogue."""
        found = {self._latest(table, each - self._known_after) for each in taken} | {self._latest(table, day)}
        days = sorted(each for each in found if each is not None)
        if not days:
            raise SpanNotReadyError(
                f"table `{table}`: no snapshot of {day}, or of {self._spans.snapshot_age_days} days before: "
                f"{at_day(self._tables[table].path, day)} holds none. `spans.snapshot_age_days` may be more."
            )
        return days

    def _with_behaviors(self, day: datetime.date) -> datetime.date:
        """The day, or the last before it that has behaviours: of that, the columns alone are of interest."""
        for back in range(MAX_DAYS):
            if self.has("behaviors", day - DAY * back):
                return day - DAY * back
        raise SpanNotReadyError(f"`behaviors` has no files of {day}, nor of any day in the year before it.")

    def _latest(self, table: str, day: datetime.date) -> datetime.date | None:
        older = (day - DAY * back for back in range(self._spans.snapshot_age_days + 1))
        return next((each for each in older if self.has(table, each)), None)

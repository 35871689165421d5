"""Which days a run reads and trains on: spans, the window of a run, and the names of days in paths."""

from __future__ import annotations

import datetime
import re
from typing import Literal

from pydantic import Field

from features.config import Strict
from features.errors import InputError

DATE, SPAN = "{DATE}", "{SPAN}"
"""In the path of a table: a day as 2026-11-24, and as 20261124."""

MAX_DAYS = 366
DAY = datetime.timedelta(days=1)


class SpansConfig(Strict):
    """How a log that is kept by day is read. A span is a day, in UTC.

    Attributes:
      window_days: the days that a run trains on, the newest one included, where `--window` says nothing.
      history_days: the days before the window whose behaviours requests see as past.
      lateness_hours: rows of impressions and clicks may lie in the folder of a day that ends this much after they
        happened; impressions wait this much longer for their labels.
      snapshots_at: what a snapshot of a day (of `items`, of `users`) holds: the state at the `end` of that day, so that
        impressions of the day are joined with the snapshot before, or the one at its `start`.
      snapshot_age_days: how many days older a snapshot may be than the one that is missing.
    """

    window_days: int = Field(1, ge=1, le=MAX_DAYS)
    history_days: int = Field(30, ge=0, le=MAX_DAYS)
    lateness_hours: float = Field(0.0, ge=0, le=24.0 * MAX_DAYS, allow_inf_nan=False)
    snapshots_at: Literal["end", "start"] = "end"
    snapshot_age_days: int = Field(7, ge=0, le=MAX_DAYS)


class SpanWindow(Strict):
    """The window of one run.

    Attributes:
      span: the newest day.
      days: how many there are, `span` included.
      store: the folder where each day's work is kept for later runs.
    """

    span: datetime.date
    days: int = Field(ge=1, le=MAX_DAYS)
    store: str

    @property
    def dates(self) -> tuple[datetime.date, ...]:
        """The days, the oldest first."""
        return tuple(self.span - DAY * back for back in reversed(range(self.days)))


def parse_span(text: str) -> datetime.date:
    """Returns the day of `2026-11-24` or `20261124`. Raises `InputError` for anything else."""
    if re.fullmatch(r"\d{8}", text):
        text = f"{text[:4]}-{text[4:6]}-{text[6:]}"
    try:
        return datetime.date.fromisoformat(text)
    except ValueError as error:
        raise InputError(f"a span is a day, 2026-11-24 or 20261124. Received: {text!r}.") from error


def parse_window(text: str) -> int:
    """Returns the days of `7d`. Raises `InputError` for anything else."""
    found = re.fullmatch(r"(\d{1,3})d", text)
    if found is None or not 1 <= int(found[1]) <= MAX_DAYS:
        raise InputError(f"a window is a number of days, from 1d to {MAX_DAYS}d. Received: {text!r}.")
    return int(found[1])


def is_by_day(path: str) -> bool:
    """Whether a table lies in a folder, or a file, for each day."""
    return DATE in path or SPAN in path


def at_day(path: str, day: datetime.date) -> str:
    """Returns where a table's files of a day lie."""
    return path.replace(DATE, day.isoformat()).replace(SPAN, day.strftime("%Y%m%d"))


def start_of(day: datetime.date) -> int:
    """Returns the first instant of a day in UTC milliseconds."""
    midnight = datetime.datetime.combine(day, datetime.time(), datetime.timezone.utc)
    return round(midnight.timestamp() * 1000)


def day_of(instant: int) -> datetime.date:
    """Returns the day, in UTC, of an instant in milliseconds."""
    return datetime.datetime.fromtimestamp(instant / 1000, datetime.timezone.utc).date()

"""A log by day: impressions and clicks in the folder of the day that they happened on, snapshots of the items."""

from __future__ import annotations

import contextlib
import datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from features.arrow import read_parquet
from features.ingest.config import IngestConfig
from features.ingest.spans.config import DAY, SpanWindow, start_of
from features.ingest.spans.ingest_window import ingest_window
from features.log_contract import UntrainableLogError
from features.spec import FeatureSpec

FIRST = datetime.date(2026, 11, 1)
HOUR = 3_600_000

SPEC = FeatureSpec.model_validate(
    {
        "name": "days",
        "features": [
            {"name": "user_id", "table": "users"},
            {"name": "item_id", "table": "items", "dtype": "int64"},
            {"name": "known_since", "table": "items", "kind": "numeric", "dtype": "int64"},
        ],
        "history": {"features": ["item_id"]},
    }
)


class DaysOfLog:
    """A log by day in a folder, and its runs.

    Args:
      folder: where it is written.
      days: how many, from `FIRST` on.
      requests: of each day, evenly over it, each of three items; a third of the impressions is clicked, within
        `delay_hours`.
      settings: of `IngestConfig`, beside the tables.
    """

    def __init__(self, folder: Path, days: int, requests: int = 20, delay_hours: float = 5.0, **settings):
        self.folder = folder
        self.days = [FIRST + DAY * day for day in range(days)]
        settings = {"attribution_window_hours": 6.0, "num_shards": 2, "max_bad_row_fraction": 1.0} | settings
        paths = {name: f"{folder}/logs/{{DATE}}/{name}" for name in ("impressions", "clicks", "items")}
        self.config = IngestConfig.model_validate({"tables": paths, **settings})
        self._simulate(requests, delay_hours)

    def _simulate(self, requests: int, delay_hours: float) -> None:
        random, events = np.random.default_rng(7), {"impressions": [], "clicks": []}
        for number, day in enumerate(self.days):
            for request in range(requests):
                time = start_of(day) + request * 24 * HOUR // requests + int(random.integers(0, HOUR // 2))
                name, user = f"r{number}-{request}", f"u{random.integers(0, 8)}"
                for item in random.choice(12, 3, replace=False):
                    shown = {"request_id": name, "timestamp": time, "user_id": user, "item_id": int(item)}
                    events["impressions"].append(shown)
                    if random.random() < 1 / 3:
                        clicked = time + int(random.integers(0, int(delay_hours * HOUR)))
                        events["clicks"].append({"request_id": name, "item_id": int(item), "timestamp": clicked})
        for day in self.days:
            for table, rows in events.items():
                self.write(table, day, [row for row in rows if 0 <= row["timestamp"] - start_of(day) < 24 * HOUR])
            self.write("items", day, [{"item_id": item, "known_since": start_of(day)} for item in range(12)])
        self.events = events

    def path(self, table: str, day: datetime.date) -> Path:
        return self.folder / "logs" / day.isoformat() / table / "part.parquet"

    def write(self, table: str, day: datetime.date, rows: list[dict]) -> None:
        """Writes the rows of a day, whatever was there."""
        path = self.path(table, day)
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.Table.from_pylist(rows), path)

    def read(self, table: str, day: datetime.date) -> list[dict]:
        return pq.read_table(self.path(table, day)).to_pylist()

    def run(self, day: datetime.date, window: int = 1, out: str = "out", store: str = "days") -> Path:
        """Ingests a window into `<folder>/<out>/<day>`; a verdict on so small a log is of no interest."""
        config = self.config.model_copy(
            update={"window": SpanWindow(span=day, days=window, store=str(self.folder / store))}
        )
        folder = self.folder / out / day.isoformat()
        with contextlib.suppress(UntrainableLogError):
            ingest_window(config, SPEC, *(folder / part for part in ("examples", "behaviors", "dead")))
        return folder


def impressions_of(run: Path, split: str = "*") -> list[tuple[str, int, float, int, int]]:
    """Returns (request, item, label, time, known_since) of all impressions of a run's examples."""
    found = []
    for file in sorted((run / "examples").glob(f"Split-{split}/requests-*.parquet")):
        for row in read_parquet(file).to_pylist():
            lists = (row["item_id"], row["click"], row["known_since"])
            found += [(row["request_id"], i, c, row["timestamp"], k) for i, c, k in zip(*lists, strict=True)]
    return found


def bytes_of(run: Path) -> dict[str, bytes]:
    """Returns the files of a run but for its counts, by their path in it."""
    return {str(path.relative_to(run)): path.read_bytes() for path in sorted(run.rglob("*")) if path.is_file()}

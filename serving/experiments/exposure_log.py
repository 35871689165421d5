"""The log of exposures: Parquet parts of the log contract's table `impressions`, each published whole."""

from __future__ import annotations

import itertools
import json
import logging
import threading
import time
import uuid
from datetime import datetime, timezone

import pyarrow as pa
import pyarrow.parquet as pq
from typing_extensions import Self

from features import storage
from features.errors import InputError, RunError
from features.spec import FeatureSpec
from serving.experiments.exposure import Exposure, ImpressionColumns, check
from serving.experiments.writer_marks import LostTail, WriterMark, lost_tails

_LOG = logging.getLogger(__name__)

#: Seconds between two tries to publish what could not be.
_RETRY_S = 1.0

#: Key of a part's metadata: JSON with the writer, the part's number, and what was logged and dropped so far.
ACCOUNT = b"clickmill.exposures"


class ExposureLog:
    """Appends exposures to a folder, which LogIngest reads as `impressions` (docs/reference/log_contract.md).

    Rows gather in memory and are published as parts `<time>-<writer>-<number>.parquet`, by a thread of its own, so that
    `write` waits for no disk. Several processes may write to one folder. A process that is lost loses the rows that it
    has not published: those of the last `part_seconds`, or `part_rows` if these come first; the next one to open the
    folder says so (`lost`). Where the disk does not keep up, exposures beyond `max_rows` are dropped, counted and said.

    Example:
      with ExposureLog("exposures", spec) as log:
          log.write(Exposure("r1", 1_700_000_000_000, "u7", ["i3", "i9"], "20261126T073000-1f2e3d4c"))

    Attributes:
      lost: tails of processes that ended without closing the folder's log.
      logged: exposures that were taken.
      dropped: exposures that found no room.
      refused: exposures with a value that does not belong into its column: said, and left out.
      anonymous: exposures of nobody, which the log contract has no row for: they are not logged.
    """

    def __init__(
        self,
        folder: storage.AnyPath,
        spec: FeatureSpec | None = None,
        *,
        part_rows: int = 50_000,
        part_seconds: float = 60.0,
        max_rows: int = 200_000,
    ):
        """Opens a log.

        Args:
          folder: where parts appear; a path or a URI.
          spec: as of `ImpressionColumns`.
          part_rows: rows after which a part is published.
          part_seconds: seconds after which one is published however few rows there are.
          max_rows: rows that are held at most, those being published included.

        Raises:
          InputError: if `max_rows` is below `part_rows`, or a feature has the name of a column of the log.
        """
        if not 0 < part_rows <= max_rows:
            raise InputError(f"`part_rows` must be 1 to `max_rows`. Received: {part_rows} and {max_rows}.")
        self._folder, self._columns = folder, ImpressionColumns(spec)
        self._part_rows, self._part_seconds, self._max_rows = part_rows, part_seconds, max_rows
        storage.make_folder(folder)
        self.lost: list[LostTail] = lost_tails(folder)
        self.logged = self.dropped = self.refused = self.anonymous = 0
        self._writer, self._parts = uuid.uuid4().hex[:12], 0
        self._mark = WriterMark(folder, self._writer, max_rows)
        self._waiting: list[tuple[ImpressionColumns, Exposure]] = []
        self._held, self._since = 0, 0.0  # rows not published, and when the first of them came
        self._closing, self._asked, self._failure = False, False, None
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="exposure-log", daemon=True)
        self._thread.start()

    def use(self, spec: FeatureSpec | None) -> None:
        """Logs the features of another spec from here on, in parts of their own: a release may bring one.

        Raises:
          InputError: if a feature has the name of a column of the log.
        """
        columns = ImpressionColumns(spec)
        with self._changed:
            if columns != self._columns:
                self._columns = columns

    def write(self, exposure: Exposure) -> bool:
        """Takes an exposure; returns whether it will be logged.

        Raises:
          InputError: if the log contract would refuse it, of its times, ids or propensities.
          RunError: if the log is closed.
        """
        if exposure.user is None:
            self.anonymous += 1
            return False
        if not exposure.items:
            return True
        check(exposure)
        count = len(exposure.items)
        with self._changed:
            if self._closing:
                raise RunError("the exposure log is closed: open another.")
            if self._held + count > self._max_rows:
                self.dropped += 1
                if self.dropped & (self.dropped - 1) == 0:  # said at 1, 2, 4, 8 …
                    _LOG.error("exposure log: %d exposures dropped: %s", self.dropped, self._failure or "disk too slow")
                return False
            if not self._waiting:
                self._since = time.monotonic()
                self._changed.notify_all()
            self._waiting.append((self._columns, exposure))
            self._held += count
            self.logged += 1
            if self._held >= self._part_rows:
                self._changed.notify_all()
        return True

    def flush(self, timeout_s: float = 30.0) -> None:
        """Publishes all rows that were taken. Raises `RunError` if that does not succeed in time."""
        with self._changed:
            self._asked = True
            self._changed.notify_all()
            done = self._changed.wait_for(lambda: not self._held, timeout_s)
            self._asked = False
            if not done:
                raise RunError(f"{self._held:,} rows of the exposure log were not published: {self._failure}.")

    def close(self) -> None:
        """Publishes what is there and ends. Raises `RunError` if rows could not be published."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._thread.join()
        self._mark.closed(self._held)
        if self._held:
            raise RunError(f"{self._held:,} rows of the exposure log in {self._folder} are lost: {self._failure}.")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def _run(self) -> None:
        while True:
            with self._changed:
                while not (self._is_due() or self._closing):
                    self._changed.wait(self._wait_s())
                taken = list(itertools.takewhile(lambda each: each[0] is self._waiting[0][0], self._waiting))
                self._waiting = self._waiting[len(taken) :]
                account = {"writer": self._writer, "part": self._parts, "logged": self.logged, "dropped": self.dropped}
            failure = self._publish(taken[0][0], [each for _, each in taken], account) if taken else None
            with self._changed:
                self._failure = failure
                if failure is None:
                    self._held -= sum(len(each.items) for _, each in taken)
                    self._changed.notify_all()
                else:
                    self._waiting = taken + self._waiting
                if self._closing and (failure is not None or not self._waiting):
                    return
                if failure is not None:
                    self._changed.wait_for(lambda: self._closing, _RETRY_S)

    def _is_due(self) -> bool:
        if not self._waiting:
            return False
        full = self._held >= self._part_rows or self._waiting[0][0] is not self._waiting[-1][0]
        return self._asked or full or time.monotonic() - self._since >= self._part_seconds

    def _wait_s(self) -> float | None:
        return max(0.0, self._since + self._part_seconds - time.monotonic()) if self._waiting else None

    def _publish(self, columns: ImpressionColumns, taken: list[Exposure], account: dict) -> Exception | None:
        """Writes a part; returns what went wrong."""
        try:
            table = self._table(columns, taken).replace_schema_metadata({ACCOUNT: json.dumps(account).encode()})
            if not len(table):
                return None
            times = table["timestamp"].to_numpy()
            first = datetime.fromtimestamp(times.min() / 1000, timezone.utc).strftime("%Y%m%dT%H%M%S")
            path = storage.join(self._folder, f"{first}-{self._writer}-{self._parts:06d}.parquet")
            with storage.aside(path) as local:
                pq.write_table(table, local)
            self._mark.published(int(times.max()))
        except Exception as error:  # noqa: BLE001  whatever it is, the rows are kept and tried again
            if self._failure is None:  # said once, and not at every try
                _LOG.exception("exposure log: a part could not be published; its rows are kept")
            return error
        self._parts += 1
        return None

    def _table(self, columns: ImpressionColumns, taken: list[Exposure]) -> pa.Table:
        try:
            return columns.table(taken)
        except Exception:  # noqa: BLE001  of one of them: the others are not to be lost
            return pa.concat_tables([columns.table([]), *filter(None, (self._alone(columns, each) for each in taken))])

    def _alone(self, columns: ImpressionColumns, exposure: Exposure) -> pa.Table | None:
        try:
            return columns.table([exposure])
        except Exception as error:  # noqa: BLE001  one that is no exposure must not stop the log
            self.refused += 1
            _LOG.error("exposure log: request %r is left out: %s", exposure.request_id, error)
            return None

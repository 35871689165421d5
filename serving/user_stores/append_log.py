"""What was appended to stores of users since they were built, in the order in which it came.

    STORE/appended/{data,lock}.mdb      beside the builds of the profile store, and outlives them

The log is the truth and the stores follow it: an event is on disk here first, and each store says up to which number
it has taken the log in (`Mark`), in the transaction that takes it in. So whatever is killed in between, nothing is lost
and nothing counts twice; and a store that was built anew, and says nothing, is given the whole log again: it knows by
itself what it holds already.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lmdb
import orjson

from serving.user_stores.environment import SharedEnvironment, open_environment

LOG_FOLDER = "appended"

KEEP_MS = 7 * 24 * 3_600_000
"""So long an event is kept: a store is built again, from logs that hold it, before that."""

_ID_KEY, _MARK_KEY = b"log_id", b"taken_in"
_NUMBER_BYTES = 8
_RECEIVED = "received"
#: With each event that comes, so many that are too old go.
_PRUNED_EACH = 2


@dataclass(frozen=True)
class Mark:
    """Up to where a store has taken in a log.

    Attributes:
      log_id: of the log.
      number: of the last event; 0: none.
    """

    log_id: bytes
    number: int = 0

    @classmethod
    def read(cls, transaction: lmdb.Transaction, log_id: bytes | None = None) -> Mark:
        """Returns the mark of a store; one of another log than `log_id` says nothing."""
        found = bytes(transaction.get(_MARK_KEY, b""))
        mark = cls(found[:-_NUMBER_BYTES], int.from_bytes(found[-_NUMBER_BYTES:], "big"))
        return mark if log_id in (None, mark.log_id) else cls(log_id)

    def write(self, transaction: lmdb.Transaction) -> None:
        """Sets the mark of a store, in the transaction that takes the events in."""
        transaction.put(_MARK_KEY, self.log_id + _number_key(self.number))


@dataclass(frozen=True)
class LoggedEvent:
    """An event of the log.

    Attributes:
      number: its place, from 1, rising.
      values: what was appended: values of JSON.
    """

    number: int
    values: dict[str, Any]


class AppendLog:
    """The log beside a store; safe for many threads and processes.

    Attributes:
      log_id: tells it from one that was made anew.
    """

    def __init__(self, store: str | Path):
        """Opens the log, and makes it where there is none.

        Args:
          store: the root of the store that it lies beside.

        Raises:
          StoreError: if it is damaged or cannot be written.
        """
        self._environment: SharedEnvironment = open_environment(Path(store).absolute() / LOG_FOLDER, create=True)
        try:
            self.log_id = self._environment.write(_own_id)
        except BaseException:
            self._environment.close()
            raise

    def close(self) -> None:
        """Closes the log; once."""
        self._environment.close()

    def append(self, events: Sequence[dict[str, Any]], now_ms: int | None = None) -> range:
        """Writes events to disk, in one transaction, and returns their numbers; drops what is too old.

        Args:
          events: values of JSON.
          now_ms: when they came, UTC milliseconds; the clock's time by default.
        """
        now_ms = time.time_ns() // 1_000_000 if now_ms is None else now_ms
        records = [orjson.dumps({_RECEIVED: now_ms, **event}) for event in events]
        log = self._environment

        def work(transaction):
            with transaction.cursor(log.records) as cursor:
                first = 1 + (_number(cursor.key()) if cursor.last() else 0)
                for place, record in enumerate(records):
                    cursor.put(_number_key(first + place), record, append=True)
                self._prune(cursor, now_ms, first, _PRUNED_EACH * len(records))
            return range(first, first + len(records))

        return log.write(work)

    def read(self, after: int, limit: int) -> list[LoggedEvent]:
        """Returns up to `limit` events behind the one of number `after`, in order."""
        log = self._environment

        def work(transaction):
            found = []
            with transaction.cursor(log.records) as cursor:
                more = cursor.set_range(_number_key(after + 1))
                while more and len(found) < limit:
                    found.append((_number(cursor.key()), bytes(cursor.value())))
                    more = cursor.next()
            return found

        return [LoggedEvent(number, orjson.loads(record)) for number, record in log.read(work)]

    def last(self) -> int:
        """Returns the number of the newest event; 0: there is none."""
        log = self._environment

        def work(transaction):
            with transaction.cursor(log.records) as cursor:
                return _number(cursor.key()) if cursor.last() else 0

        return log.read(work)

    def _prune(self, cursor: lmdb.Cursor, now_ms: int, before: int, most: int) -> None:
        """Drops up to `most` events that are too old; those from `before` on stay, so that numbers go on."""
        more = cursor.first()
        while more and most and _number(cursor.key()) < before:
            if orjson.loads(bytes(cursor.value()))[_RECEIVED] >= now_ms - KEEP_MS:
                return
            more, most = cursor.delete(), most - 1


def _own_id(transaction: lmdb.Transaction) -> bytes:
    found = bytes(transaction.get(_ID_KEY, b""))
    if not found:
        found = uuid.uuid4().bytes
        transaction.put(_ID_KEY, found)
    return found


def _number_key(number: int) -> bytes:
    return number.to_bytes(_NUMBER_BYTES, "big")


def _number(key: bytes | memoryview) -> int:
    return int.from_bytes(bytes(key), "big")

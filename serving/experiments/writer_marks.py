"""Marks of the processes that write an exposure log: whose tail was lost is said by the next one that opens it."""

from __future__ import annotations

import json
import logging
import os
import socket
from dataclasses import asdict, dataclass

import psutil

from features import storage

_LOG = logging.getLogger(__name__)
_WRITER, _LOST = "_writer-", "_lost-"


@dataclass(frozen=True)
class LostTail:
    """What is missing of a process that ended without closing its log.

    Attributes:
      writer: its name in the names of its parts.
      after: the newest time that it published, UTC milliseconds: what it showed later is lost; None: it published
        nothing.
      at_most_rows: rows that it may have held.
    """

    writer: str
    after: int | None
    at_most_rows: int


class WriterMark:
    """The mark of this process, `_writer-<name>.json`, which stands while its log is open.

    Args:
      folder: of the log.
      writer: name of the process's parts.
      max_rows: that it may hold unpublished.
    """

    def __init__(self, folder: storage.AnyPath, writer: str, max_rows: int):
        self._folder, self._writer = folder, writer
        self._path = storage.join(folder, f"{_WRITER}{writer}.json")
        self._said = {
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "started": psutil.Process().create_time(),
            "at_most_rows": max_rows,
            "after": None,
        }
        storage.write_text(self._path, json.dumps(self._said))

    def published(self, after: int) -> None:
        """Notes the newest time that was published."""
        self._said["after"] = after
        storage.write_text(self._path, json.dumps(self._said))

    def closed(self, lost_rows: int) -> None:
        """Takes the mark away; where rows could not be published, a `_lost-<name>.json` stays."""
        if lost_rows:
            _keep(self._folder, LostTail(self._writer, self._said["after"], lost_rows))
        storage.delete(self._path)


def lost_tails(folder: storage.AnyPath) -> list[LostTail]:
    """Returns the tails of processes of this machine that have ended without closing their log since it was last asked.

    Each is said once, in the log of this process, and kept as `_lost-<name>.json`. Of processes of other machines
    nobody here can say whether they run: theirs are found when the log is opened there.
    """
    found = []
    for path in storage.entries(folder, f"{_WRITER}*.json"):
        said = json.loads(storage.read_bytes(path))
        if said["host"] != socket.gethostname() or _runs(said["pid"], said["started"]):
            continue
        writer = storage.name(path).removeprefix(_WRITER).removesuffix(".json")
        tail = LostTail(writer, said["after"], said["at_most_rows"])
        _keep(folder, tail)
        storage.delete(path)
        since = "all that it showed" if tail.after is None else f"what it showed after {tail.after} (UTC ms)"
        _LOG.warning(
            "exposure log %s: process %s ended without closing it: %s is lost, %s rows at most.",
            folder, writer, since, f"{tail.at_most_rows:,}",
        )  # fmt: skip
        found.append(tail)
    return found


def _keep(folder: storage.AnyPath, tail: LostTail) -> None:
    storage.write_text(storage.join(folder, f"{_LOST}{tail.writer}.json"), json.dumps(asdict(tail)))


def _runs(pid: int, started: float) -> bool:
    """Whether a process still runs, and is not another with its number."""
    try:
        return abs(psutil.Process(pid).create_time() - started) < 1.0
    except psutil.NoSuchProcess:
        return False

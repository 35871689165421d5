"""Who decided what is served, why, and on what evidence: one JSON object a line, only ever added to.

`ROOT/decisions.jsonl` is written, and on disk, before a decision takes effect: none that took effect is missing, and
the last line may be of one that a crash kept from it. A line that a crash cut short was never whole, so its decision
never took effect: the next writer cuts it off. Writers hold the root's lock (`serving.release.lock`).
"""

from __future__ import annotations

import getpass
import json
import os
import socket
from datetime import datetime, timezone
from typing import Any, Literal

from features import storage
from features.config import SpecError, Strict, parse_model

DECISIONS_FILE = "decisions.jsonl"


class Decision(Strict):
    """A decision on what is served.

    Attributes:
      at: when, ISO 8601 in UTC.
      by: who, or what.
      how: `release`: models were released together. `promote`, `rollback`: a label moved. `bless`: a model that failed
        gates was allowed nevertheless. `prune`: releases were deleted.
      what: the id of the release, the name of the model, or what was pruned.
      why: as it was given; '' where nothing was said.
      evidence: what it rests on, as values of JSON: metrics, gates that failed, the release before.
    """

    at: str
    by: str
    how: Literal["release", "promote", "rollback", "bless", "prune"]
    what: str
    why: str = ""
    evidence: dict[str, Any] = {}


def decide(
    root: storage.AnyPath, how: str, what: str, *, by: str | None = None, why: str = "", evidence: dict[str, Any]
) -> Decision:
    """Adds a decision to the log of a serving root, and returns it; on disk when this returns.

    Args:
      root: the serving root; the caller holds its lock.
      how, what, why, evidence: of the `Decision`.
      by: who decides; the user of this process by default.
    """
    now = datetime.now(timezone.utc).isoformat(timespec="seconds")
    made = Decision(at=now, by=by or whoami(), how=how, what=what, why=why, evidence=evidence)
    path = storage.join(root, DECISIONS_FILE)
    line = (json.dumps(made.model_dump(mode="json"), ensure_ascii=False) + "\n").encode()
    if storage.is_local(path):
        _add(storage.absolute(path), line)
    else:  # An object is replaced whole.
        storage.write_bytes(path, (storage.read_bytes(path) if storage.is_file(path) else b"") + line)
    return made


def read_decisions(root: storage.AnyPath, what: str | None = None) -> list[Decision]:
    """Returns the decisions of a serving root, the oldest first.

    Args:
      root: the serving root.
      what: only those on this release or model; None: all.

    Raises:
      SpecError: if a whole line cannot be read.
    """
    path = storage.join(root, DECISIONS_FILE)
    try:
        lines = storage.read_bytes(path).split(b"\n")[:-1]  # What follows the last line break was cut short.
    except FileNotFoundError:
        return []
    found = []
    for number, line in enumerate(lines, start=1):
        try:
            values = json.loads(line)
        except ValueError as error:
            raise SpecError(f"{path}:{number}: not valid JSON: {error}. The log is only ever added to.") from error
        found.append(parse_model(values, Decision, f"{path}:{number}"))
    return [each for each in found if what is None or each.what == what]


def whoami() -> str:
    """Returns the user and the host of this process, as `ada@trainer-1`."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        user = "unknown"
    return f"{user}@{socket.gethostname()}"


def _add(file: str, line: bytes) -> None:
    os.makedirs(os.path.dirname(file), exist_ok=True)
    new = not os.path.exists(file)
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        os.ftruncate(descriptor, _whole(descriptor))
        os.lseek(descriptor, 0, os.SEEK_END)
        while line:
            line = line[os.write(descriptor, line) :]
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    if new:
        folder = os.open(os.path.dirname(file), os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _whole(descriptor: int) -> int:
    """How many bytes of the file are whole lines: all of them, unless a crash cut the last one short."""
    size = os.fstat(descriptor).st_size
    end = size
    while end and os.pread(descriptor, 1, end - 1) != b"\n":
        end -= 1
    return end

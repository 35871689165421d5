"""The terminal: its two streams, how requests are read, what a command says of an error."""

from __future__ import annotations

import functools
import json
import logging
import os
import sys
import tempfile

from features.errors import ClickmillError, InputError, NotFoundError

#: Where a command notes in its context's `meta` which log the traceback of a defect belongs to.
LOG = "clickmill.log"
#: Exit code of a command that ends by a defect of Clickmill: EX_SOFTWARE of sysexits.h.
DEFECT = 70


@functools.cache
def out():
    """The terminal's standard output; made when first used, for rich alone is a third of the time that help takes."""
    from rich.console import Console

    return Console()


@functools.cache
def err():
    """The terminal's standard error."""
    from rich.console import Console

    return Console(stderr=True)


def read_request(path: str) -> dict:
    """Reads a JSON request from a file, or from standard input where the path is `-`.

    Raises:
      InputError: if it is not JSON.
      OSError: if the file cannot be read.
    """
    from features import storage

    try:
        return json.loads(sys.stdin.read() if path == "-" else storage.read_text(path))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{'standard input' if path == '-' else path}: not valid JSON: {error}.") from error


def require_folder(path: str) -> None:
    """Raises `NotFoundError` if there is no folder of a pushed model or of its tables."""
    from features import storage

    if not storage.is_folder(path):
        raise NotFoundError(f"{path}: no such folder. `clickmill run` prints where it pushed its models.")


def explain(error: Exception, log: str | None = None) -> tuple[str, int]:
    """Returns what a command says of the error that ends it, and its exit code.

    Errors that the user can mend say so themselves. Any other is a defect of Clickmill: one line that names the file
    with the traceback.

    Args:
      error: what was raised.
      log: of the run, if there is one; otherwise the traceback goes to `runs/clickmill.log`, or to a temporary file
        where there is no such folder.
    """
    if isinstance(error, ClickmillError):
        return str(error), error.exit_code
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}.", InputError.exit_code
    if isinstance(error, FileNotFoundError | FileExistsError | PermissionError):
        return str(error), InputError.exit_code
    first = next(iter(str(error).splitlines()), "")
    path = _write_traceback(error, log)
    return f"{type(error).__name__}: {first} (a defect of Clickmill; its traceback is in {path})", DEFECT


def _write_traceback(error: Exception, log: str | None) -> str:
    """Appends the traceback to the first of the logs that can be written; returns which."""
    candidates = [log] if log else []
    for path in (*candidates, os.path.join("runs", "clickmill.log"), None):
        try:
            path = path or tempfile.mkstemp(prefix="clickmill-", suffix=".log")[1]
            handler = logging.FileHandler(path, encoding="utf-8", errors="backslashreplace")
        except OSError:
            continue
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
        info = (type(error), error, error.__traceback__)
        message = f"A defect ended: {' '.join(sys.argv)}"
        handler.handle(logging.makeLogRecord({"levelname": "ERROR", "msg": message, "exc_info": info}))
        handler.close()
        return path
    return "no file: none can be written here"

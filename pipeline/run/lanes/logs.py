"""Where a run's log goes: everyone's warnings and TFX's notes, to a file, not to the terminal."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator

from features import storage

FORMAT = "%(asctime)s %(levelname)s %(name)s %(message)s"


@contextlib.contextmanager
def log_to(path: storage.AnyPath) -> Iterator[None]:
    """Appends the log to a file while the block lasts."""
    file = logging.FileHandler(path, encoding="utf-8")
    file.setFormatter(logging.Formatter(FORMAT))
    try:
        with log_through(file):
            yield
    finally:
        file.close()


@contextlib.contextmanager
def log_through(handler: logging.Handler) -> Iterator[None]:
    """Gives a handler TFX's log (from INFO) and everyone's warnings, and only it, while the block lasts."""
    from absl import logging as absl_logging

    root, tfx = logging.getLogger(), logging.getLogger("absl")
    handlers, before = list(root.handlers), (list(tfx.handlers), tfx.propagate, absl_logging.get_verbosity())
    root.handlers[:], tfx.handlers[:], tfx.propagate = [handler], [handler], False
    # Not the logger's level: whoever parses absl's flags during the run would set that back.
    absl_logging.set_verbosity(absl_logging.INFO)
    try:
        yield
    finally:
        root.handlers[:] = handlers
        tfx.handlers[:], tfx.propagate = before[0], before[1]
        absl_logging.set_verbosity(before[2])

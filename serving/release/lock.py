"""One writer at a time changes which releases a root has and which of them a label names."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator

from features import storage
from serving.release.registry import RELEASES_FOLDER

LOCK_FILE = ".lock"


@contextlib.contextmanager
def locked(root: storage.AnyPath) -> Iterator[None]:
    """Waits for the other writers of a serving root, and keeps them waiting while the block lasts.

    The kernel frees the lock of a process that dies. Object stores have no locks: there the last write wins, whole.
    """
    if not storage.is_local(root):
        yield
        return
    folder = storage.absolute(storage.join(root, RELEASES_FOLDER))
    os.makedirs(folder, exist_ok=True)
    descriptor = os.open(os.path.join(folder, LOCK_FILE), os.O_RDWR | os.O_CREAT, 0o666)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)

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
    with locked_file(storage.join(root, RELEASES_FOLDER, LOCK_FILE)):
        yield


@contextlib.contextmanager
def locked_file(path: storage.AnyPath, shared: bool = False, wait: bool = True) -> Iterator[None]:
    """Holds the lock of a local file while the block lasts; the kernel frees it where the process dies.

    Args:
      path: the file, made with its folder where it is not there; it stays empty.
      shared: whether others may hold it too, as far as they share it.
      wait: for those who hold it.

    Raises:
      BlockingIOError: if another process holds it, and `wait` is not asked for.
    """
    file = storage.absolute(path)
    os.makedirs(os.path.dirname(file), exist_ok=True)
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB))
        yield
    finally:
        os.close(descriptor)

"""ML Metadata for several threads of one process."""

from __future__ import annotations


def metadata_of(connection, lock):
    """Returns a connection to ML Metadata that one thread uses at a time: SQLite aborts writers that meet.

    Args:
      connection: its configuration.
      lock: an `RLock` that all connections of the process share.
    """
    from tfx.orchestration.metadata import Metadata

    class OneAtATime(Metadata):
        def __enter__(self):
            lock.acquire()
            try:
                return super().__enter__()
            except BaseException:
                lock.release()
                raise

        def __exit__(self, *exception) -> None:
            try:
                super().__exit__(*exception)
            finally:
                lock.release()

    return OneAtATime(connection)

"""Reading a store's records one after the other, and what a check of them found."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from serving.user_stores.environment import SharedEnvironment

_PAGE_USERS = 256
_MAX_FAULTS = 20


@dataclass
class Verification:
    """What the check of a store found.

    Attributes:
      users, behaviors: records and behaviours in them.
      num_bytes: of the records.
      faults: (user or key, what is wrong), the first 20.
      num_faults: how many there are.
    """

    users: int = 0
    behaviors: int = 0
    num_bytes: int = 0
    faults: list[tuple[str, str]] = field(default_factory=list)
    num_faults: int = 0

    def add_fault(self, where: object, what: str) -> None:
        self.num_faults += 1
        if len(self.faults) < _MAX_FAULTS:
            self.faults.append((str(where), what))


def read_records(environment: SharedEnvironment, database=None) -> Iterator[tuple[bytes, bytes, bytes | None]]:
    """Yields (key, record, long id) in the order of keys; each page is read in a transaction of its own.

    Args:
      environment: of the store.
      database: of the environment; the records by default.
    """
    database = environment.records if database is None else database
    start = b""
    while True:

        def read_page(transaction, start=start):
            page = []
            cursor = transaction.cursor(database)
            found = cursor.set_range(start) if start else cursor.first()
            while found and len(page) < _PAGE_USERS:
                key = bytes(cursor.key())
                text = transaction.get(key, db=environment.long_ids) if key[:1] == b"t" else None
                page.append((key, bytes(cursor.value()), None if text is None else bytes(text)))
                found = cursor.next()
            return page

        page = environment.read(read_page)
        yield from page
        if len(page) < _PAGE_USERS:
            return
        start = page[-1][0] + b"\0"

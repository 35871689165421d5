"""Reading a store's records one after the other, and checking them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from features.histories.bucket_table import BucketTable
from serving.bse.environment import SharedEnvironment
from serving.bse.record import RecordError, RecordLayout, user_of

_PAGE_USERS = 256
_MAX_FAULTS = 20


@dataclass
class Verification:
    """What `BseStore.verify` found.

    Attributes:
      users, behaviors: tables and behaviours in them.
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


def read_records(environment: SharedEnvironment) -> Iterator[tuple[bytes, bytes, bytes | None]]:
    """Yields (key, record, long id) in the order of keys; each page is read in a transaction of its own."""
    start = b""
    while True:

        def read_page(transaction, start=start):
            page = []
            cursor = transaction.cursor(environment.tables)
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


def verify_records(environment: SharedEnvironment, layout: RecordLayout) -> Verification:
    """Reads every record and checks it, by its layout too. Raises `StoreError` if LMDB cannot read on."""
    found = Verification()
    for key, record, text in read_records(environment):
        found.users += 1
        found.num_bytes += len(record)
        user: object = key
        try:
            user = user_of(key, text)
            table = layout.decode(record)
        except (RecordError, UnicodeDecodeError) as error:
            found.add_fault(user, str(error))
            continue
        found.behaviors += int(table.counts[0].sum())
        for what in _faults(table):
            found.add_fault(user, what)
    return found


def _faults(table: BucketTable) -> list[str]:
    found = []
    if table.counts.min() < 0:
        found.append("a count is negative")
    if len(set(table.counts.sum(axis=1).tolist())) > 1:
        found.append("groups count different numbers of behaviours")
    if not np.isfinite(table.sums).all():
        found.append("a sum is not finite")
    if table.sums[table.counts == 0].any():
        found.append("an empty bucket has a sum")
    return found

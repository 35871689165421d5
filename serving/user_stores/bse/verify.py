"""Checking a store's tables one after the other."""

from __future__ import annotations

import numpy as np

from features.histories.bucket_table import BucketTable
from serving.user_stores.bse.record import RecordLayout
from serving.user_stores.bse.table_state import StateLayout
from serving.user_stores.environment import SharedEnvironment
from serving.user_stores.record_pages import Verification, read_records
from serving.user_stores.user_keys import RecordError, user_of


def verify_records(
    environment: SharedEnvironment, layout: RecordLayout, states: StateLayout | None = None
) -> Verification:
    """Reads every record, and what appending needs beside it, and checks them. Raises `StoreError` if LMDB fails."""
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
    for key, state, text in read_records(environment, environment.states) if states is not None else ():
        user = key
        try:
            user = user_of(key, text)
            window, _ = states.decode(state)
        except (RecordError, ValueError, KeyError) as error:
            found.add_fault(user, f"its window: {error}")
            continue
        if len(window) > states.length or set(window.columns) != set(states.columns):
            found.add_fault(user, "its window is not of the store's lengths or columns")
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

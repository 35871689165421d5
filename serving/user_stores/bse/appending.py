"""How behaviours enter and leave the tables of an open store: planned, encoded by the ranker, then written."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import lmdb
import numpy as np

from features.histories.bucket_table import BucketTable
from serving.user_stores.append_log import Mark
from serving.user_stores.behavior_window import BehaviorWindow, Outcome, Row
from serving.user_stores.bse.record import RecordLayout
from serving.user_stores.bse.table_state import StateLayout, encode_exactly, exact_sums
from serving.user_stores.environment import SharedEnvironment
from serving.user_stores.user_keys import user_key

User = str | int


@dataclass(frozen=True)
class Change:
    """One behaviour that enters or leaves a table.

    Attributes:
      user: whose.
      value: [d] float32, its embedding by the store's ranker.
      signature: [G] its signature.
      expires: whether it leaves.
    """

    user: User
    value: np.ndarray
    signature: np.ndarray
    expires: bool = False


@dataclass(frozen=True)
class Move:
    """A behaviour, not encoded yet, that enters or leaves a table.

    Attributes:
      user: whose.
      row: `timestamp`, `item_id`, and the other history features.
      expires: whether it leaves.
    """

    user: User
    row: dict[str, Any]
    expires: bool = False


@dataclass
class AppendPlan:
    """What a batch of behaviours does to a store.

    Attributes:
      before: up to where the store had taken in the log.
      after: up to where it has then.
      outcomes: what becomes of each behaviour.
      windows: of the users whose windows change.
      moves: what enters tables and leaves them, in order.
    """

    before: Mark
    after: Mark
    outcomes: list[Outcome] = field(default_factory=list)
    windows: dict[User, BehaviorWindow] = field(default_factory=dict)
    moves: list[Move] = field(default_factory=list)

    def add(self, user: User, row: Row, short_length: int) -> None:
        """Adds a behaviour to the user's window, which is in `windows` already."""
        window = self.windows[user]
        held = len(window)
        addition = window.add(row)
        self.outcomes.append(addition.outcome)
        if addition.place is None:
            return
        if held >= short_length:
            # One more stands before the short history: the new one, or the one that it pushes over there.
            place = min(addition.place, held - short_length)
            if addition.left is not None and not place:
                return  # Where the long window has no length, what enters has left already.
            self.moves.append(Move(user, window.row(place - (addition.left is not None))))
        if addition.left is not None:
            self.moves.append(Move(user, addition.left, expires=True))


def plan(
    transaction: lmdb.Transaction,
    environment: SharedEnvironment,
    layout: StateLayout,
    before: Mark,
    number: int,
    behaviors: Sequence[tuple[User, Row]],
) -> AppendPlan:
    """Returns what behaviours do to a store; nothing is changed.

    Args:
      transaction: of the store, for reading.
      environment, layout: of the store.
      before: up to where it has taken in the log.
      number: of the last of the behaviours in the log.
      behaviors: (user, behaviour), in the log's order.
    """
    found = AppendPlan(before, Mark(before.log_id, number))
    for user, row in behaviors:
        if user not in found.windows:
            state = transaction.get(user_key(user)[0], db=environment.states)
            found.windows[user] = layout.empty_window() if state is None else layout.decode(bytes(state))[0]
        found.add(user, row, layout.history.short_length)
    return found


def change_tables(
    transaction: lmdb.Transaction,
    environment: SharedEnvironment,
    layout: RecordLayout,
    states: StateLayout | None,
    changes: Iterable[Change],
    windows: Mapping[User, BehaviorWindow],
) -> int:
    """Makes changes in a transaction, in order, and sets windows; returns how many users they touched.

    Raises:
      RecordError: if a record or state is damaged.
      ValueError: if a value or signature does not fit, or an expired behaviour is not there.
    """
    tables: dict[User, tuple[BucketTable, BehaviorWindow | None]] = {}

    def load(user: User) -> BucketTable:
        if user not in tables:
            tables[user] = _load(transaction, environment, layout, states, user)
        return tables[user][0]

    for user in windows:
        load(user)
    for change in changes:
        table = load(change.user)
        (table.expire if change.expires else table.append)(change.value, change.signature)
    for user, (table, window) in tables.items():
        _store(transaction, environment, layout, states, user, table, windows.get(user, window))
    return len(tables)


def _load(transaction, environment, layout, states, user: User) -> tuple[BucketTable, BehaviorWindow | None]:
    """A user's table with its rest, and window; empty for a user without."""
    key, _ = user_key(user)
    record = transaction.get(key, db=environment.records)
    table = BucketTable.empty(layout.num_groups, layout.num_buckets, layout.dim)
    if record is not None:
        table = layout.decode(bytes(record))
    state = None if states is None else transaction.get(key, db=environment.states)
    if state is None:
        return table, None if states is None else states.empty_window()
    window, rest = states.decode(bytes(state))
    if rest is None:
        rest = np.zeros_like(table.sums)
    return BucketTable(table.sums, table.counts, rest), window


def _store(transaction, environment, layout, states, user: User, table: BucketTable, window) -> None:
    key, text = user_key(user)
    rest = None
    if table.counts.any():
        exact = exact_sums(table)[np.newaxis]
        (record,), (rest,) = encode_exactly(layout, exact, table.counts[np.newaxis])
        transaction.put(key, record, db=environment.records)
    else:
        transaction.delete(key, db=environment.records)
    if states is not None:
        transaction.put(key, states.encode(window, rest), db=environment.states)
    if text is None:
        return
    if states is None and not table.counts.any():
        transaction.delete(key, db=environment.long_ids)
    else:
        transaction.put(key, text, db=environment.long_ids)

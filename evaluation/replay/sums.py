"""What all estimators need of a log: sums by user, and by user and slot, that merge in any order to the same bits.

    logged → UserSums.of(logged, estimators) → merge → .policy(name) → estimator.estimate(…), .influence(…)

Memory is that of the users (and of the users' slots, where a list estimator asks for them), not of rows or items. Rows
of a user may be torn apart between parts, rows of a request may not. NumPy, a Beam job and the report use this class.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Protocol

import numpy as np

from evaluation.metrics.rows import Array
from evaluation.replay.exact import add_groups, to_doubles, to_limbs
from evaluation.replay.logged import LoggedRewards
from features.errors import InputError

SHARED = ("rows", "requests", "r", "rr")
"""Sums that all policies have in common: counts, Σr and Σr²."""

WEIGHTED = ("w", "ww", "wr", "wwr", "wwrr")
"""Sums that every policy has: Σw, Σw², Σwr, Σw²r, Σw²r²; w is the policy's propensity over the logger's."""


class Summed(Protocol):
    """What `UserSums` asks of an estimator: which columns it wants to be summed besides `SHARED` and `WEIGHTED`.

    Attributes:
      key: tells it, with its parameter, from all others.
    """

    @property
    def key(self) -> str: ...

    def check(self, logged: LoggedRewards) -> None:
        """Raises `InputError` for a log that it cannot be used on."""

    def terms(self, logged: LoggedRewards, policy: str) -> dict[str, Array]:
        """Columns [N] to sum by user; their names begin with the estimator's key."""

    def slot_terms(self, logged: LoggedRewards, policy: str) -> dict[str, Array]:
        """Columns [N] to sum by user and slot."""


@dataclass(frozen=True)
class SumTable:
    """Exact sums of columns by key.

    Attributes:
      user: [K] int64, rising.
      slot: [K] int64, rising within a user; zeros where sums are by user alone.
      columns: name → [3, K] limbs (`evaluation.replay.exact`).
    """

    user: Array
    slot: Array
    columns: dict[str, Array]

    @classmethod
    def of_rows(cls, user: Array, slot: Array | None, columns: Iterable[tuple[str, Array]]) -> SumTable:
        """Sums rows.

        Args:
          user, slot: [N]; without slots, by user alone.
          columns: names and [N] doubles; an iterator's are made, summed and dropped one after the other.
        """
        order, starts, keys = _groups(user, slot)
        return cls(*keys, {name: add_groups(to_limbs(each[order], f"`{name}`"), starts) for name, each in columns})

    @classmethod
    def merged(cls, tables: list[SumTable]) -> SumTable:
        """The table of all rows of tables with the same columns."""
        order, starts, keys = _groups(*(np.concatenate([getattr(t, key) for t in tables]) for key in ("user", "slot")))
        found = {}
        for name in tables[0].columns:  # one after the other: all of them joined would be as large as the parts again
            limbs = np.concatenate([table.columns[name] for table in tables], axis=1)
            found[name] = add_groups(np.take(limbs, order, axis=1), starts)
        return cls(*keys, found)

    def values(self, name: str) -> Array:
        """[K] doubles."""
        return to_doubles(self.columns[name])

    def total(self, name: str) -> float:
        """The sum over all keys."""
        limbs = self.columns[name]
        return float(to_doubles(add_groups(limbs, np.zeros(min(1, limbs.shape[1]), np.int64))).sum())


@dataclass(frozen=True)
class UserSums:
    """The sums of a log, by user and policy.

    Attributes:
      policies: names.
      by_user: columns `SHARED`, and `policy/column` for `WEIGHTED` and what the estimators asked for.
      by_slot: by user and slot, `rows` and `policy/column`; None where no estimator asked.
      largest: policy → [U] the largest weight of each user.
      reward_range: the smallest and the largest reward; (inf, -inf) of no rows.
    """

    policies: tuple[str, ...]
    by_user: SumTable
    by_slot: SumTable | None
    largest: dict[str, Array]
    reward_range: tuple[float, float]

    @classmethod
    def of(cls, logged: LoggedRewards, estimators: Iterable[Summed] = ()) -> UserSums:
        """Sums a log, or a part of it that tears no request apart.

        Args:
          logged: the rows.
          estimators: those that will be asked for; IPS, SNIPS and Cressie-Read need no more than what is always there.

        Raises:
          InputError: for an estimator that needs what the log does not have.
        """
        wanted = list({estimator.key: estimator for estimator in estimators}.values())
        for estimator in wanted:
            estimator.check(logged)
        by_user = SumTable.of_rows(logged.user, None, _columns(logged, wanted))
        slots = _slot_columns(logged, wanted)
        first = next(slots, None)
        by_slot = None if first is None else SumTable.of_rows(logged.user, logged.slot, chain([first], slots))
        policies = logged.policies
        order, starts, _ = _groups(logged.user, None)
        largest = {policy: np.maximum.reduceat(logged.weights[policy][order], starts) for policy in policies}
        lowest, highest = (logged.reward.min(), logged.reward.max()) if len(logged) else (np.inf, -np.inf)
        return cls(policies, by_user, by_slot, largest, (float(lowest), float(highest)))

    def merge(self, *others: UserSums) -> UserSums:
        """The sums of all parts: the same bits in whatever order and by whatever steps parts are merged.

        Raises:
          InputError: for parts that were summed for other policies or estimators.
        """
        parts = [self, *others]
        if len({part._columns for part in parts}) > 1:
            raise InputError("only sums of the same policies and the same estimators can be merged.")
        by_user = SumTable.merged([part.by_user for part in parts])
        slots = [part.by_slot for part in parts if part.by_slot is not None]
        order, starts, _ = _groups(np.concatenate([part.by_user.user for part in parts]), None)
        largest = {
            policy: np.maximum.reduceat(np.concatenate([part.largest[policy] for part in parts])[order], starts)
            for policy in self.policies
        }
        ranges = np.array([part.reward_range for part in parts])
        span = (float(ranges[:, 0].min()), float(ranges[:, 1].max()))
        return UserSums(self.policies, by_user, SumTable.merged(slots) if slots else None, largest, span)

    @classmethod
    def merged(cls, parts: Iterable[UserSums]) -> UserSums:
        """The sums of many parts, such as the batches of a file, read one after the other.

        A part is merged about log₂ P times in all, parts of like size first, where merging each into what there is
        would take the users' number of steps P times. The stack holds at most log₂ P parts.

        Raises:
          InputError: without a part, and as `merge`.
        """
        stack: list[tuple[int, UserSums]] = []
        for part in parts:
            size = 1
            while stack and stack[-1][0] <= size:
                below, other = stack.pop()
                part, size = other.merge(part), size + below
            stack.append((size, part))
        if not stack:
            raise InputError("there is no part to merge: the log has no rows.")
        while len(stack) > 1:
            (size, part), (below, other) = stack.pop(), stack.pop()
            stack.append((size + below, other.merge(part)))
        return stack[0][1]

    @property
    def users(self) -> Array:
        """[U] int64 keys, rising."""
        return self.by_user.user

    def policy(self, name: str) -> PolicySums:
        """The sums of one policy; all policies have the same users in the same order, so differences are paired.

        Raises:
          InputError: for a policy that was not summed.
        """
        if name not in self.policies:
            raise InputError(f"`{name}` is not a policy of these sums. Known: {', '.join(self.policies)}.")
        return PolicySums(name, self)

    @property
    def _columns(self) -> tuple[frozenset[str], ...]:
        slots = self.by_slot.columns if self.by_slot else {}
        return frozenset(self.policies), frozenset(self.by_user.columns), frozenset(slots)


@dataclass(frozen=True)
class PolicySums:
    """The sums of one policy, as doubles; what estimators take.

    Attributes:
      name: the policy's.
      sums: all policies'.
    """

    name: str
    sums: UserSums
    _kept: dict[str, Array] = field(default_factory=dict, repr=False, compare=False)

    @property
    def users(self) -> Array:
        """[U] int64 keys, rising."""
        return self.sums.users

    @property
    def largest_weight(self) -> Array:
        """[U] the largest weight of each user."""
        return self.sums.largest[self.name]

    def __getitem__(self, column: str) -> Array:
        """[U] sums of a column by user.

        Raises:
          InputError: for a column that was not summed.
        """
        if column not in self._kept:
            self._kept[column] = self.sums.by_user.values(self._key(self.sums.by_user, column))
        return self._kept[column]

    def total(self, column: str) -> float:
        """The sum of a column over all users, rounded once."""
        return self.sums.by_user.total(self._key(self.sums.by_user, column))

    @property
    def slot_cells(self) -> tuple[Array, Array]:
        """For each pair of user and slot: the index of the user in `users` and the slot, each [K]."""
        table = self._slots()
        return np.searchsorted(self.users, table.user), table.slot

    def by_slot(self, column: str) -> Array:
        """[K] sums of a column by user and slot, in the order of `slot_cells`."""
        return self._slots().values(self._key(self._slots(), column))

    def slot_totals(self, column: str) -> Array:
        """[L] sums of a column by slot, over all users."""
        table = self._slots()
        limbs = table.columns[self._key(table, column)]
        order, starts, (_, slot) = _groups(np.zeros(len(table.slot), np.int64), table.slot)
        totals = np.zeros(int(table.slot.max(initial=-1)) + 1)
        totals[slot] = to_doubles(add_groups(limbs[:, order], starts))
        return totals

    def _slots(self) -> SumTable:
        if self.sums.by_slot is None:
            raise InputError("nothing was summed by slot: name the estimators to `UserSums.of`.")
        return self.sums.by_slot

    def _key(self, table: SumTable, column: str) -> str:
        for key in (f"{self.name}/{column}", column):
            if key in table.columns:
                return key
        raise InputError(f"`{column}` was not summed for `{self.name}`: name its estimator to `UserSums.of`.")


def _columns(logged: LoggedRewards, estimators: Sequence[Summed]) -> Iterator[tuple[str, Array]]:
    yield from zip(
        SHARED, (np.ones(len(logged)), logged.first_of_request, logged.reward, logged.reward**2), strict=True
    )
    for policy in logged.policies:
        for name, column in _weighted(logged.weights[policy], logged.reward).items():
            yield f"{policy}/{name}", column
        for estimator in estimators:
            for name, column in estimator.terms(logged, policy).items():
                yield f"{policy}/{name}", column


def _slot_columns(logged: LoggedRewards, estimators: Sequence[Summed]) -> Iterator[tuple[str, Array]]:
    """The columns by slot, and before the first of them the number of rows."""
    started = False
    for policy in logged.policies:
        for estimator in estimators:
            for name, column in estimator.slot_terms(logged, policy).items():
                if not started:
                    started = True
                    yield "rows", np.ones(len(logged))
                yield f"{policy}/{name}", column


def _weighted(weight: Array, reward: Array) -> dict[str, Array]:
    product = weight * reward
    found = (weight, weight**2, product, weight * product, product**2)
    return dict(zip(WEIGHTED, found, strict=True))


def _groups(user: Array, slot: Array | None) -> tuple[Array, Array, tuple[Array, Array]]:
    """Sorts keys: the order of the rows, where each key begins in it, and the keys (user, slot)."""
    if slot is None:
        slot = np.zeros(len(user), np.int64)
        order = np.argsort(user, kind="stable")
    else:
        order = np.lexsort((slot, user))
    users, slots = user[order], slot[order]
    new = np.ones(len(order), bool)
    new[1:] = (users[1:] != users[:-1]) | (slots[1:] != slots[:-1])
    starts = np.flatnonzero(new)
    return order, starts, (users[starts], slots[starts].astype(np.int64))

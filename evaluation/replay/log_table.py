"""Reads logged rewards from an Arrow table, and refuses or counts what cannot be used."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from evaluation.metrics.rows import Array
from evaluation.replay.logged import OPTIONAL, LoggedRewards
from features.encoding.hashing import hash64
from features.errors import InputError


@dataclass(frozen=True)
class LogColumns:
    """Which columns of a table say what.

    Attributes:
      policies: policy → column of its propensity of the logged item in its slot, in [0, 1].
      reward: column, or columns with the factor of each: the reward is their weighted sum.
      user, request, slot, propensity: columns; without a column of slots (None), each row is a list of its own.
      item: column of items, to look them up and to find one twice in a request; None leaves both unchecked.
      optional: one of `OPTIONAL` → policy → column; placements are lists of one number a slot.
      logger_placements, behavior: columns.
    """

    policies: Mapping[str, str]
    reward: str | Mapping[str, float] = "label"
    user: str = "user_id"
    request: str = "request_id"
    slot: str | None = "position"
    propensity: str = "propensity"
    item: str | None = None
    optional: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    logger_placements: str | None = None
    behavior: str | None = None

    @property
    def names(self) -> list[str]:
        """All columns that are read."""
        rewards = [self.reward] if isinstance(self.reward, str) else list(self.reward)
        single = (self.user, self.request, self.slot, self.propensity, self.item, self.logger_placements, self.behavior)
        several = (self.policies, *self.optional.values())
        every = [*single, *rewards, *(name for by_policy in several for name in by_policy.values())]
        return list(dict.fromkeys(name for name in every if name is not None))


def logged_from_table(
    table: pa.Table, columns: LogColumns, items: Collection[object] | None = None, exclude: bool = False
) -> LoggedRewards:
    """Reads a log.

    Args:
      table: N rows, in any order.
      columns: which of its columns say what.
      items: the catalogue; rows of others are faults. Needs `columns.item`.
      exclude: whether requests with a faulty row are left out and counted in `excluded`, instead of an error. The
        whole request goes: a list without one of its rows is another list.

    Returns:
      The rows by request and slot. Integer keys are kept, others are hashed (64 bits).

    Raises:
      InputError: for a column that is not there, and, without `exclude`, for the first kind of fault: a propensity
        that is missing or outside (0, 1], a policy's that is missing or outside [0, 1], a reward that is missing,
        a slot that is missing or negative, an item that is unknown, a request with a slot or an item twice, or of two
        users.
    """
    found = _read(table, columns)
    faults = _faults(found, table, columns, items)
    bad = np.zeros(table.num_rows, bool)
    excluded: dict[str, int] = {}
    for fault, rows in faults.items():
        if rows.any() and not exclude:
            at = int(rows.argmax())
            key = table[columns.request][at].as_py()
            raise InputError(
                f"{fault}: {int(rows.sum())} of {len(rows)} rows, the first of request {key!r}. Mend the log, or "
                "leave such requests out with `exclude`."
            )
        excluded |= {fault: int(rows.sum())} if rows.any() else {}
        bad |= rows
    keep = ~np.isin(found["request"], found["request"][bad]) if bad.any() else np.ones(len(bad), bool)
    order = np.lexsort((found["slot"], found["request"]))
    return _logged({name: column[order[keep[order]]] for name, column in found.items()}, columns, excluded)


def beside(table: pa.Table, columns: LogColumns, logged: LoggedRewards, name: str) -> pa.ChunkedArray:
    """Another column of the table, [N] for the rows of the log that was read from it: a day, a city, a device.

    Raises:
      InputError: for a column that is not there.
    """
    values, request = _column(table, name), _keys(table, columns.request)
    order = np.lexsort((_slots(table, columns), request))
    return values.take(pa.array(order[np.isin(request[order], logged.request)]))


def _read(table: pa.Table, columns: LogColumns) -> dict[str, Array]:
    found = {"user": _keys(table, columns.user), "request": _keys(table, columns.request)}
    found["slot"] = _slots(table, columns)
    weights = {columns.reward: 1.0} if isinstance(columns.reward, str) else columns.reward
    found["reward"] = sum(
        (factor * _numbers(table, name) for name, factor in weights.items()), np.zeros(table.num_rows)
    )
    found["propensity"] = _numbers(table, columns.propensity)
    found |= {f"policies/{policy}": _numbers(table, name) for policy, name in columns.policies.items()}
    for kind, by_policy in columns.optional.items():
        if kind not in OPTIONAL:
            raise InputError(f"`{kind}` is not an optional column of a policy. Known: {', '.join(OPTIONAL)}.")
        read = _lists if kind == "placements" else _numbers
        found |= {f"{kind}/{policy}": read(table, name) for policy, name in by_policy.items()}
    if columns.logger_placements is not None:
        found["logger_placements"] = _lists(table, columns.logger_placements)
    if columns.behavior is not None:
        found["behavior"] = _numbers(table, columns.behavior).astype(np.int64)
    return found


def _faults(
    found: dict[str, Array], table: pa.Table, columns: LogColumns, items: Collection[object] | None
) -> dict[str, Array]:
    """The rows with each fault, each [N] bool, by what the fault is called."""
    propensity = found["propensity"]
    faults = {
        "the propensity is missing": np.isnan(propensity),
        "the propensity does not lie in (0, 1]": (propensity <= 0) | (propensity > 1),
        "the reward is missing": ~np.isfinite(found["reward"]),
        "the slot is missing or negative": found["slot"] < 0,
    }
    for policy in columns.policies:
        given = found[f"policies/{policy}"]
        faults[f"policy `{policy}` has no propensity"] = np.isnan(given)
        faults[f"the propensity of policy `{policy}` does not lie in [0, 1]"] = (given < 0) | (given > 1)
    if columns.item is not None:
        item = _keys(table, columns.item)
        if items is not None:
            known = hash_keys(pa.array(list(items)))
            faults["the item is not in the catalogue"] = ~np.isin(item, known)
        faults["a request has an item twice"] = _repeated(found["request"], item)
    faults["a request has a slot twice"] = _repeated(found["request"], found["slot"])
    faults["a request has two users"] = _two_users(found["request"], found["user"])
    return faults


def _logged(found: dict[str, Array], columns: LogColumns, excluded: dict[str, int]) -> LoggedRewards:
    columns_of: dict[str, Any] = {kind: {} for kind in columns.optional}
    for kind, by_policy in columns.optional.items():
        columns_of[kind] = {policy: found[f"{kind}/{policy}"] for policy in by_policy}
    columns_of |= {name: found[name] for name in ("user", "request", "slot", "reward", "propensity")}
    columns_of |= {name: found.get(name) for name in ("logger_placements", "behavior")}
    weights = {policy: found[f"policies/{policy}"] / found["propensity"] for policy in columns.policies}
    return LoggedRewards(**columns_of, weights=weights, excluded=excluded)


def hash_keys(values: pa.Array | pa.ChunkedArray) -> Array:
    """Keys of users, requests or items, [N] int64: integers as they are, others hashed."""
    kind = values.type.value_type if pa.types.is_dictionary(values.type) else values.type
    if pa.types.is_integer(kind) and not pa.types.is_dictionary(values.type) and values.null_count == 0:
        return np.asarray(values.to_numpy()).astype(np.int64)
    return hash64(values).view(np.int64)


def _slots(table: pa.Table, columns: LogColumns) -> Array:
    """[N] the slots, -1 of what is missing."""
    slot = np.zeros(table.num_rows) if columns.slot is None else _numbers(table, columns.slot)
    return np.where(np.isfinite(slot), slot, -1).astype(np.int64)


def _column(table: pa.Table, name: str) -> pa.ChunkedArray:
    if name not in table.column_names:
        raise InputError(f"the log has no column `{name}`. It has: {', '.join(table.column_names)}.")
    return table[name]


def _keys(table: pa.Table, name: str) -> Array:
    values = _column(table, name)
    if values.null_count:
        raise InputError(f"`{name}` is missing in {values.null_count} rows.")
    return hash_keys(values)


def _numbers(table: pa.Table, name: str) -> Array:
    """[N] doubles, NaN of nulls."""
    try:
        return np.asarray(_column(table, name).cast(pa.float64()).to_numpy(), np.float64)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise InputError(f"`{name}` must hold numbers: {error}") from None


def _lists(table: pa.Table, name: str) -> Array:
    """[N, L] doubles of lists of L numbers."""
    rows = _column(table, name).to_pylist()
    if len({len(row or ()) for row in rows}) > 1:
        raise InputError(f"`{name}` must hold a list of one number for each slot in every row.")
    return np.array(rows, np.float64).reshape(len(rows), -1)


def _repeated(request: Array, value: Array) -> Array:
    """[N] whether an earlier row of the request has the same value."""
    order = np.lexsort((value, request))
    same = np.zeros(len(order), bool)
    same[order[1:]] = (np.diff(request[order]) == 0) & (np.diff(value[order]) == 0)
    return same


def _two_users(request: Array, user: Array) -> Array:
    """[N] whether a row has another user than a row before it of its request, users in order."""
    order = np.lexsort((user, request))
    other = np.zeros(len(order), bool)
    other[order[1:]] = (np.diff(request[order]) == 0) & (np.diff(user[order]) != 0)
    return other

"""Reads logged rewards from an Arrow table, and refuses or counts what cannot be used."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, get_args

import numpy as np
import pyarrow as pa

from evaluation.metrics.rows import Array
from evaluation.replay.logged import OPTIONAL, LoggedRewards, PropensityKind
from evaluation.replay.weights import cascade_weights
from features.encoding.hashing import hash64
from features.errors import InputError

LARGEST_LIST_WEIGHT = 2.0**24
"""Weights of several slots are cut here. By Markov's inequality a right one is as large once in 2²⁴ rows; where many
are, their mean is far from 1, and diagnostics withhold the verdict."""

DAY_MS = 86_400_000


@dataclass(frozen=True)
class LogColumns:
    """Which columns of a table say what.

    Attributes:
      policies: policy → column of its propensity of the logged item in its slot, in [0, 1].
      reward: column, or columns with the factor of each: the reward is their weighted sum.
      user, request, slot, propensity: columns; without a column of slots (None), each row is a list of its own.
      item: column of items, to look them up and to find one twice in a request; None leaves both unchecked.
      propensity_kind: of `propensity` and of the policies' columns: `conditional` of loggers that fill a list from the
        top and log each slot's probability given those above it (`LoggedRewards.propensity_kind`).
      conditional: column of the logger's conditional propensity, where `propensity` is marginal and both are logged;
        with it and `conditionals`, cascade weights are made.
      conditionals: policy → column of its own.
      slots: only the first so many slots are read. At 1, marginal and conditional are the same.
      candidates: column of how many items the logger could have shown in the row's slot.
      time: column of UTC milliseconds, of which days are made.
      strata: kind → column of parts of the log that diagnostics look at one by one.
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
    propensity_kind: PropensityKind = "marginal"
    conditional: str | None = None
    conditionals: Mapping[str, str] = field(default_factory=dict)
    slots: int | None = None
    candidates: str | None = None
    time: str | None = None
    strata: Mapping[str, str] = field(default_factory=dict)
    optional: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    logger_placements: str | None = None
    behavior: str | None = None

    def __post_init__(self) -> None:
        if self.propensity_kind not in get_args(PropensityKind):
            known = " or ".join(f"`{kind}`" for kind in get_args(PropensityKind))
            raise InputError(f"`propensity_kind` must be {known}. Received: {self.propensity_kind!r}.")
        if self.slots is not None and self.slots < 1:
            raise InputError(f"`slots` must be positive. Received: {self.slots}.")

    @property
    def read_as(self) -> PropensityKind:
        """What the propensities that are read are: of the first slot, both kinds are one."""
        return "marginal" if self.slot is None or self.slots == 1 else self.propensity_kind

    @property
    def whole_lists(self) -> bool:
        """Whether weights of several slots are made, which need every slot above a row."""
        return self.slot is not None and (self.read_as == "conditional" or self.conditional is not None)


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
        a slot that is missing or negative, or without those above it where whole lists are weighed, an item that is
        unknown, a request with a slot or an item twice, or of two users.
    """
    table = _first_slots(table, columns)
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
    ordered = {name: column[order[keep[order]]] for name, column in found.items()}
    return _logged(ordered, columns, excluded, _names(table, columns))


def _first_slots(table: pa.Table, columns: LogColumns) -> pa.Table:
    if columns.slots is None or columns.slot is None:
        return table
    return table.filter(~(_numbers(table, columns.slot) >= columns.slots))  # what is missing is a fault


def _read(table: pa.Table, columns: LogColumns) -> dict[str, Array]:
    found = {"user": _keys(table, columns.user), "request": _keys(table, columns.request)}
    slot = np.zeros(table.num_rows) if columns.slot is None else _numbers(table, columns.slot)
    found["slot"] = np.where(np.isfinite(slot), slot, -1).astype(np.int64)
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
    if columns.whole_lists:
        found |= _read_conditionals(table, columns)
    if columns.candidates is not None:
        found["candidates"] = _numbers(table, columns.candidates)
    if columns.time is not None:
        found["strata/day"] = (np.nan_to_num(_numbers(table, columns.time)) // DAY_MS).astype(np.int64)
    found |= {f"strata/{kind}": hash_keys(_column(table, name)) for kind, name in columns.strata.items()}
    if columns.logger_placements is not None:
        found["logger_placements"] = _lists(table, columns.logger_placements)
    if columns.behavior is not None:
        found["behavior"] = _numbers(table, columns.behavior).astype(np.int64)
    return found


def _read_conditionals(table: pa.Table, columns: LogColumns) -> dict[str, Array]:
    """The conditional propensity of the logger and of each policy that has one."""
    if columns.read_as == "conditional":
        own, of_policies = columns.propensity, columns.policies
    else:
        own, of_policies = str(columns.conditional), columns.conditionals
    found = {f"conditional/{policy}": _numbers(table, name) for policy, name in of_policies.items()}
    return found | {"conditional": _numbers(table, own)}


def _names(table: pa.Table, columns: LogColumns) -> dict[str, dict[int, str]]:
    """How the strata are called whose keys are not integers of the log."""
    found = {}
    for kind, name in columns.strata.items():
        values = _column(table, name).unique()
        if not pa.types.is_integer(values.type):
            texts = ["" if value is None else str(value) for value in values.to_pylist()]
            found[kind] = dict(zip(hash_keys(values).tolist(), texts, strict=True))
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
    if columns.whole_lists:
        faults |= _list_faults(found)
    for policy in columns.policies:
        given = found[f"policies/{policy}"]
        faults[f"policy `{policy}` has no propensity"] = np.isnan(given)
        faults[f"the propensity of policy `{policy}` does not lie in [0, 1]"] = (given < 0) | (given > 1)
    if columns.candidates is not None:
        faults["the number of candidates is missing or below 1"] = ~(found["candidates"] >= 1)
    if columns.item is not None:
        item = _keys(table, columns.item)
        if items is not None:
            known = hash_keys(pa.array(list(items)))
            faults["the item is not in the catalogue"] = ~np.isin(item, known)
        faults["a request has an item twice"] = _repeated(found["request"], item)
    faults["a request has a slot twice"] = _repeated(found["request"], found["slot"])
    faults["a request has two users"] = _two_users(found["request"], found["user"])
    return faults


def _list_faults(found: dict[str, Array]) -> dict[str, Array]:
    """The rows without those above them, or without conditional propensities."""
    order = np.lexsort((found["slot"], found["request"]))
    request, slot = found["request"][order], found["slot"][order]
    above = np.empty(len(order), bool)
    above[order] = slot != np.arange(len(order)) - np.searchsorted(request, request)
    faults = {"a slot above is not in the log": above}
    for name, values in found.items():
        kind, _, policy = name.partition("/")
        if kind != "conditional":
            continue
        what = f"the conditional propensity of policy `{policy}`" if policy else "the conditional propensity"
        lowest = values >= 0 if policy else values > 0
        faults[f"{what} is missing or does not lie in {'[' if policy else '('}0, 1]"] = ~(lowest & (values <= 1))
    return faults


def _logged(
    found: dict[str, Array], columns: LogColumns, excluded: dict[str, int], names: dict[str, dict[int, str]]
) -> LoggedRewards:
    columns_of: dict[str, Any] = {kind: {} for kind in columns.optional}
    for kind, by_policy in columns.optional.items():
        columns_of[kind] = {policy: found[f"{kind}/{policy}"] for policy in by_policy}
    columns_of |= {name: found[name] for name in ("user", "request", "slot", "reward", "propensity")}
    columns_of |= {name: found.get(name) for name in ("logger_placements", "behavior", "candidates")}
    columns_of["strata"] = {name[len("strata/") :]: found[name] for name in found if name.startswith("strata/")}
    weights = {policy: found[f"policies/{policy}"] / found["propensity"] for policy in columns.policies}
    if columns.whole_lists:
        made = {
            name.partition("/")[2]: cascade_weights(found["request"], found[name] / found["conditional"])
            for name in found
            if name.startswith("conditional/")
        }
        made = {policy: np.fmin(np.nan_to_num(w, nan=0.0), LARGEST_LIST_WEIGHT) for policy, w in made.items()}
        columns_of["cascade_weights"] = made | columns_of.get("cascade_weights", {})
        weights = made if columns.read_as == "conditional" else weights
    return LoggedRewards(
        **columns_of,
        weights=weights,
        excluded=excluded,
        propensity_kind=columns.read_as,
        stratum_names=names,
    )


def hash_keys(values: pa.Array | pa.ChunkedArray) -> Array:
    """Keys of users, requests or items, [N] int64: integers as they are, others hashed."""
    kind = values.type.value_type if pa.types.is_dictionary(values.type) else values.type
    if pa.types.is_integer(kind) and not pa.types.is_dictionary(values.type) and values.null_count == 0:
        return np.asarray(values.to_numpy()).astype(np.int64)
    return hash64(values).view(np.int64)


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

"""Impressions that were logged more than once: which row stays, and in what the others differ from it."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from features.arrow import is_list, list_lengths, to_numpy


def find_duplicates(keys: np.ndarray, times: np.ndarray, skip: np.ndarray) -> np.ndarray:
    """Returns which rows repeat another, [n] bool; the earliest row of a key stays, the first of the same time.

    Args:
      keys: [n] int64: the (request, item) of each row.
      times: [n] int64.
      skip: [n] bool: rows that take no part.
    """
    duplicate = np.zeros(len(keys), bool)
    taking_part = np.flatnonzero(~skip) if skip.any() else np.arange(len(keys))
    order = np.argsort(keys[taking_part], kind="stable")
    ordered = keys[taking_part][order]
    if np.any(ordered[1:] == ordered[:-1]):
        order = np.lexsort((times[taking_part], keys[taking_part]))
        duplicate[taking_part[order[1:]]] = ordered[1:] == ordered[:-1]
    return duplicate


def groups_of(keys: np.ndarray, unique: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Returns for each of `rows` the place in `unique` of the row with the same key.

    Args:
      keys: [n] int64.
      unique: [u] rows, one of each key that occurs in `rows`.
      rows: [r] rows.
    """
    order = np.argsort(keys[unique])
    return order[np.searchsorted(keys[unique], keys[rows], sorter=order)]


def largest(
    labels: np.ndarray, keys: np.ndarray, times: np.ndarray, unique: np.ndarray, duplicates: np.ndarray
) -> np.ndarray:
    """Returns for each of `unique` the row with the largest label of its key, the earliest of several: [u] rows.

    Args:
      labels: [n] of all rows.
      keys, times: [n].
      unique: [u] the rows that stay.
      duplicates: [d] the rows that repeat one of them.
    """
    if not len(duplicates):
        return unique
    rows = np.concatenate([unique, duplicates])
    group = groups_of(keys, unique, rows)
    order = np.lexsort((rows, times[rows], -labels[rows], group))
    return rows[order[np.searchsorted(group[order], np.arange(len(unique)))]]


def count_differences(columns: dict[str, pa.Array], duplicates: np.ndarray, staying: np.ndarray) -> tuple[int, int]:
    """Returns how many duplicates differ from the row that stays in labels alone, and how many in another column.

    Args:
      columns: checked impressions, by name.
      duplicates, staying: [d] rows, pairs.
    """
    labels = np.zeros(len(duplicates), bool)
    others = labels.copy()
    first, second = pa.array(duplicates), pa.array(staying)
    for name, values in columns.items():
        if name.startswith(("l:", "v:")):
            labels |= _differ(values.take(first), values.take(second))
        elif name.startswith("f:") or name in ("position", "propensity", "_split"):
            others |= _differ(values.take(first), values.take(second))
    return int((labels & ~others).sum()), int(others.sum())


def _differ(one: pa.Array, other: pa.Array) -> np.ndarray:
    """Returns where two arrays of a type differ, [n] bool; nulls are equal to one another."""
    differ = to_numpy(pc.xor(one.is_null(), other.is_null())).copy()
    if not is_list(one.type):
        return differ | to_numpy(pc.fill_null(pc.not_equal(one, other), False))
    lengths = list_lengths(one)
    differ |= lengths != list_lengths(other)
    same = pa.array(np.flatnonzero(~differ))
    one, other = one.take(same), other.take(same)
    inner = _differ(one.flatten(), other.flatten())
    differ[np.repeat(same.to_numpy(), lengths[same.to_numpy()])[inner]] = True
    return differ

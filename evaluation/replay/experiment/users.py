"""The rows of an experiment, summed by user, who were drawn into its variants and err independently."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from evaluation.metrics.rows import Array
from features.errors import InputError

SEVERAL_VARIANTS = "users seen in several variants"


@dataclass(frozen=True)
class ExperimentUsers:
    """One row a user.

    Attributes:
      variant: [U] name of the variant.
      sums: column → [U] float64, sums over the user's rows; `rows` counts them.
      day_sums: column → [U, D], the same by day; empty where no day was given.
      days: [D] the days, rising.
      slices: feature → [U] value, as text.
      excluded: fault → how many were left out for it.
    """

    variant: Array
    sums: Mapping[str, Array]
    day_sums: Mapping[str, Array] = field(default_factory=dict)
    days: Sequence[Any] = ()
    slices: Mapping[str, Array] = field(default_factory=dict)
    excluded: Mapping[str, int] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.variant)

    def column(self, name: str) -> Array:
        """[U] sums of a column.

        Raises:
          InputError: for one that was not summed.
        """
        if name not in self.sums:
            raise InputError(f"`{name}` was not summed by user. Known: {', '.join(self.sums)}.")
        return self.sums[name]

    def where(self, chosen: Array) -> ExperimentUsers:
        """The users of a mask [U]."""
        return ExperimentUsers(
            self.variant[chosen],
            {name: column[chosen] for name, column in self.sums.items()},
            {name: column[chosen] for name, column in self.day_sums.items()},
            self.days,
            {name: column[chosen] for name, column in self.slices.items()},
            self.excluded,
        )


def read_users(
    rows: pa.Table,
    columns: Sequence[str],
    *,
    user: str = "user_id",
    variant: str = "variant",
    day: str | None = None,
    slices: Sequence[str] = (),
    before: pa.Table | None = None,
) -> ExperimentUsers:
    """Sums the rows of an experiment by user.

    A user who was seen in several variants is left out and counted: what the user did is of neither.

    Args:
      rows: one an impression (or anything that was counted), of users who were drawn.
      columns: numbers to sum.
      user: column of the user's key.
      variant: column of the variant's name.
      day: column of the day, where the effect by day is wanted.
      slices: columns whose first value makes a user's slice; they must have been known before the experiment.
      before: covariates of users from before the experiment, with the `user` column and one row a user: what a user
        did then (CUPED), or what a model of that time predicts (CUPAC). Its other columns get to `sums` by their
        names; users that it lacks have NaN there.

    Raises:
      InputError: for a column that is not there, is null or not finite, no rows, or a user twice in `before`.
    """
    _check(rows, (user, variant, *columns, *([day] if day else [])), slices)
    keys = rows.column(user).combine_chunks().dictionary_encode()
    codes, count = keys.indices.to_numpy(zero_copy_only=False), len(keys.dictionary)
    first = np.full(count, rows.num_rows)
    np.minimum.at(first, codes, np.arange(rows.num_rows))
    names = np.asarray(rows.column(variant).to_pylist(), dtype=object).astype(str)
    several = np.zeros(count, bool)
    several[codes[names != names[first][codes]]] = True
    values = {"rows": np.ones(rows.num_rows)} | {name: _numbers(rows, name) for name in columns}
    sums = {name: np.bincount(codes, column, count) for name, column in values.items()}
    if before is not None:
        sums |= _covariates(before, user, keys.dictionary, columns)
    days, day_sums = _by_day(rows, day, codes, count, values)
    sliced = {name: np.asarray([str(each) for each in rows.column(name).to_pylist()])[first] for name in slices}
    users = ExperimentUsers(names[first], sums, day_sums, days, sliced, {SEVERAL_VARIANTS: int(several.sum())})
    return users.where(~several)


def _check(rows: pa.Table, whole: Sequence[str], slices: Sequence[str]) -> None:
    """Refuses rows without a column, with nulls in one of those that must be whole, or none."""
    for name in (*whole, *slices):
        if name not in rows.column_names:
            raise InputError(f"the rows have no column `{name}`. Received: {', '.join(rows.column_names)}.")
        if name in whole and rows.column(name).null_count:
            raise InputError(f"`{name}` must not be null; it is in {rows.column(name).null_count} rows.")
    if not rows.num_rows:
        raise InputError("an experiment without rows cannot be read.")


def _numbers(table: pa.Table, name: str) -> Array:
    found = np.asarray(table.column(name).to_numpy(), np.float64)
    if not np.isfinite(found).all():
        raise InputError(f"`{name}` must be finite. Received: {found[~np.isfinite(found)][0]}.")
    return found


def _by_day(
    rows: pa.Table, day: str | None, codes: Array, count: int, values: Mapping[str, Array]
) -> tuple[list[Any], dict[str, Array]]:
    if day is None:
        return [], {}
    days, place = np.unique(np.asarray(rows.column(day).to_pylist()), return_inverse=True)
    cells, size = codes * len(days) + place.ravel(), count * len(days)
    return days.tolist(), {
        name: np.bincount(cells, column, size).reshape(count, len(days)) for name, column in values.items()
    }


def _covariates(before: pa.Table, user: str, known: pa.Array, taken: Sequence[str]) -> dict[str, Array]:
    if user not in before.column_names:
        raise InputError(f"`before` has no column `{user}`. Received: {', '.join(before.column_names)}.")
    place = {key: i for i, key in enumerate(before.column(user).to_pylist())}
    if len(place) < before.num_rows:
        raise InputError(f"`before` must have one row a user. Received: {before.num_rows} of {len(place)} users.")
    rows = np.array([place.get(key, -1) for key in known.to_pylist()])
    found = {}
    for name in before.column_names:
        if name in taken:
            raise InputError(f"`before` has a column `{name}` as the rows have; name it otherwise.")
        if name != user:
            found[name] = np.where(rows >= 0, _numbers(before, name)[rows] if before.num_rows else np.nan, np.nan)
    return found

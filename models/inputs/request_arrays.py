"""Requests as flat NumPy arrays: gather, concatenate and slice without a loop over rows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Lists:
    """Lists of varying length, one after another: row r is `values[row_splits[r]:row_splits[r + 1]]`."""

    values: np.ndarray
    row_splits: np.ndarray

    def __len__(self) -> int:
        return len(self.row_splits) - 1


Column = np.ndarray | Lists


@dataclass(frozen=True)
class RequestArrays:
    """R requests with C candidates in all.

    Attributes:
      row_splits: [R + 1] where each request's candidates begin and end.
      request: columns with one row a request.
      candidate: columns with one row a candidate, in request order.
    """

    row_splits: np.ndarray
    request: dict[str, Column]
    candidate: dict[str, Column]

    def __len__(self) -> int:
        return len(self.row_splits) - 1

    def slice(self, start: int, stop: int) -> RequestArrays:
        """Requests `start` to `stop`, as views."""
        first, last = self.row_splits[start], self.row_splits[stop]
        return RequestArrays(
            self.row_splits[start : stop + 1] - first,
            {name: _slice(column, start, stop) for name, column in self.request.items()},
            {name: _slice(column, first, last) for name, column in self.candidate.items()},
        )


def take(arrays: RequestArrays, order: np.ndarray) -> RequestArrays:
    """Returns the requests in another order, candidates along with them."""
    rows, row_splits = _gather_ranges(arrays.row_splits, order)
    return RequestArrays(
        row_splits,
        {name: take_rows(column, order) for name, column in arrays.request.items()},
        {name: take_rows(column, rows) for name, column in arrays.candidate.items()},
    )


def select(arrays: RequestArrays, keep: np.ndarray) -> RequestArrays:
    """Returns the candidates where `keep` [C] is true, and of the requests those that still have one."""
    counts = np.add.reduceat(np.append(keep, False), arrays.row_splits[:-1]) if len(arrays) else np.zeros(0, np.int64)
    counts[np.diff(arrays.row_splits) == 0] = 0  # reduceat gives a request without candidates its neighbour's first
    requests, candidates = np.flatnonzero(counts), np.flatnonzero(keep)
    return RequestArrays(
        np.concatenate([[0], np.cumsum(counts[requests])]),
        {name: take_rows(column, requests) for name, column in arrays.request.items()},
        {name: take_rows(column, candidates) for name, column in arrays.candidate.items()},
    )


def concatenate(parts: list[RequestArrays]) -> RequestArrays:
    """Joins requests of several shards."""
    if len(parts) == 1:
        return parts[0]
    return RequestArrays(
        join_splits([part.row_splits for part in parts]),
        {name: join_rows([part.request[name] for part in parts]) for name in parts[0].request},
        {name: join_rows([part.candidate[name] for part in parts]) for name in parts[0].candidate},
    )


def join_splits(splits: list[np.ndarray]) -> np.ndarray:
    """Row splits of lists that follow one another."""
    lengths = np.concatenate([np.diff(part) for part in splits])
    return np.concatenate([[0], np.cumsum(lengths)])


def _gather_ranges(row_splits: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Positions of the elements of the chosen rows, one after another, and the row splits that they form."""
    starts, lengths = row_splits[rows], row_splits[rows + 1] - row_splits[rows]
    chosen = np.concatenate([[0], np.cumsum(lengths)])
    return np.arange(chosen[-1]) + np.repeat(starts - chosen[:-1], lengths), chosen


def take_rows(column: Column, rows: np.ndarray) -> Column:
    """Returns rows of a column, in any order."""
    if not isinstance(column, Lists):
        return column[rows]
    elements, row_splits = _gather_ranges(column.row_splits, rows)
    return Lists(column.values[elements], row_splits)


def _slice(column: Column, start: int, stop: int) -> Column:
    if not isinstance(column, Lists):
        return column[start:stop]
    first, last = column.row_splits[start], column.row_splits[stop]
    return Lists(column.values[first:last], column.row_splits[start : stop + 1] - first)


def join_rows(columns: list[Column]) -> Column:
    """Returns the rows of columns that follow one another."""
    if not isinstance(columns[0], Lists):
        return np.concatenate(columns)
    return Lists(
        np.concatenate([column.values for column in columns]),
        join_splits([column.row_splits for column in columns]),
    )

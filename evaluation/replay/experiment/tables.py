"""The rows of an experiment, from the tables of its logs: exposures with their variants, and what came of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from features import storage
from features.arrow import open_parquet
from features.errors import InputError, NotFoundError

KEYS = ("request_id", "item_id")
"""An event belongs to the row with its request and its item."""


def read_columns(paths: Sequence[str], names: Sequence[str]) -> pa.Table:
    """Reads columns of all Parquet files that the paths stand for (files, folders, globs).

    Raises:
      NotFoundError: where there is no such file.
      InputError: for a file that is no Parquet, or lacks a column.
    """
    files = [file for path in paths for file in storage.match(path) if file.endswith(".parquet")]
    if not files:
        raise NotFoundError(f"no Parquet file stands at {', '.join(paths)}.")
    parts = []
    for path in files:
        try:
            with open_parquet(path) as file:
                lacking = [name for name in names if name not in file.schema_arrow.names]
                if lacking:
                    had = ", ".join(file.schema_arrow.names)
                    raise InputError(f"{path}: has no column `{lacking[0]}`. It has: {had}.")
                parts.append(file.read(columns=list(names)).select(list(names)))
        except pa.ArrowInvalid as error:
            raise InputError(f"{path}: not a Parquet file, or a damaged one: {error}") from error
    try:
        return pa.concat_tables(parts)
    except pa.ArrowInvalid as error:
        raise InputError(f"the files at {', '.join(paths)} have columns of different types: {error}") from error


def with_events(rows: pa.Table, events: Mapping[str, pa.Table]) -> pa.Table:
    """Adds a column for each kind of event: 1 of rows that have one, else 0, however often it was logged.

    Args:
      rows: with `request_id` and `item_id`.
      events: name → table with the same two columns.
    """
    keys = _joined(rows)
    for name, table in events.items():
        there = pc.is_in(keys, value_set=_joined(table).unique())
        rows = rows.append_column(name, pc.cast(there, pa.float64()))
    return rows


def in_layer(rows: pa.Table, column: str, layer: str | None) -> pa.Table:
    """The rows of users who were drawn, with one variant each: without those that were forced or are in no variant.

    Args:
      rows: with `column`, a text, or lists of `layer=variant` as a gateway's exposures have; and `forced`, if they do.
      column: of the variant.
      layer: whose variant of the list is taken.

    Raises:
      InputError: for lists without a layer, or no row in it.
    """
    variant = rows[column].combine_chunks()
    if pa.types.is_list(variant.type) or pa.types.is_large_list(variant.type):
        if layer is None:
            raise InputError(f"`{column}` holds the variants of several layers: name one as `layer`.")
        variant = _of_layer(variant, layer)
    there = pc.is_valid(variant)
    if "forced" in rows.column_names:
        there = pc.and_(there, pc.invert(pc.fill_null(rows["forced"].combine_chunks(), False)))
    if not pc.any(there).as_py():
        raise InputError(f"no row has a variant{f' of layer `{layer}`' if layer else ''} in `{column}`.")
    place = rows.column_names.index(column)
    return rows.set_column(place, column, variant).filter(there)


def days_of(values: pa.ChunkedArray) -> pa.Array:
    """Days as text: of dates and times their UTC day, of whole numbers as UTC milliseconds, else the text itself."""
    column = values.combine_chunks()
    if pa.types.is_integer(column.type):
        column = pc.cast(column, pa.timestamp("ms"))
    if pa.types.is_temporal(column.type):
        return pc.cast(pc.cast(column, pa.date32()), pa.string())
    return pc.cast(column, pa.string())


def numbers_of(rows: pa.Table, names: Sequence[str]) -> pa.Table:
    """The rows with the named columns as doubles.

    Raises:
      InputError: for one that holds no numbers.
    """
    for name in names:
        try:
            made = pc.cast(rows[name], pa.float64())
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            raise InputError(f"`{name}` must hold numbers: {error}") from None
        rows = rows.set_column(rows.column_names.index(name), name, made)
    return rows


def _joined(table: pa.Table) -> pa.Array:
    """Request and item as one text."""
    parts = [pc.cast(table[key], pa.string()) for key in KEYS]
    joined = pc.binary_join_element_wise(*parts, "\x1f")
    return joined.combine_chunks() if isinstance(joined, pa.ChunkedArray) else joined


def _of_layer(variants: pa.ListArray, layer: str) -> pa.Array:
    """The variant of the layer in each list; null where there is none."""
    flat, row = variants.flatten(), pc.list_parent_indices(variants)
    head = f"{layer}="
    chosen = pc.fill_null(pc.starts_with(flat, head), False)
    names = pc.utf8_slice_codeunits(flat.filter(chosen), len(head), 1 << 30)
    place = np.full(len(variants), -1)
    place[np.asarray(row.filter(chosen))] = np.arange(len(names))
    return names.take(pa.array(place, mask=place < 0))

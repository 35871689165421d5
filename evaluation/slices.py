"""Slices: the rows that share a feature's value, or a span of history lengths.

Strings and integers slice by value, floats by deciles, lists by each value they hold (a row may then be in several
slices). No value is a value too: `(missing)`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from evaluation.config import HISTORY_LENGTH, SIGNED_ITEM, SliceConfig
from evaluation.metrics.rows import Array
from evaluation.results import OmittedSlices
from features.arrow import is_list, null_where, one_chunk
from features.config import nearest
from features.errors import InputError
from features.spec import MISSING_INT64

HISTORY_EDGES = (1, 5, 20, 50, 200)
HISTORY_LABELS = ("0", "1-4", "5-19", "20-49", "50-199", "200+")
MISSING = "(missing)"


@dataclass(frozen=True)
class Slice:
    """A slice: `rows` are indices into the predictions."""

    feature: str
    value: str
    rows: Array


def find_slices(predictions: pa.Table, config: SliceConfig) -> tuple[list[Slice], list[OmittedSlices]]:
    """Cuts the predictions into slices, feature by feature.

    Returns:
      The slices (values of ordered features in their order, others by falling size) and what was left out.

    Raises:
      InputError: for a feature that is no column.
    """
    slices, omitted = [], []
    for feature in config.features:
        if feature == SIGNED_ITEM and feature not in predictions.column_names:
            continue
        column = "history_end" if feature == HISTORY_LENGTH else feature
        if column not in predictions.column_names:
            known = [*predictions.column_names, HISTORY_LENGTH]
            raise InputError(f"slice feature `{feature}` is no column of the predictions.{nearest(feature, known)}")
        found, left = _slices_of(feature, one_chunk(predictions[column]), config)
        slices.extend(found)
        if left is not None:
            omitted.append(left)
    return slices, omitted


def _slices_of(feature: str, array: pa.Array, config: SliceConfig) -> tuple[list[Slice], OmittedSlices | None]:
    parents, codes, labels, ordered = _encode(feature, array, config)
    sizes = np.bincount(codes, minlength=len(labels))
    present = np.flatnonzero(sizes)
    by_size = present[np.argsort(-sizes[present], kind="stable")]
    kept = by_size[sizes[by_size] >= config.min_rows][: config.max_slices]
    left = np.setdiff1d(present, kept)
    omitted = OmittedSlices(feature=feature, slices=len(left), rows=int(sizes[left].sum())) if len(left) else None
    kept = np.sort(kept) if ordered else kept
    return list(_cut(feature, parents, codes, sizes, kept, labels)), omitted


def _cut(
    feature: str, parents: Array | None, codes: Array, sizes: Array, kept: Array, labels: Sequence[str]
) -> Iterator[Slice]:
    order = np.argsort(codes, kind="stable")
    ends = np.cumsum(sizes)
    for code in kept:
        rows = order[ends[code] - sizes[code] : ends[code]]
        yield Slice(feature, str(labels[code]), rows if parents is None else parents[rows])


def _encode(feature: str, array: pa.Array, config: SliceConfig) -> tuple[Array | None, Array, Sequence[str], bool]:
    """Rows (None: each row once, in order), slice codes, labels by code, and whether codes are in a natural order."""
    if feature == HISTORY_LENGTH:
        codes = np.searchsorted(HISTORY_EDGES, array.to_numpy(zero_copy_only=False), "right")
        return None, codes, HISTORY_LABELS, True
    parents = None
    if is_list(array.type):
        parents, array = _flatten(array)
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    if pa.types.is_floating(array.type):
        codes, labels = _quantile_codes(array, config.num_buckets)
        return parents, codes, labels, True
    ordered = pa.types.is_integer(array.type)
    codes, labels = _value_codes(array, ordered)
    if parents is not None:  # a value that a row holds twice counts once
        pairs = np.unique(parents * len(labels) + codes)
        parents, codes = pairs // len(labels), pairs % len(labels)
    return parents, codes, labels, ordered


def _flatten(array: pa.Array) -> tuple[Array, pa.Array]:
    """Row and value of every entry of a list array; rows without entries have one missing value."""
    empty = pc.fill_null(pc.equal(pc.list_value_length(array), 0), True).to_numpy(zero_copy_only=False)
    values = pc.list_flatten(array)
    parents = np.concatenate([pc.list_parent_indices(array).to_numpy(), np.flatnonzero(empty)])
    return parents.astype(np.int64), pa.concat_arrays([values, pa.nulls(int(empty.sum()), values.type)])


def _value_codes(array: pa.Array, ordered: bool) -> tuple[Array, list[str]]:
    if pa.types.is_string(array.type) or pa.types.is_large_string(array.type):
        array = null_where(array, pc.equal(array, ""))
    elif pa.types.is_int64(array.type):
        array = null_where(array, pc.equal(array, MISSING_INT64))
    encoded = pc.dictionary_encode(array)
    values = encoded.dictionary
    codes = pc.fill_null(encoded.indices, len(values)).to_numpy(zero_copy_only=False).astype(np.int64)
    if ordered:
        by_value = pc.sort_indices(values).to_numpy()
        place = np.empty(len(values) + 1, np.int64)
        place[by_value] = np.arange(len(values))
        place[-1] = len(values)
        codes, values = place[codes], values.take(pa.array(by_value))
    return codes, [str(value) for value in values.to_pylist()] + [MISSING]


def _quantile_codes(array: pa.Array, num_buckets: int) -> tuple[Array, list[str]]:
    values = array.cast(pa.float64()).to_numpy(zero_copy_only=False)
    known = values[~np.isnan(values)]
    if not len(known):
        return np.zeros(len(values), np.int64), [MISSING]
    edges = np.unique(np.quantile(known, np.linspace(0, 1, num_buckets + 1)))
    inner = edges[1:-1]
    codes = np.where(np.isnan(values), len(inner) + 1, np.searchsorted(inner, values, "right"))
    labels = [
        f"[{edges[i]:.6g}, {edges[min(i + 1, len(edges) - 1)]:.6g}{']' if i == len(inner) else ')'}"
        for i in range(len(inner) + 1)
    ]
    return codes, [*labels, MISSING]

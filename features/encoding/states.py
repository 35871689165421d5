"""Mergeable summaries of a feature's values: term counts, moments, quantiles.

Each state is filled batch by batch, merges with another in any order, and is bounded: by the distinct terms of a
vocabulary, by a fixed number of bins for quantiles.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from features.encoding.feature_encoding import Moments
from features.encoding.hashing import hash64
from features.encoding.numeric import FLOAT32_TINY, clean
from features.spec import VocabularyRule

_COMPACT_TERMS = 1 << 16


class TermCounts:
    """How often each term was seen. Terms are Arrow arrays; a merge only collects, `_compact` sums now and then."""

    def __init__(self) -> None:
        self._tables: list[pa.Table] = []
        self._compacted = 0

    def update(self, terms: pa.Array) -> None:
        """Adds values, strings or int64; nulls and empty dictionaries are fine."""
        if pa.types.is_dictionary(terms.type):
            counts = np.bincount(
                terms.indices.drop_null().to_numpy(zero_copy_only=False), minlength=len(terms.dictionary)
            )
            self._add(terms.dictionary, pa.array(counts.astype(np.int64)))
        else:
            counted = pc.value_counts(terms)
            self._add(counted.field("values"), counted.field("counts"))

    def merge(self, other: TermCounts) -> None:
        self._tables += other._tables
        self._compact(_COMPACT_TERMS)

    def split(self, groups: int) -> list[TermCounts]:
        """Returns the counts of the terms by groups of their hashes: a term is in the same group in every state."""
        table = self._summed()
        group = hash64(table["term"]) % np.uint64(groups)
        parts = [TermCounts() for _ in range(groups)]
        for number, part in enumerate(parts):
            part._tables = [table.filter(pa.array(group == number))]
        return parts

    def prune(self, rule: VocabularyRule) -> None:
        """Drops what `cut` will not keep, of a state that has seen all there is of each of its terms."""
        self._tables = [self.cut(rule)]
        self._compacted = self._tables[0].num_rows

    def cut(self, rule: VocabularyRule) -> pa.Table:
        """Returns the vocabulary: `term` and `count` of the kept terms, by falling count, ties by term."""
        table = self._summed()
        table = table.filter(pc.greater_equal(table["count"], rule.min_count))
        table = table.sort_by([("count", "descending"), ("term", "ascending")])
        return table.slice(0, rule.max_size).combine_chunks()

    def _summed(self) -> pa.Table:
        self._compact(0)
        if not self._tables:
            raise ValueError(
                "no values were added: call `update` with the feature's arrays first, empty ones at least."
            )
        return self._tables[0]

    def _add(self, terms: pa.Array, counts: pa.Array) -> None:
        table = pa.table({"term": terms, "count": counts.cast(pa.int64())})
        self._tables.append(table.filter(pc.and_(pc.is_valid(table["term"]), pc.greater(table["count"], 0))))
        self._compact(_COMPACT_TERMS)

    def _compact(self, slack: int) -> None:
        """Sums equal terms, once the rows not yet summed outnumber the summed ones: linear work in all."""
        rows = sum(table.num_rows for table in self._tables)
        if len(self._tables) < 2 or (slack and rows <= max(2 * self._compacted, slack)):
            return
        grouped = pa.concat_tables(self._tables).group_by("term").aggregate([("count", "sum")])
        self._tables = [grouped.select(["term", "count_sum"]).rename_columns(["term", "count"])]
        self._compacted = self._tables[0].num_rows


class MomentsState:
    """Count, mean, sum of squared deviations, extremes; merged by Chan, Golub and LeVeque (1979)."""

    def __init__(self) -> None:
        self.count = self.missing = 0
        self.mean = self.squares = 0.0
        self.minimum, self.maximum = float("inf"), float("-inf")

    def update(self, x: np.ndarray) -> None:
        """Adds float64 numbers; NaN is missing."""
        missing = int(np.isnan(x).sum())
        if missing:
            x = x[~np.isnan(x)]
        batch = MomentsState()
        batch.missing, batch.count = missing, len(x)
        if len(x):
            x = clean(x)
            batch.mean = float(x.mean())
            batch.squares = float(np.square(x - batch.mean).sum())
            batch.minimum, batch.maximum = float(x.min()), float(x.max())
        self.merge(batch)

    def merge(self, other: MomentsState) -> None:
        self.missing += other.missing
        if not other.count:
            return
        total = self.count + other.count
        delta = other.mean - self.mean
        self.mean += delta * (other.count / total)
        self.squares += other.squares + delta * delta * (self.count * (other.count / total))
        self.count = total
        self.minimum, self.maximum = min(self.minimum, other.minimum), max(self.maximum, other.maximum)

    def result(self) -> Moments:
        if not self.count:
            return Moments(missing=self.missing)
        return Moments(
            count=self.count,
            missing=self.missing,
            mean=self.mean,
            variance=self.squares / self.count,
            minimum=self.minimum,
            maximum=self.maximum,
        )


class QuantileState:
    """Counts of numbers, exact up to `MAX_EXACT` distinct ones, then in bins of relative width 2^-10.

    A bin holds the numbers whose float64 representations agree in sign, exponent and the first 10 bits of the mantissa
    (as in DDSketch, Masson et al., VLDB 2019, with bins that are linear within each power of two). A quantile is then
    the lower end (in magnitude) of the bin that holds the exact quantile: off by less than 0.1 % of it. The bins are
    fixed beforehand and the switch depends on the number of distinct values alone, so how the data was split into
    batches changes nothing. At most 2^10 bins a power of two: 520,000 in all, for data of every magnitude.
    """

    MAX_EXACT = 1 << 16
    _MASK = ~((1 << 42) - 1)

    def __init__(self) -> None:
        self._values = np.zeros(0, np.float64)
        self._counts = np.zeros(0, np.int64)
        self._exact = True

    def update(self, x: np.ndarray) -> None:
        """Adds float64 numbers; NaN is missing."""
        x = clean(x[~np.isnan(x)])
        self._add(*np.unique(x if self._exact else self._bin(x), return_counts=True))

    def merge(self, other: QuantileState) -> None:
        if not other._exact:
            self._coarsen()
        self._add(other._values if self._exact else self._bin(other._values), other._counts)

    def boundaries(self, num_buckets: int) -> np.ndarray:
        """Returns at most `num_buckets` - 1 rising boundaries that part the n values evenly.

        Boundary i is the value of 0-based rank floor(i * n / num_buckets): with `x >= boundary` in the upper bucket,
        that many values lie below, if they are distinct. Repeated boundaries, and one that would leave the first bucket
        empty, are dropped.
        """
        if not len(self._values):
            return np.zeros(0, np.float64)
        cumulative = np.cumsum(self._counts)
        ranks = np.arange(1, num_buckets) * cumulative[-1] // num_buckets
        quantiles = np.unique(self._values[np.searchsorted(cumulative, ranks, side="right")])
        return quantiles[quantiles > self._values[0]]

    def _add(self, values: np.ndarray, counts: np.ndarray) -> None:
        values, inverse = np.unique(np.concatenate([self._values, values]), return_inverse=True)
        counts = np.bincount(inverse, np.concatenate([self._counts, counts]), len(values)).astype(np.int64)
        self._values, self._counts = values, counts
        if self._exact and len(values) > self.MAX_EXACT:
            self._coarsen()

    def _coarsen(self) -> None:
        if not self._exact:
            return
        self._exact = False
        values, inverse = np.unique(self._bin(self._values), return_inverse=True)
        self._counts = np.bincount(inverse, self._counts, len(values)).astype(np.int64)
        self._values = values

    @classmethod
    def _bin(cls, x: np.ndarray) -> np.ndarray:
        binned = (np.ascontiguousarray(x).view(np.int64) & cls._MASK).view(np.float64)
        return np.where(np.abs(binned) < FLOAT32_TINY, 0.0, binned)

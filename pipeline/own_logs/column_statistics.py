"""What a column of somebody's log holds, by a sample: its type, its values, how often none, what it gives away."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from evaluation.metrics.registry import compute_metrics
from evaluation.metrics.rows import ScoredRows
from features.arrow import is_list, to_numpy
from features.ingest.checking.columns import SEPARATOR, convert
from features.ingest.checking.timestamps import to_milliseconds
from features.ingest.reading.files import find_files
from features.ingest.reading.units import plan_reads, read_batches
from pipeline.own_logs.guess_tables import GuessedTable

#: Of texts, the share that must hold a separator for the column to be one of lists.
_LISTS = 0.05


@dataclasses.dataclass(frozen=True)
class ColumnStatistics:
    """A column in a sample.

    Attributes:
      kind: `text`, `integer`, `number`, `time`, `texts` or `integers` (lists).
      rows: of the sample.
      missing: the share of rows without a value.
      distinct: how many values.
      top: the commonest, as text.
      top_share: its share of the values.
      spread: of numbers, the 99 % quantile over the median of their magnitudes; 0 for other kinds.
      negative: whether a number is below 0.
    """

    kind: str
    rows: int
    missing: float
    distinct: int
    top: str
    top_share: float
    spread: float = 0.0
    negative: bool = False

    @property
    def multi_valued(self) -> bool:
        """Whether the values are lists."""
        return self.kind in ("texts", "integers")

    def told(self) -> str:
        """Returns one line for a reader."""
        parts = [f"{self.kind}, {self.distinct:,} values, {self.missing:.1%} missing"]
        if self.distinct:
            top = self.top if len(self.top) <= 24 else f"{self.top[:24]}…"
            parts.append(f"most often {top!r} ({self.top_share:.0%})")
        return ", ".join(parts)


def sample_table(table: GuessedTable, rows: int) -> dict[str, pa.Array]:
    """Reads a sample of every column: the first rows of each piece of the table, `rows` in all at most."""
    found = find_files(table.config, "log", [])
    units = plan_reads(found, table.config)
    targets = {name: "list<string>" if is_list(kind) else "string" for name, kind in table.columns.items()}
    parts: dict[str, list[pa.Array]] = {name: [] for name in table.columns}
    taken = 0
    for place, unit in enumerate(units):
        share = max(1, (rows - taken) // (len(units) - place))
        for raw in read_batches(unit, table.config, targets):
            batch = raw.batch.slice(0, share)
            for name in parts:
                parts[name].append(_natural(batch[name]))
            taken, share = taken + batch.num_rows, share - batch.num_rows
            if share <= 0:
                break
    return {name: _together(arrays) for name, arrays in parts.items()}


def statistics_of(values: pa.Array) -> tuple[ColumnStatistics, pa.Array]:
    """Returns what a sampled column holds, and its values [N] in their type: text, int64, float64 or lists of these."""
    kind, typed = _typed(values)
    missing = typed.null_count / max(len(typed), 1)
    flat = (typed.flatten() if is_list(typed.type) else typed).drop_null()
    counted = pc.value_counts(flat)
    if not len(flat):
        return ColumnStatistics(kind, len(typed), 1.0 if len(typed) else 0.0, 0, "", 0.0), typed
    counts = counted.field("counts")
    place = int(np.argmax(to_numpy(counts)))
    top, share = str(counted.field("values")[place].as_py()), counts[place].as_py() / len(flat)
    spread, negative = 0.0, False
    if kind in ("integer", "number"):
        numbers = to_numpy(flat).astype(np.float64)
        middle, high = np.quantile(np.abs(numbers), [0.5, 0.99])
        spread, negative = float(high / middle) if middle else float(high), bool(np.any(numbers < 0))
    return ColumnStatistics(kind, len(typed), missing, len(counted), top, share, spread, negative), typed


def auc_alone(values: pa.Array, label: np.ndarray) -> float:
    """Returns how well a column alone tells the label, as AUC, whichever way round; .5: not at all.

    A number is its own score. Any other value scores the mean label of its value in the other half of the rows, so that
    values that occur once tell nothing.

    Args:
      values: [N] of `statistics_of`.
      label: [N] of 0 and 1, NaN where it is not known.
    """
    known = np.flatnonzero(~np.isnan(label))
    values, label = values.take(pa.array(known)), label[known]
    if len(label) < 2 or not 0 < label.mean() < 1:
        return 0.5
    if is_list(values.type):
        score = pc.list_value_length(values).fill_null(0)
    elif pa.types.is_floating(values.type) or pa.types.is_integer(values.type):
        score = values.cast(pa.float64(), safe=False).fill_null(0.0)
    else:
        score = pa.array(_mean_of_the_other_half(values, label))
    rows = np.arange(len(label))
    scored = ScoredRows(label, to_numpy(score).astype(np.float64), rows, rows)
    auc = compute_metrics(scored, ("auc",))["auc"]
    return max(auc, 1 - auc)


def _mean_of_the_other_half(values: pa.Array, label: np.ndarray) -> np.ndarray:
    codes = values.fill_null("").dictionary_encode().indices.to_numpy()
    half = np.random.default_rng(0).random(len(codes)) < 0.5
    score = np.empty(len(codes))
    for mine in (half, ~half):
        seen = np.bincount(codes[~mine], minlength=codes.max() + 1)
        hits = np.bincount(codes[~mine], label[~mine], minlength=codes.max() + 1)
        mean = label[~mine].mean() if (~mine).any() else 0.0
        score[mine] = ((hits + mean) / (seen + 1))[codes[mine]]
    return score


def _typed(values: pa.Array) -> tuple[str, pa.Array]:
    """The narrowest type that takes every value, and the values in it."""
    if is_list(values.type):
        numbers, bad = convert(values, "list<int64>")
        whole = not bad.any() and len(numbers.flatten().drop_null())
        return ("integers", numbers) if whole else ("texts", convert(values, "list<string>")[0])
    if pa.types.is_timestamp(values.type) or pa.types.is_date(values.type):
        return "time", to_milliseconds(values)[0]
    for kind, target in (("integer", "int64"), ("number", "float64")):
        array, bad = convert(values, target)
        if not bad.any() and array.null_count < len(array):
            return kind, array
    texts = convert(values, "string")[0]
    given = texts.drop_null()
    if len(given):
        times, bad, _ = to_milliseconds(given, timezone="UTC")
        if not bad.any():
            return "time", to_milliseconds(texts, timezone="UTC")[0]
        if (pc.sum(pc.match_substring(given, SEPARATOR)).as_py() or 0) >= _LISTS * len(given):
            return "texts", pc.split_pattern(texts, SEPARATOR)
    return "text", texts


def _natural(values: pa.Array) -> pa.Array:
    if pa.types.is_dictionary(values.type):
        values = values.cast(values.type.value_type)
    if pa.types.is_binary(values.type):
        return convert(values, "string")[0]
    return values


def _together(arrays: Sequence[pa.Array]) -> pa.Array:
    """One array; of parts whose types differ (JSON), as text."""
    given = [array for array in arrays if len(array)]
    kinds = {str(array.type) for array in given} - {"null"}
    if not kinds:
        return pa.nulls(sum(len(array) for array in given), pa.string())
    kind = next(array.type for array in given if str(array.type) in kinds)
    if len(kinds) > 1:
        kind = pa.list_(pa.string()) if any(is_list(array.type) for array in given) else pa.string()
    target = "list<string>" if is_list(kind) else "string"
    return pa.concat_arrays([array if array.type == kind else convert(array, target)[0].cast(kind) for array in given])

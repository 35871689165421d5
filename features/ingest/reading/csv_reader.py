"""CSV as RecordBatches of strings: Arrow reads, after lines were made records and what is none was set aside."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from features.arrow import to_numpy
from features.ingest.reading.csv_records import RecordRule, well_formed
from features.ingest.reading.records import QUOTE, LineReader, Lines, Rejected, Rows

#: Of a block, to see whether most of its lines have quotes.
_SAMPLE_BYTES = 1 << 16


class CsvReader:
    """Reads the records of one file.

    Args:
      header: the names of all its columns.
      delimiter: of the file.
      null_values: values that mean "missing".
      longest: `max_record_bytes`.
      columns: the places in the header of the columns to read, at least one.
    """

    def __init__(
        self, header: Sequence[str], delimiter: str, null_values: Sequence[str], longest: int, columns: Sequence[int]
    ):
        self._rule = RecordRule(len(header), delimiter.encode(), longest)
        self._well_formed = well_formed(delimiter)
        self._delimiter, self._null_values = delimiter, list(null_values)
        self._names, self._columns = [str(place) for place in range(len(header))], list(columns)

    def read(self, chunks: Iterator[bytes], has_header: bool) -> Iterator[Rows]:
        """Reads text.

        Args:
          chunks: of UTF-8.
          has_header: whether its first line that is not blank is the header.

        Yields:
          Columns of strings, in the order of `columns`, named by their places in the header.
        """
        reader = LineReader(chunks, self._rule.longest)
        for lines in reader.blocks():
            begin = 0
            if has_header:
                start = lines.data[: len(lines.data) - len(lines.data.lstrip(b"\r\n"))]
                has_header = len(start) == len(lines.data)
                begin = len(lines) if has_header else start.count(b"\n") + 1
            yield self._read_block(lines, begin, reader)

    def _read_plain(self, lines: Lines, begin: int) -> Rows | None:
        """Reads a block without looking at its lines; None: they must be looked at."""
        if not lines.plain(self._rule.longest):
            return None
        place = 0
        for _ in range(begin):
            place = lines.data.find(b"\n", place) + 1
        batch, counts = self._parse(pa.py_buffer(lines.data).slice(place), False)
        if batch.num_rows + len(counts) + begin != len(lines):  # Some are blank.
            return None
        records = np.arange(begin, len(lines))
        rejected = [lines.reject(begin + record, self._miscounted(found)) for record, found in counts]
        records = np.delete(records, [record for record, _ in counts]) if counts else records
        return batch, records + lines.first, rejected

    def _miscounted(self, found: int) -> str:
        return f"{found} values, the header has {self._rule.fields}"

    def _read_block(self, lines: Lines, begin: int, reader: LineReader) -> Rows:
        plain = self._read_plain(lines, begin)
        if plain is not None:
            return plain
        wrong = {line: what for line, what in lines.no_records(self._rule.longest).items() if line >= begin}
        keep = lines.lengths > 0
        keep[:begin] = False
        keep[list(wrong)] = False
        head = keep.copy()
        if b'"' in lines.data:
            self._join(lines, wrong, keep, head, reader)
        text = pa.py_buffer(lines.joined(keep))
        batch, counts = self._parse(text, bool(keep.sum() > head.sum()))
        records = np.flatnonzero(head)
        for record, found in counts:
            wrong[int(records[record])] = self._miscounted(found)
        records = np.delete(records, [record for record, _ in counts])
        if len(records) != batch.num_rows:
            raise AssertionError(
                f"{len(records)} records, but {batch.num_rows} rows: line {lines.first + 1} and after."
            )
        rejected: list[Rejected] = [lines.reject(line, what) for line, what in sorted(wrong.items())]
        return batch, records + lines.first, rejected

    def _join(
        self, lines: Lines, wrong: dict[int, str], keep: np.ndarray, head: np.ndarray, reader: LineReader
    ) -> None:
        """Joins lines to records: `keep` and `head` [L] become which lines are part of one, and its first."""
        dense = lines.data.count(b'"', 0, _SAMPLE_BYTES) > lines.data.count(b"\n", 0, _SAMPLE_BYTES)
        quoted = np.flatnonzero(keep) if dense else lines.holding(QUOTE)
        quoted = quoted[keep[quoted]]
        texts = _slices(lines, quoted)
        fits = to_numpy(pc.match_substring_regex(texts, self._well_formed))
        behind = 0
        for line in map(int, quoted[~fits]):
            if line < behind:
                continue
            joined = self._rule.join(lines, line, wrong, reader.at_end)
            if joined.unknown:
                reader.give_back(lines, line)
                keep[line:] = head[line:] = False
                for later in [each for each in wrong if each > line]:
                    del wrong[later]
                return
            if joined.last is None:
                wrong[line] = joined.why
                keep[line] = head[line] = False
            else:
                behind = joined.last + 1
                keep[line:behind] = True
                head[line + 1 : behind] = False

    def _parse(self, text: pa.Buffer, over_lines: bool) -> tuple[pa.RecordBatch, list[tuple[int, int]]]:
        """Returns the rows, and (record, number of values) of those that have too few or too many."""
        from pyarrow import csv

        counts: list[tuple[int, int]] = []

        def set_aside(row: Any) -> str:
            counts.append((row.number - 1, row.actual_columns))
            return "skip"

        names = [self._names[place] for place in self._columns]
        if not len(text):
            return pa.RecordBatch.from_arrays([pa.array([], pa.string())] * len(names), names=names), counts
        # Not `read_csv`: that of Arrow 10 goes through all objects of the process, at each call.
        reader = csv.open_csv(
            pa.BufferReader(text),
            csv.ReadOptions(use_threads=False, block_size=len(text) + 1, column_names=self._names),
            csv.ParseOptions(delimiter=self._delimiter, newlines_in_values=over_lines, invalid_row_handler=set_aside),
            csv.ConvertOptions(
                check_utf8=False,  # Lines that are no UTF-8 are gone.
                column_types=dict.fromkeys(names, pa.string()),
                include_columns=names,
                strings_can_be_null=True,
                null_values=self._null_values,
            ),
        )
        table = reader.read_all().combine_chunks()
        arrays = [each.chunk(0) if each.num_chunks else pa.array([], pa.string()) for each in table.columns]
        return pa.RecordBatch.from_arrays(arrays, names=names), counts


def _slices(lines: Lines, chosen: np.ndarray) -> pa.Array:
    """Returns lines, with their line ends, as an array of bytes."""
    offsets = np.concatenate([lines.starts[:1], lines.ends]).astype(np.int32)
    texts = pa.Array.from_buffers(pa.binary(), len(lines), [None, pa.py_buffer(offsets), pa.py_buffer(lines.data)])
    return texts if len(chosen) == len(lines) else texts.take(pa.array(chosen))

"""Logs of a replay: raw examples of a run, which models can score, or tables of impressions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.feather

from features import arrow, storage
from features.errors import InputError, NotFoundError
from features.examples.shards import list_shards
from features.histories.windows import attach_histories, read_behaviors
from features.spec import HistorySpec
from serving.requests.tensors import candidate_counts

_BATCH_REQUESTS = 256
_INGEST = ("artifacts", "LogIngest")


@dataclass(frozen=True)
class RequestBatch:
    """Some raw requests, and what their windows are cut from.

    Attributes:
      requests: raw examples, a row a request.
      file: that they are of.
      behaviors_dir: the raw behaviour log.
    """

    requests: pa.Table
    file: str
    behaviors_dir: str

    def with_windows(self, spec: HistorySpec | None, read: dict[str, pa.Table]) -> pa.Table:
        """The requests with the windows of a spec; `read` keeps a shard's behaviours from batch to batch."""
        if spec is None:
            return self.requests
        key = f"{self.file} {spec.model_dump_json()}"
        if key not in read:
            read.clear()
            read[key] = read_behaviors(self.behaviors_dir, self.file, spec)
        return attach_histories(self.requests, read[key], spec)


@dataclass(frozen=True)
class RawLogs:
    """A split of what LogIngest wrote.

    Attributes:
      examples_dir: raw examples (docs/reference/data_formats.md).
      behaviors_dir: the raw behaviour log.
      split: `eval`, `test` or `train`.
    """

    examples_dir: str
    behaviors_dir: str
    split: str

    @property
    def num_requests(self) -> int:
        """How many requests the split has."""
        total = 0
        for path in list_shards(self.examples_dir, self.split):
            with arrow.open_parquet(path) as file:
                total += file.metadata.num_rows
        return total

    def batches(self) -> Iterator[RequestBatch]:
        """The requests, file after file."""
        for path in list_shards(self.examples_dir, self.split):
            with arrow.open_parquet(path) as file:
                for batch in file.iter_batches(_BATCH_REQUESTS):
                    if batch.num_rows:
                        yield RequestBatch(pa.Table.from_batches([batch]), path, self.behaviors_dir)


def find_raw_logs(path: storage.AnyPath, split: str, behaviors: storage.AnyPath | None = None) -> RawLogs | None:
    """Returns the raw examples of a run's folder, or of their own; None: the path holds no raw examples.

    Args:
      path: of a run (`runs/simulated`), whose newest ingestion is taken, or of raw examples.
      split: which requests.
      behaviors: the raw behaviour log of raw examples; by default the one beside them in the run.
    """
    folder = storage.absolute(path)
    ingested = storage.join(folder, *_INGEST, "examples")
    if storage.is_folder(ingested):
        versions = [storage.name(each) for each in storage.entries(ingested) if storage.name(each).isdecimal()]
        if not versions:
            raise NotFoundError(f"{folder}: the run has ingested no logs. `clickmill run` does.")
        newest = max(versions, key=int)
        folder = storage.join(ingested, newest)
        behaviors = behaviors or storage.join(storage.parent(ingested), "behaviors", newest)
    if not storage.is_folder(folder) or not storage.entries(folder, "Split-*"):
        return None
    if behaviors is None:
        beside = storage.join(storage.parent(storage.parent(folder)), "behaviors", storage.name(folder))
        behaviors = beside if storage.is_folder(beside) else folder
    return RawLogs(folder, storage.absolute(behaviors), split)


def read_impressions(paths: Sequence[str]) -> pa.Table:
    """Reads tables of impressions, a row each: files, folders or globs of Parquet, CSV or Arrow (Feather) files.

    Raises:
      NotFoundError: if a path names no file.
      InputError: for a file that is none of them, or columns that differ.
    """
    files = []
    for path in paths:
        found = storage.files_under(path) if storage.is_folder(path) else storage.match(path)
        found = [each for each in found if each.rpartition(".")[2] in _READERS]
        if not found:
            raise NotFoundError(f"{path}: no table there ({', '.join(f'*.{kind}' for kind in _READERS)}).")
        files += sorted(found)
    try:
        tables = [_READERS[path.rpartition(".")[2]](path) for path in files]
        return _joined(tables, files)
    except pa.ArrowException as error:
        raise InputError(f"{', '.join(files[:3])}: not a table of impressions: {error}") from None


def impressions_of(requests: pa.Table) -> pa.Table:
    """Raw requests as impressions: a row a candidate, with the request's own values repeated.

    Lists of other lengths than the candidates (features of several values) are left out.
    """
    counts = candidate_counts(requests)
    of_row = pa.array(np.repeat(np.arange(len(requests)), counts))
    columns = {}
    for name in requests.column_names:
        values = arrow.one_chunk(requests[name])
        if not arrow.is_list(values.type):
            columns[name] = values.take(of_row)
        elif not arrow.is_list(values.type.value_type) and np.array_equal(arrow.list_lengths(values), counts):
            columns[name] = values.flatten()
    return pa.table(columns)


def _joined(tables: list[pa.Table], files: list[str]) -> pa.Table:
    """All rows; columns whose types differ between files are numbers, or of the first file's type."""
    kinds: dict[str, pa.DataType] = {}
    for table, path in zip(tables, files, strict=True):
        other = set(table.column_names) ^ set(tables[0].column_names)
        if other:
            raise InputError(f"{path} and {files[0]} have other columns: `{min(other)}` stands in one of them alone.")
        for column in table.schema:
            known = kinds.setdefault(column.name, column.type)
            if known != column.type and (pa.types.is_floating(known) or pa.types.is_floating(column.type)):
                kinds[column.name] = pa.float64()
    schema = pa.schema(list(kinds.items()))
    return pa.concat_tables([table.select(list(kinds)).cast(schema) for table in tables])


def _read_csv(path: str) -> pa.Table:
    with storage.open_read(path) as file:
        return pa.csv.read_csv(file)


def _read_feather(path: str) -> pa.Table:
    with storage.open_arrow(path) as file:
        return pa.feather.read_table(file)


_READERS = {"parquet": arrow.read_parquet, "csv": _read_csv, "arrow": _read_feather, "feather": _read_feather}

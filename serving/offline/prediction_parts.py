"""The files of a prediction: a file of scores a unit of requests, one of what could not be ranked, and whose they are.

Every file carries in its Parquet metadata which job made it, of which piece of which input, so that a job which was
killed goes on after its last whole file, and no folder ever holds the scores of two jobs.
"""

from __future__ import annotations

import hashlib
import re
import tempfile
from collections import Counter
from collections.abc import Sequence
from types import TracebackType

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import ValidationError

from features import storage
from features.arrow import open_parquet
from features.config import Strict
from features.errors import OccupiedError
from features.examples.request_files import ReadRequest, RequestUnit
from serving.release.manifest import fingerprint

#: Of the files; the scores of another format are not those of this program.
FORMAT = 1
PREDICTION_FILE = "prediction.json"

_KEY = b"clickmill.prediction"
_GROUP_ROWS = 1 << 16
_REJECTED_SCHEMA = pa.schema(
    [
        ("file", pa.string()),
        ("line", pa.int64()),
        ("reason", pa.string()),
        ("detail", pa.string()),
        ("text", pa.string()),
    ]
)


class PredictionJob(Strict):
    """Everything but the requests that scores depend on.

    Attributes:
      model: name of the ranker.
      model_version: the number of its folder; None: it lies in a folder of another name.
      model_digest: of its files' contents.
      release: id of the release that names it; None: it was given by itself.
      tables_version: of the store that long histories come from; None: from the requests.
      tables_build: digest of what the store says of its build.
      signatures: fingerprint of the signatures of items newer than the ranker; None: none were given.
      top: how many candidates of a request are kept, the best first; None: all, in their order.
      format: of the files.
    """

    model: str
    model_version: int | None
    model_digest: str
    release: str | None = None
    tables_version: str | None = None
    tables_build: str | None = None
    signatures: str | None = None
    top: int | None = None
    format: int = FORMAT

    @property
    def digest(self) -> str:
        """Of all of it."""
        return fingerprint(self.model_dump())

    def difference(self, other: PredictionJob) -> str:
        """Returns what is another in another job, as part of a sentence."""
        mine, its = self.model_dump(), other.model_dump()
        names = [name for name in mine if mine[name] != its[name]]
        return ", ".join(f"`{name}` {its[name]} instead of {mine[name]}" for name in names)


class PartCounts(Strict):
    """What became of the requests of a unit, or of all.

    Attributes:
      requests: lines that are not blank, or rows.
      scored: requests with candidates.
      empty: requests without a candidate: they have no scores.
      rejected: what could not be ranked.
      candidates: that were scored.
      kept: candidates in the files of scores: fewer where only the best are kept.
      without_long_history: scored requests whose ranker had no long history to read.
      reasons: rejected requests by their reason.
    """

    requests: int = 0
    scored: int = 0
    empty: int = 0
    rejected: int = 0
    candidates: int = 0
    kept: int = 0
    without_long_history: int = 0
    reasons: dict[str, int] = {}

    def plus(self, other: PartCounts) -> PartCounts:
        """Returns the sums."""
        reasons = Counter(self.reasons) + Counter(other.reasons)
        names = [name for name in PartCounts.model_fields if name != "reasons"]
        sums = {name: getattr(self, name) + getattr(other, name) for name in names}
        return PartCounts(**sums, reasons=dict(sorted(reasons.items())))


class Part(Strict):
    """What a file says of itself.

    Attributes:
      job: that made it.
      input: the file of requests.
      unit: digest of the piece of it: what file it was, and from where to where.
      counts: what became of its requests.
    """

    job: PredictionJob
    input: str
    unit: str
    counts: PartCounts


def unit_digest(unit: RequestUnit) -> str:
    """Returns a digest of a piece of a file; that of a file that was written again is another."""
    named = [unit.path, unit.format, unit.index, unit.size, unit.modified, unit.start, unit.stop, unit.groups]
    return fingerprint(named)


def scores_path(folder: storage.AnyPath, unit: RequestUnit) -> str:
    """Returns where the scores of a unit lie."""
    return storage.join(folder, f"scores-{_part_name(unit)}.parquet")


def rejected_path(folder: storage.AnyPath, unit: RequestUnit) -> str:
    """Returns where the requests of a unit lie that could not be ranked; there is no file where there are none."""
    return storage.join(folder, f"rejected-{_part_name(unit)}.parquet")


def failed_path(folder: storage.AnyPath, unit: RequestUnit) -> str:
    """Returns where the worker says why a unit could not be read; the job takes it away again."""
    return storage.join(folder, f"failed-{_part_name(unit)}.json")


def read_part(path: storage.AnyPath) -> Part | None:
    """Returns what a file says of itself; None: it is no part of a prediction."""
    try:
        with open_parquet(path) as file:
            said = (file.schema_arrow.metadata or {}).get(_KEY)
        return None if said is None else Part.model_validate_json(said)
    except (pa.ArrowException, OSError, ValidationError):
        return None


def settle(
    folder: storage.AnyPath, job: PredictionJob, units: Sequence[RequestUnit], overwrite: bool = False
) -> list[RequestUnit]:
    """Returns the units that are not scored yet, after what a folder holds of other requests was deleted.

    Args:
      folder: of the prediction.
      job: the one that is to be run.
      units: all its units.
      overwrite: whether to delete what another job left; otherwise it is refused.

    Raises:
      OccupiedError: if the folder holds what another job left, or files of such names that no job left.
    """
    wanted = {path: unit for unit in units for path in (scores_path(folder, unit), rejected_path(folder, unit))}
    inputs = {unit.path for unit in units}
    current: dict[str, Part] = {}
    stale = storage.entries(folder, "failed-*.json")
    for path in [*storage.entries(folder, "scores-*.parquet"), *storage.entries(folder, "rejected-*.parquet")]:
        part = read_part(path)
        if part is None:
            raise OccupiedError(f"{path} is no part of a prediction: give another folder, or move the file away.")
        if not overwrite:
            _refuse_others(path, part, job, inputs)
        unit = wanted.get(path)
        if part.job == job and unit is not None and part.unit == unit_digest(unit):
            current[path] = part
        else:
            stale.append(path)
    pending = [unit for unit in units if not _is_whole(folder, unit, current)]
    if stale or pending:
        # It says that all scores are there.
        storage.delete(storage.join(folder, PREDICTION_FILE))
    for path in stale:
        storage.delete(path)
    for pattern in (".scores-*.tmp", ".rejected-*.tmp", ".failed-*.tmp", f".{PREDICTION_FILE}.*.tmp"):
        for path in storage.entries(folder, pattern):  # of a process that was killed
            storage.delete(path)
    return pending


def _refuse_others(path: str, part: Part, job: PredictionJob, inputs: set[str]) -> None:
    what = ""
    if part.job != job:
        what = f"was made by another job: {job.difference(part.job)}"
    elif part.input not in inputs:
        what = f"holds the scores of {part.input}, which is not among the requests"
    if what:
        raise OccupiedError(f"{path} {what}. Give another folder, or --overwrite to delete what is there.")


def _is_whole(folder: storage.AnyPath, unit: RequestUnit, current: dict[str, Part]) -> bool:
    """Whether a unit is scored: its scores are written last, and say whether something was rejected."""
    scores = current.get(scores_path(folder, unit))
    return scores is not None and (not scores.counts.rejected or rejected_path(folder, unit) in current)


def _part_name(unit: RequestUnit) -> str:
    """By the file's name, for who looks; by its path, since names repeat; the order of its units."""
    name = re.sub(r"[^A-Za-z0-9_.-]", "_", storage.name(unit.path))[:100]
    return f"{name}-{hashlib.sha256(unit.path.encode()).hexdigest()[:8]}-{unit.index:05d}"


class PartWriter:
    """Writes the files of a unit: memory holds a batch of them, and they appear whole when the block ends.

    Args:
      folder: of the prediction.
      job: that runs.
      unit: whose requests are scored.
      scores: schema of the scores.

    Attributes:
      counts: so far.
    """

    def __init__(self, folder: storage.AnyPath, job: PredictionJob, unit: RequestUnit, scores: pa.Schema):
        self._folder, self._job, self._unit = folder, job, unit
        self._scores, self._rejected = _Spool(scores), _Spool(_REJECTED_SCHEMA)
        self.counts = PartCounts()

    def __enter__(self) -> PartWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None):
        if kind is None:
            self._publish()
        self._scores.close()
        self._rejected.close()

    def add(self, scores: pa.Table, counts: PartCounts) -> None:
        """Takes the scores of some requests, and what they count."""
        self._scores.add(scores)
        self.counts = self.counts.plus(counts)

    def add_empty(self) -> None:
        """Takes a request without candidates."""
        self.counts = self.counts.plus(PartCounts(requests=1, empty=1))

    def reject(self, request: ReadRequest, reason: str, detail: str) -> None:
        """Takes a request that cannot be ranked."""
        detail = detail.encode("utf-8", "backslashreplace").decode()
        row = [[self._unit.path], [request.place], [reason], [detail], [request.text]]
        self._rejected.add(
            pa.table([pa.array(v, f.type) for v, f in zip(row, _REJECTED_SCHEMA, strict=True)], _REJECTED_SCHEMA)
        )
        self.counts = self.counts.plus(PartCounts(requests=1, rejected=1, reasons={reason: 1}))

    def _publish(self) -> None:
        part = Part(job=self._job, input=self._unit.path, unit=unit_digest(self._unit), counts=self.counts)
        said = {_KEY: part.model_dump_json().encode()}
        # The scores come last: where they are, all of the unit is.
        if self.counts.rejected:
            self._rejected.write(rejected_path(self._folder, self._unit), said)
        else:
            storage.delete(rejected_path(self._folder, self._unit))
        self._scores.write(scores_path(self._folder, self._unit), said)


class _Spool:
    """Rows on disk, until all are there: a Parquet file says at its beginning what it counts in all."""

    def __init__(self, schema: pa.Schema):
        self._file = tempfile.TemporaryFile(prefix="clickmill-")  # noqa: SIM115 - closed by `close`
        self._writer = pa.ipc.new_stream(self._file, schema)
        self._schema = schema

    def add(self, rows: pa.Table) -> None:
        self._writer.write_table(rows)

    def write(self, path: str, metadata: dict[bytes, bytes]) -> None:
        self._writer.close()
        self._file.seek(0)
        schema = self._schema.with_metadata(metadata)
        with storage.aside(path, durable=True) as local, pq.ParquetWriter(local, schema, compression="zstd") as writer:
            waiting: list[pa.RecordBatch] = []
            for batch in pa.ipc.open_stream(self._file):
                waiting.append(batch)
                if sum(len(each) for each in waiting) >= _GROUP_ROWS:
                    writer.write_table(pa.Table.from_batches(waiting).replace_schema_metadata(metadata))
                    waiting = []
            if waiting:
                writer.write_table(pa.Table.from_batches(waiting).replace_schema_metadata(metadata))

    def close(self) -> None:
        self._file.close()

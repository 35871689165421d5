"""Gathers a run's report from the files that its components left."""

from __future__ import annotations

import json
import platform
from collections.abc import Sequence
from importlib import metadata
from typing import Any

from evaluation.cascade.evaluate import CASCADE_EVALUATION_FILE, CascadeEvaluation
from evaluation.cascade.stage_comparison import StageComparison
from evaluation.replay.verdicts.replay_report import ReplayReport
from evaluation.report.data import (
    BehaviorTableFigures,
    ComponentTiming,
    DeadLetter,
    ExampleItem,
    RankerSummary,
    ReportData,
    RetrieverSummary,
    RunInfo,
    SignatureFigures,
    TriedModel,
)
from evaluation.report.training_record import HISTORY_FILE, load_training
from evaluation.report.verdicts import ModelVerdict
from evaluation.results import EVALUATION_FILE, EvaluationResult
from features import storage
from features.errors import InputError
from features.ingest.counts import COUNTS_FILE, IngestCounts
from features.storage import AnyPath

PACKAGES = ("clickmill", "tfx", "tensorflow", "tensorflow-recommenders", "apache-beam", "pyarrow", "numpy")
SAMPLE_PER_REASON = 3
TABLES_FILE = "behavior_tables.json"
REPLAY_FILE = "replay.json"


def collect(
    run: RunInfo,
    *,
    verdicts: Sequence[ModelVerdict] = (),
    counts: AnyPath | None = None,
    dead_letters: AnyPath | None = None,
    training_history: AnyPath | None = None,
    evaluation: AnyPath | None = None,
    rankers: Sequence[RankerSummary] = (),
    retrievers: Sequence[RetrieverSummary] = (),
    signatures: dict[str, Any] | None = None,
    behavior_tables: AnyPath | None = None,
    cascade_evaluation: AnyPath | None = None,
    replay: AnyPath | None = None,
    stages: StageComparison | None = None,
    served: Sequence[TriedModel] = (),
    timings: AnyPath | None = None,
    ranked_example: AnyPath | None = None,
    pushed_version: str | int | None = None,
) -> ReportData:
    """Assembles the report of one run. Every path may be None, or name what the run did not leave: that part is absent.

    Args:
      run: which run; `versions` are filled in where empty.
      verdicts: one row a model, the cascade last.
      counts: `counts.json`, or the directory of raw examples that holds it.
      dead_letters: directory of the dead letters' Parquet files; three rows of each reason are taken.
      training_history: `training_history.json`, or the directory that holds it.
      evaluation: `evaluation.json`, or the directory that holds it.
      rankers: of the run, that of `evaluation` first.
      retrievers: the retrieval models of the run.
      signatures: fields of `SignatureFigures`.
      behavior_tables: `behavior_tables.json`, or the directory that holds it; it holds null where none were built.
      cascade_evaluation: `cascade_evaluation.json`, or the directory that holds it.
      replay: `replay.json`, or the directory that holds it.
      stages: the cascade's coarse ranker beside its fine one.
      served: the models that were served for a trial.
      timings: `timings.json`: [{"component", "seconds", "peak_rss_mb"}].
      ranked_example: JSON list of {"item", "score"}, ranked.
      pushed_version: of the pushed model; None where it was not pushed.

    Raises:
      ValueError: where a file is there but does not fit.
    """
    counts_file = _file(counts, COUNTS_FILE)
    history_file = _file(training_history, HISTORY_FILE)
    evaluation_file = _file(evaluation, EVALUATION_FILE)
    cascade_file = _file(cascade_evaluation, CASCADE_EVALUATION_FILE)
    replay_file = _file(replay, REPLAY_FILE)
    tables = json.loads(storage.read_text(file)) if (file := _file(behavior_tables, TABLES_FILE)) else None
    return ReportData(
        run=run if run.versions else run.model_copy(update={"versions": installed_versions()}),
        verdicts=tuple(verdicts),
        counts=IngestCounts.load(storage.parent(counts_file)) if counts_file else None,
        dead_letter_sample=sample_dead_letters(dead_letters) if dead_letters else (),
        training=load_training(history_file) if history_file else None,
        evaluation=EvaluationResult.load(storage.parent(evaluation_file)) if evaluation_file else None,
        rankers=tuple(rankers),
        retrievers=tuple(retrievers),
        signatures=SignatureFigures(**signatures) if signatures else None,
        behavior_tables=BehaviorTableFigures(**{name: tables[name] for name in BehaviorTableFigures.model_fields})
        if tables
        else None,
        cascade=CascadeEvaluation.load(storage.parent(cascade_file)) if cascade_file else None,
        replay=ReplayReport.read(replay_file) if replay_file else None,
        stages=stages,
        served=tuple(served),
        pushed_version=None if pushed_version is None else str(pushed_version),
        timings=tuple(ComponentTiming(**part) for part in _json_list(timings, "timings.json")),
        ranked_example=tuple(ExampleItem(**part) for part in _json_list(ranked_example, "ranked_example.json")),
    ).with_absences()


def installed_versions() -> dict[str, str]:
    """Versions of Python and of the packages that a run rests on, read without importing them."""
    versions = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return versions


def sample_dead_letters(directory: AnyPath, per_reason: int = SAMPLE_PER_REASON) -> tuple[DeadLetter, ...]:
    """The first `per_reason` refused rows of each table and reason, sorted by both. Reads a batch at a time."""
    import pyarrow as pa
    import pyarrow.compute as pc

    from features.arrow import open_parquet

    taken: dict[tuple[str, str], list[DeadLetter]] = {}
    for path in (path for path in storage.files_under(directory) if path.endswith(".parquet")):
        with open_parquet(path) as file:
            for batch in file.iter_batches():
                # A millisecond column or a missing `detail` is no reason to lose the sample: all is read as text.
                present = [name for name in DeadLetter.model_fields if name in batch.schema.names]
                letters = pa.table({name: pc.fill_null(batch.column(name).cast(pa.string()), "") for name in present})
                for key in letters.group_by(["table", "reason"]).aggregate([]).to_pylist():
                    kept = taken.setdefault((key["table"], key["reason"]), [])
                    same = pc.and_(pc.equal(letters["table"], key["table"]), pc.equal(letters["reason"], key["reason"]))
                    rows = letters.filter(same).slice(0, per_reason - len(kept)).to_pylist()
                    kept += [DeadLetter(**row) for row in rows]
    return tuple(letter for key in sorted(taken) for letter in taken[key])


def _file(path: AnyPath | None, name: str) -> str | None:
    """The file itself, `name` in the directory, or None where there is none."""
    if path is None:
        return None
    found = storage.join(path, name) if storage.is_folder(path) else storage.join(path)
    return found if storage.is_file(found) else None


def _json_list(path: AnyPath | None, name: str) -> list[dict[str, Any]]:
    found = _file(path, name)
    if found is None:
        return []
    value = json.loads(storage.read_text(found))
    if not isinstance(value, list):
        raise InputError(f"`{storage.name(found)}` must be a JSON list of objects. Received: {type(value).__name__}.")
    return value

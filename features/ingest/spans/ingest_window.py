"""LogIngest of a window of days: each day's work, done once, and the examples that they make together."""

from __future__ import annotations

import datetime
import json
from collections import Counter
from collections.abc import Sequence

import apache_beam as beam

from features import storage
from features.arrow import open_parquet
from features.beam_runner import make_pipeline as make_local_pipeline
from features.examples.shards import USERS_DIR
from features.ingest.checking.kept import KeptFeatures
from features.ingest.config import IngestConfig
from features.ingest.counts import IngestCounts, TableCounts
from features.ingest.ingest_logs import add_up, drop_empty_splits
from features.ingest.joining.split import TimeHistogram, plan_times
from features.ingest.judge import judge_window, warnings_of
from features.ingest.outputs import clear_outputs
from features.ingest.spans.accounts import save_accounts, with_splits
from features.ingest.spans.day_folders import Days, SpanNotReadyError
from features.ingest.spans.day_work import DayWork, DayWorks, MakePipeline
from features.ingest.spans.window_shard import BuildWindow, WindowPlan
from features.items.catalogue import CATALOGUE_FILE, has_catalogue
from features.spec import FeatureSpec
from features.storage import AnyPath

#: Among the examples while a window is built: what its shards counted.
TALLY_FILE = "_tally.json"


def ingest_window(
    config: IngestConfig,
    spec: FeatureSpec,
    examples_dir: AnyPath,
    behaviors_dir: AnyPath,
    dead_letters_dir: AnyPath,
    kept: KeptFeatures | None = None,
    make_pipeline: MakePipeline = make_local_pipeline,
) -> IngestCounts:
    """Ingests the window of a run: what `run_ingest` writes of a whole log, of the days of `config.window`.

    Days of the window without logs are passed over, but for the newest. Behaviours reach back `spans.history_days`
    further. `spans.json` is written besides (`SpanAccount`).

    Args:
      config: with its `window`.
      spec: the features.
      examples_dir, behaviors_dir, dead_letters_dir: output directories, as of `IngestLogs`.
      kept: as of `IngestLogs`.
      make_pipeline: a new Beam pipeline; it is called for every day that has to be done, and for the window.

    Returns:
      The counts of the window. Of tables they add up those of its days.

    Raises:
      SpanNotReadyError: if the newest day has no logs, or a day has impressions and no clicks.
      BadRowsError, UntrainableLogError: as `judge_window`.
    """
    works, days = DayWorks(config, spec, kept or KeptFeatures(), make_pipeline), Days(config, spec)
    days.require(config.days.span)
    done = _work(config, works, days)
    in_window = [done[day] for day in config.days.dates if day in done]
    examples_dir, behaviors_dir, dead_letters_dir = map(storage.join, (examples_dir, behaviors_dir, dead_letters_dir))
    clear_outputs(examples_dir, behaviors_dir, dead_letters_dir)
    plan = _plan(works, list(done.values()), in_window, examples_dir, behaviors_dir)
    tally = _build(plan, make_pipeline)
    _copy_what_is_newest(plan.examples[-1], examples_dir)
    _copy_dead_letters(works.store, in_window, dead_letters_dir)
    accounts = [
        with_splits(work.account, {name: tally["day", str(place), name] for name in config.split.names})
        for place, work in enumerate(in_window)
    ]
    save_accounts(accounts, examples_dir)
    counts = _counts(config, spec, tally, plan, in_window)
    counts = counts.model_copy(update={"warnings": (*_gaps(config.days.dates, done), *warnings_of(config, counts))})
    counts.check_balance()
    drop_empty_splits(config, counts, examples_dir)
    counts.save(examples_dir)
    judge_window(config, spec, counts, in_window[-1].counts, examples_dir, dead_letters_dir)
    return counts


def _work(config: IngestConfig, works: DayWorks, days: Days) -> dict[datetime.date, DayWork]:
    """The work of the days whose behaviours the window sees, the oldest first, and of the window's."""
    done: dict[datetime.date, DayWork] = {}
    for day in days.of_window():
        try:
            done[day] = works.get(day, days)
        except SpanNotReadyError:
            if day >= config.days.dates[0]:  # Of the past, what there is.
                raise
    return done


def _plan(
    works: DayWorks, done: Sequence[DayWork], in_window: Sequence[DayWork], examples_dir: str, behaviors_dir: str
) -> WindowPlan:
    config, spec = works.config, works.spec
    folders = tuple(work.of(works.store, "examples") for work in in_window)
    return WindowPlan(
        past=tuple(work.of(works.store, "behaviors") for work in done if work.has_behaviors),
        examples=folders,
        split=config.split,
        instants=_instants(config, folders, in_window[-1]),
        labels=config.label_columns(spec),
        kept=tuple(feature.name for feature in works.kept.features),
        num_shards=works.num_shards,
        examples_dir=examples_dir,
        behaviors_dir=behaviors_dir,
    )


def _gaps(dates: Sequence[datetime.date], done: dict[datetime.date, DayWork]) -> list[str]:
    empty = [day.isoformat() for day in dates if day not in done or not done[day].account.read]
    return [f"the window has days without impressions: {', '.join(empty)}."] if empty else []


def _instants(config: IngestConfig, folders: Sequence[str], newest: DayWork) -> dict[str, int | None]:
    times = TimeHistogram()
    if config.split.by == "time" and config.split.train_until is None:
        for folder in folders:
            for file in storage.entries(storage.join(folder, "Split-train"), "requests-*.parquet"):
                with open_parquet(file) as opened:
                    times = times.merge(TimeHistogram.of(opened.read(["timestamp"])["timestamp"].to_numpy()))
    end = newest.counts.end_of_log
    return plan_times(end, times, config.split, None) | {"mature_until": newest.counts.mature_until}


def _build(plan: WindowPlan, make_pipeline: MakePipeline) -> Counter:
    """Writes all shards, and returns what they counted. What a worker counts comes back by its own file."""
    scratch = storage.join(plan.examples_dir, TALLY_FILE)
    with make_pipeline() as root:
        _ = (
            root
            | "Shards" >> beam.Create(range(plan.num_shards))
            | "BuildWindow" >> beam.ParDo(BuildWindow(plan))
            | "Sum" >> beam.CombineGlobally(add_up)
            | "WriteTally" >> beam.Map(_write_tally, scratch)
        )
    tally = _read_tally(scratch)
    storage.delete(scratch)
    return tally


def _write_tally(tally: Counter, path: str) -> None:
    storage.write_text(path, json.dumps([[list(key), number] for key, number in tally.items()]))


def _read_tally(path: str) -> Counter:
    return Counter({tuple(key): number for key, number in json.loads(storage.read_text(path))})


def _copy_what_is_newest(newest: str, examples_dir: str) -> None:
    """The catalogue and the users are those of the newest snapshot."""
    if has_catalogue(newest):
        storage.copy(storage.join(newest, CATALOGUE_FILE), storage.join(examples_dir, CATALOGUE_FILE))
    users = storage.join(newest, USERS_DIR)
    for file in storage.entries(users, "users-*.parquet"):
        storage.copy(file, storage.join(examples_dir, USERS_DIR, storage.name(file)))


def _copy_dead_letters(store: str, works: Sequence[DayWork], dead_letters_dir: str) -> None:
    files = [
        file for work in works for file in storage.entries(work.of(store, "dead_letters"), "dead_letters-*.parquet")
    ]
    for place, file in enumerate(files):
        storage.copy(file, storage.join(dead_letters_dir, f"dead_letters-{place:05d}-of-{len(files):05d}.parquet"))


def _counts(
    config: IngestConfig, spec: FeatureSpec, tally: Counter, plan: WindowPlan, works: Sequence[DayWork]
) -> IngestCounts:
    counts, names = [work.counts for work in works], config.split.names
    missing: Counter[str] = Counter()
    ignored: Counter[str] = Counter()
    for each in counts:
        missing.update(each.missing)
        ignored.update(each.ignored_labels)
    return IngestCounts(
        tables={name: _sum([each.tables[name] for each in counts]) for name in counts[-1].tables},
        requests={split: tally["requests", split] for split in names},
        impressions={split: tally["impressions", split] for split in names},
        positives={
            label: {split: tally["positives", label, split] for split in names} for label in config.label_columns(spec)
        },
        behaviors=tally["behaviors",],
        behavior_users=tally["behavior_users",],
        unknown_items=sum(each.unknown_items for each in counts),
        unknown_users=sum(each.unknown_users for each in counts),
        missing=dict(missing),
        ignored_labels=dict(ignored),
        num_shards=plan.num_shards,
        **plan.instants,
    )


def _sum(tables: Sequence[TableCounts]) -> TableCounts:
    """Returns the counts of a table over days."""
    total: dict[str, object] = {}
    for name in TableCounts.model_fields:
        values = [getattr(table, name) for table in tables]
        if isinstance(values[0], int):
            total[name] = sum(values)
        elif isinstance(values[0], dict):
            added: Counter = Counter()
            for value in values:
                added.update(value)
            total[name] = dict(added)
        else:
            total[name] = tuple(dict.fromkeys(each for value in values for each in value))
    return TableCounts.model_validate(total)

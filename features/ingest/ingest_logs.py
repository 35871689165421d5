"""LogIngest: raw logs to requests, a behaviour log and dead letters, in Beam on Arrow RecordBatches.

    impressions ─ check ┬─ by user ────────────────────────────────┐
                        ├─ times ─ end of the log ────────┐        │
                        └─ index (request, user, times) ──┤        │
    clicks ─ check ─ by request ───────────────────── find user ───┤
    users, behaviors ─ check ─ by user ────────────────────────────┴─ build shard ─ requests, behaviour log
    items ─ check ─ one file, read by every shard ─────────────────┘   and the catalogue

Clicks know no user. They meet the index of requests, which is small beside the impressions, and travel on to the shard
of their user: impressions are shuffled once, and lie in files meanwhile (`joining/spill.py`). What is dated beyond the
end of the log is set aside before it can decide anything.
"""

from __future__ import annotations

import dataclasses
import datetime
import math
import uuid
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import apache_beam as beam
import pyarrow as pa

from features import storage
from features.beam_runner import make_pipeline
from features.ingest.checking.kept import KeptFeatures
from features.ingest.checking.letters import dead_letters
from features.ingest.checking.plan import plan_tables
from features.ingest.config import MAX_SHARDS, IngestConfig, LogTables, SplitConfig
from features.ingest.counts import IngestCounts, counts_from
from features.ingest.joining.end_of_log import LogTimes
from features.ingest.joining.item_table import WriteItems
from features.ingest.joining.shuffle import BY_REQUEST, DEAD, IMPRESSION_TIMES, ITEMS, REQUEST_TIMES, TALLY, mark
from features.ingest.joining.split import MergeTimes, TimeHistogram, plan_times
from features.ingest.joining.stages import BuildShard, ReadTable, RouteClicks, WriteDeadLetters
from features.ingest.judge import judge_log, warnings_of
from features.ingest.outputs import clear_outputs, drop_scratch
from features.ingest.reading.units import ReadUnit, plan_reads
from features.ingest.spans.snapshots import SpanPlan, snapshots_of
from features.spec import FeatureSpec
from features.storage import AnyPath

__all__ = ["IngestConfig", "IngestLogs", "LogTables", "SplitConfig", "finalize_ingest", "run_ingest"]

ROWS_PER_SHARD = 128_000
MIN_SHARDS = 4

_Keyed = tuple[int, pa.RecordBatch]


class Ingested(NamedTuple):
    """What `IngestLogs` gives on.

    Attributes:
      counts: one `IngestCounts`, once all files are written.
      dead_letters: pairs of a shard and a RecordBatch of `DEAD_LETTER_SCHEMA`; they are written too.
    """

    counts: beam.PCollection
    dead_letters: beam.PCollection


@dataclasses.dataclass(eq=False, repr=False)
class IngestLogs(beam.PTransform):
    """LogIngest, applied to a pipeline; call `finalize_ingest` after the run.

    Writes `Split-*/requests-*.parquet`, `catalogue/items.parquet`, `users/users-*.parquet` and `counts.json` to
    `examples_dir`, `behaviors-*.parquet` to `behaviors_dir` and `dead_letters-*.parquet` to `dead_letters_dir`; see
    docs/reference/data_formats.md. The tables are looked at, and `LogContractError` raised, when the transform is
    applied; what an earlier run wrote into these folders is deleted then.

    Attributes:
      config: tables, labels, split.
      spec: the features to keep.
      examples_dir, behaviors_dir, dead_letters_dir: output directories.
      kept: what models read that the examples are scored with besides, as far as the log has it.
      sample_rows: of each table, about how many rows are read, the first of each of its units; None: all.
      span: the examples of a span, for a window of several (`features.ingest.spans`); None: those of a whole log.
      days: of tables by day, those that are read.
    """

    config: IngestConfig
    spec: FeatureSpec
    examples_dir: AnyPath
    behaviors_dir: AnyPath
    dead_letters_dir: AnyPath
    kept: KeptFeatures = KeptFeatures()
    sample_rows: int | None = None
    span: SpanPlan | None = None
    days: Mapping[str, Sequence[datetime.date]] | None = None

    def expand(self, root: beam.pvalue.PBegin) -> Ingested:
        config, spec = self.config, self.spec
        examples_dir, behaviors_dir = storage.join(self.examples_dir), storage.join(self.behaviors_dir)
        plans = plan_tables(config, spec, days=self.days)
        whole = self.kept.added_to(config, spec, plans)
        if whole is not spec:
            plans = plan_tables(config, whole, [feature.name for feature in self.kept.features], self.days)
        units = {table: plan_reads(plan.files, plan.config) for table, plan in plans.items()}
        num_shards = config.num_shards or _default_shards(units)
        dead_letters_dir = storage.join(self.dead_letters_dir)
        clear_outputs(examples_dir, behaviors_dir, dead_letters_dir)
        window = max(config.window_ms(label) for label in config.label_configs(spec))
        patient = config.limits.bad_files or config.max_bad_row_fraction >= 1

        # One read for all tables: every transform costs a local run a fixed time.
        tags = (BY_REQUEST, ITEMS, DEAD, TALLY, IMPRESSION_TIMES)
        limits = (
            {table: -(-self.sample_rows // len(found)) for table, found in units.items()} if self.sample_rows else {}
        )
        day, instants = (None, {}) if self.span is None else (self.span.day, self.span.instants)
        reading = ReadTable(plans, num_shards, config.end_of_log, patient, examples_dir, limits, day)
        read = (
            root
            | "Plan" >> beam.Create([(table, unit) for table, found in units.items() for unit in found])
            | "Spread" >> beam.Reshuffle()
            | "Read" >> beam.ParDo(reading).with_outputs(*tags, main="by_user")
        )
        end = beam.pvalue.AsSingleton(
            read[IMPRESSION_TIMES]
            | "ImpressionTimes" >> beam.CombineGlobally(MergeTimes(LogTimes))
            | "EndOfLog"
            >> beam.Map(lambda times: times.end(window) if config.end_of_log is None else config.end_of_log)
        )
        route = beam.ParDo(RouteClicks(num_shards, units, window, day), end=end)
        routed = _group("ByRequest", read[BY_REQUEST]) | "RouteClicks" >> route.with_outputs(
            DEAD, TALLY, REQUEST_TIMES, main="rows"
        )
        tallies = [read[TALLY], routed[TALLY]]

        maturity = config.maturity_ms(spec)
        times = routed[REQUEST_TIMES] | "RequestTimes" >> beam.CombineGlobally(MergeTimes(TimeHistogram))
        plan = beam.pvalue.AsSingleton(
            times
            | "PlanTimes"
            >> beam.Map(lambda times, end: plan_times(end, times, config.split, maturity) | instants, end=end)
        )

        if "items" in plans:
            items_path = storage.join(examples_dir, f"_items-{uuid.uuid4().hex}.arrow")
            snapshots = snapshots_of(self.span, "items", units["items"])
            write_items = beam.ParDo(WriteItems(items_path, spec, examples_dir, snapshots))
            items = _group("Items", read[ITEMS]) | "WriteItems" >> write_items.with_outputs(TALLY, main="path")
            tallies.append(items[TALLY])
            item_paths = items.path
        else:
            item_paths = root | "NoItems" >> beam.Create([])

        # Every shard writes its files, also the one that no row falls into.
        seeds = root | "Shards" >> beam.Create(range(num_shards)) | "Seed" >> beam.Map(lambda shard: (shard, _seed()))
        build = BuildShard(
            config,
            spec,
            whole,
            num_shards,
            units,
            examples_dir,
            behaviors_dir,
            plans["impressions"].empty(),
            "behaviors" in plans and plans["behaviors"].has("action"),
            self.span,
        )
        built = _group("ByUser", seeds, routed.rows, read.by_user) | "BuildShard" >> beam.ParDo(
            build, plan=plan, item_paths=beam.pvalue.AsIter(item_paths)
        ).with_outputs(DEAD, TALLY, main="none")
        tallies.append(built[TALLY])

        # One file at least, so that "no dead letter" can be told from "not written".
        none = root | "NoLetter" >> beam.Create([0]) | "Letterhead" >> beam.Map(lambda key: (key, _no_letters()))
        dead = (read[DEAD], routed[DEAD], built[DEAD]) | "DeadLetters" >> beam.Flatten()
        written = _group("WriteLetters", none, dead) | "WriteDeadLetters" >> beam.ParDo(
            WriteDeadLetters(dead_letters_dir, num_shards)
        )
        known = {
            "files": {name: (table.passed_over, table.differing_files) for name, table in plans.items()},
            "splits": config.split.names,
            "labels": config.label_columns(spec),
            "num_shards": num_shards,
        }
        counts = (
            tallies
            | "Tallies" >> beam.Flatten()
            | "Sum" >> beam.CombineGlobally(add_up)
            | "WriteCounts"
            >> beam.Map(
                _write_counts,
                plan=plan,
                written=beam.pvalue.AsIter(written),
                known=known,
                config=config,
                examples_dir=examples_dir,
            )
        )
        return Ingested(counts, dead)


def finalize_ingest(
    config: IngestConfig, spec: FeatureSpec, examples_dir: AnyPath, dead_letters_dir: AnyPath
) -> IngestCounts:
    """Checks the accounts after the run, removes scratch files and splits of a `column` that nothing is in, and judges.

    Raises:
      BadRowsError: if a table's share of dead letters is above `max_bad_row_fraction`. They are written by then.
      UntrainableLogError: if the log cannot be trained on for another reason; see `judge_log`.
      RowAccountError: if rows were lost.
    """
    drop_scratch(storage.join(examples_dir))
    counts = IngestCounts.load(examples_dir)
    counts.check_balance()
    drop_empty_splits(config, counts, examples_dir)
    judge_log(config, spec, counts, examples_dir, dead_letters_dir)
    return counts


def drop_empty_splits(config: IngestConfig, counts: IngestCounts, examples_dir: AnyPath) -> None:
    """Deletes the splits of a `column` that no request is in."""
    for name in [name for name, requests in counts.requests.items() if not requests]:
        if config.split.by == "column":
            storage.delete(storage.join(examples_dir, f"Split-{name}"))


def run_ingest(
    config: IngestConfig,
    spec: FeatureSpec,
    examples_dir: AnyPath,
    behaviors_dir: AnyPath,
    dead_letters_dir: AnyPath,
    kept: KeptFeatures | None = None,
) -> IngestCounts:
    """Runs LogIngest in this process; see `IngestLogs` and `finalize_ingest`."""
    with make_pipeline() as root:
        _ = root | IngestLogs(config, spec, examples_dir, behaviors_dir, dead_letters_dir, kept=kept or KeptFeatures())
    return finalize_ingest(config, spec, examples_dir, dead_letters_dir)


def _group(name: str, *collections: beam.PCollection) -> beam.PCollection:
    typed = [
        each | f"{name}/Type{i}" >> beam.Map(lambda pair: pair).with_output_types(_Keyed)
        for i, each in enumerate(collections)
    ]
    whole = typed | f"{name}/Flatten" >> beam.Flatten() if len(typed) > 1 else typed[0]
    return whole | f"{name}/Group" >> beam.GroupByKey()


def _default_shards(units: dict[str, list[ReadUnit]]) -> int:
    """By the rows of all tables that are sharded: behaviours and users may be more than impressions."""
    rows = sum(unit.rows for table, found in units.items() if table != "items" for unit in found)
    return min(MAX_SHARDS, max(MIN_SHARDS, math.ceil(rows / ROWS_PER_SHARD)))


def _seed() -> pa.RecordBatch:
    return mark(pa.RecordBatch.from_arrays([pa.array([], pa.null())], names=["none"]), "seed")


def _no_letters() -> pa.RecordBatch:
    return dead_letters("", [], [], [], [], [])


def add_up(tallies: Iterable[Counter]) -> Counter:
    """Returns the sum of tallies."""
    total: Counter = Counter()
    for tally in tallies:
        total.update(tally)
    return total


def _write_counts(
    tally: Counter,
    plan: dict[str, int | None],
    written: Iterable[int],
    known: dict[str, Any],
    config: IngestConfig,
    examples_dir: str,
) -> IngestCounts:
    sum(written)  # The dead letters are written before the counts are.
    counts = counts_from(tally, plan, **known)
    counts = counts.model_copy(update={"warnings": warnings_of(config, counts)})
    counts.save(examples_dir)
    return counts

"""A shard of a window: the examples of its days, with one behaviour log and in the splits of the window."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterator, Sequence

import apache_beam as beam
import numpy as np
import pyarrow as pa

from features import storage
from features.arrow import list_lengths, one_chunk, read_parquet
from features.errors import InputError
from features.examples.shards import KEPT_DIR
from features.ingest.config import SPLITS, SplitConfig
from features.ingest.joining.behavior_log import ShardBehaviors
from features.ingest.joining.split import assign_splits
from features.ingest.joining.write import write_shard


@dataclasses.dataclass(frozen=True)
class WindowPlan:
    """What the shards of a window share.

    Attributes:
      past: the folders of the days' behaviours, those before the window too, the oldest first.
      examples: the folders of the days' examples, the oldest first.
      split: how requests are split.
      instants: of `plan_times`.
      labels: names of the label columns.
      kept: columns that lie apart, see `features.ingest.checking.kept`.
      num_shards: of every day and of the window.
      examples_dir, behaviors_dir: where the window is written.
    """

    past: tuple[str, ...]
    examples: tuple[str, ...]
    split: SplitConfig
    instants: dict[str, int | None]
    labels: tuple[str, ...]
    kept: tuple[str, ...]
    num_shards: int
    examples_dir: str
    behaviors_dir: str

    def file(self, folder: str, name: str, shard: int) -> str:
        """Returns the path of a shard's file."""
        return storage.join(folder, f"{name}-{shard:05d}-of-{self.num_shards:05d}.parquet")


@dataclasses.dataclass(eq=False, repr=False)
class BuildWindow(beam.DoFn):
    """Writes a shard of a window; memory holds one shard at a time. Yields what it counted."""

    plan: WindowPlan

    def process(self, shard: int) -> Iterator[Counter]:
        tally: Counter = Counter()
        log = self._write_behaviors(shard, tally)
        requests, days, codes = self._requests(shard)
        if requests.num_rows:
            users = log.user_index(one_chunk(requests["user_id"]))
            ends = log.history_end(users, requests["timestamp"].to_numpy())
            requests = _replaced(requests, "user_index", pa.array(users))
            requests = _replaced(requests, "history_end", pa.array(ends))
        kept = [name for name in self.plan.kept if name in requests.column_names]
        for name in self.plan.split.names:
            chosen = codes == SPLITS.index(name)
            table = requests.filter(pa.array(chosen)).combine_chunks()
            folder = storage.join(self.plan.examples_dir, f"Split-{name}")
            write_shard(table.drop(kept), folder, "requests", shard, self.plan.num_shards)
            if kept and name != "train":
                folder = storage.join(self.plan.examples_dir, KEPT_DIR, f"Split-{name}")
                write_shard(table.select(kept), folder, "requests", shard, self.plan.num_shards)
            self._count(name, table, days[chosen], tally)
        yield tally

    def _count(self, split: str, table: pa.Table, days: np.ndarray, tally: Counter) -> None:
        lengths = list_lengths(one_chunk(table["item_id"]))
        tally["requests", split] += table.num_rows
        for day in np.unique(days):
            tally["day", str(day), split] += int(lengths[days == day].sum())
        tally["impressions", split] += int(lengths.sum())
        for label in self.plan.labels:
            tally["positives", label, split] += int((one_chunk(table[label]).flatten().to_numpy() > 0).sum())

    def _requests(self, shard: int) -> tuple[pa.Table, np.ndarray, np.ndarray]:
        """Returns the requests of all days in the order of time, and of each the place of its day and its split."""
        plan = self.plan
        tables: list[pa.Table] = []
        days: list[np.ndarray] = []
        codes: list[np.ndarray] = []
        for day, folder in enumerate(plan.examples):
            for split in plan.split.names if plan.split.by == "column" else SPLITS[:1]:
                table = read_parquet(plan.file(storage.join(folder, f"Split-{split}"), "requests", shard))
                newest = day == len(plan.examples) - 1
                tables.append(table)
                days.append(np.full(table.num_rows, day))
                codes.append(self._codes(table, split, newest))
        return joined(tables), np.concatenate(days), np.concatenate(codes)

    def _codes(self, table: pa.Table, split: str, newest: bool) -> np.ndarray:
        config = self.plan.split
        if config.by == "column" or (config.by == "span" and not newest):
            return np.full(table.num_rows, SPLITS.index(split), np.int8)
        return assign_splits(config, self.plan.instants, one_chunk(table["request_id"]), table["timestamp"].to_numpy())

    def _write_behaviors(self, shard: int, tally: Counter) -> ShardBehaviors:
        """Writes the behaviours of all days, those of a user in one row."""
        plan = self.plan
        days = joined([read_parquet(plan.file(folder, "behaviors", shard)) for folder in plan.past]).combine_chunks()
        lengths = list_lengths(one_chunk(days["timestamp"]))
        users = one_chunk(days["user_id"]).take(pa.array(np.repeat(np.arange(days.num_rows), lengths)))
        times = one_chunk(days["timestamp"]).flatten().to_numpy()
        log = ShardBehaviors.build(users, times, np.arange(len(times)))
        order, table = pa.array(log.order), {"user_id": log.user_ids}
        for name in days.column_names[1:]:
            table[name] = log.lists(_flat(one_chunk(days[name]), lengths).take(order))
        write_shard(pa.table(table), plan.behaviors_dir, "behaviors", shard, plan.num_shards)
        tally["behaviors",] += len(times)
        tally["behavior_users",] += len(log.user_ids)
        return log


def joined(tables: Sequence[pa.Table]) -> pa.Table:
    """Returns the rows of the tables of several days; a column that some lack is null in their rows.

    Raises:
      InputError: if a column has another type on another day.
    """
    try:
        schema = pa.unify_schemas([table.schema for table in tables])
        return pa.concat_tables([_with_all(table, schema) for table in tables])
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise InputError(
            f"the days of the log do not fit together: {error}. Name the column as a feature of one `dtype`, so that "
            "every day is read as that."
        ) from error


def _with_all(table: pa.Table, schema: pa.Schema) -> pa.Table:
    columns = {
        field.name: table[field.name] if field.name in table.column_names else pa.nulls(table.num_rows, field.type)
        for field in schema
    }
    return pa.table(columns, schema)


def _flat(lists: pa.ListArray, lengths: np.ndarray) -> pa.Array:
    """Returns the values of lists of given lengths; nulls for those of a day that lacks the column."""
    if not lists.null_count:
        return lists.flatten()
    known = np.repeat(lists.is_valid().to_numpy(zero_copy_only=False), lengths)
    places = np.cumsum(known) - 1
    return lists.flatten().take(pa.array(places, mask=~known))


def _replaced(table: pa.Table, name: str, values: pa.Array) -> pa.Table:
    place = table.column_names.index(name)
    return table.set_column(place, table.schema.field(name), values.cast(table.schema.field(name).type))

"""The row accounts of LogIngest: what came in, and where every row went."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from pydantic import Field

from features import storage
from features.config import Strict
from features.errors import RunError

COUNTS_FILE = "counts.json"
MOST_FREQUENT = 10
"""Of labels that are not asked for, how many are named."""


class RowAccountError(RunError):
    """A row account that does not balance: rows were lost or counted twice."""


class TableCounts(Strict):
    """Where the rows of one table went. Every row is in exactly one of kept, duplicates, dead_letters, immature, late,
    ignored and earlier.

    Attributes:
      rows_in: of all files that were read.
      kept: what the examples are made of.
      duplicates: rows that repeat another.
      merged: of the duplicates, impressions that differ from the row that stays in labels alone.
      differing: of the duplicates, impressions that differ from it in another column.
      dead_letters: rows that were refused.
      immature: of requests too young for their labels.
      late: clicks after the window; of a span, also impressions that came when their span was over.
      ignored: clicks whose label is not asked for.
      earlier: of a span, rows of the days before that it reads again and that earlier spans account for.
      reread: of a span, all rows of the days before, whatever became of them.
      carried_in: of `kept`, those of the days before: an earlier span held them back.
      held_before: of `immature`, those of the days before.
      reasons: dead letters by reason.
      passed_over: files that lie beside the others and were not read.
      differing_files: files whose columns are not those of the others.
      bad_files: rows of each file none of whose rows is good.
    """

    rows_in: int = 0
    kept: int = 0
    duplicates: int = 0
    merged: int = 0
    differing: int = 0
    dead_letters: int = 0
    immature: int = 0
    late: int = 0
    ignored: int = 0
    earlier: int = 0
    reread: int = 0
    carried_in: int = 0
    held_before: int = 0
    reasons: dict[str, int] = Field(default_factory=dict)
    passed_over: tuple[str, ...] = ()
    differing_files: tuple[str, ...] = ()
    bad_files: dict[str, int] = Field(default_factory=dict)

    @property
    def accounted(self) -> int:
        left = self.duplicates + self.dead_letters + self.immature + self.late + self.ignored
        return self.kept + left + self.earlier

    @property
    def own_rows(self) -> int:
        """The rows that are accounted for here: of a span, those of its own day."""
        return self.rows_in - self.reread

    @property
    def bad_fraction(self) -> float:
        return self.dead_letters / self.own_rows if self.own_rows else 0.0


class IngestCounts(Strict):
    """`counts.json`. Times are UTC milliseconds.

    Attributes:
      tables: the account of each table.
      requests, impressions: kept ones by split.
      positives: {label: {split: impressions whose label is above 0}}.
      behaviors, behavior_users: rows and users of the behaviour log.
      unknown_items, unknown_users: kept impressions (requests) whose item (user) has no row in its table.
      missing: by feature, values that are null: of requests or of impressions, by its scope.
      ignored_labels: of clicks, the most frequent labels that are not asked for.
      warnings: what does not fail a run and should be looked at, a sentence each.
      end_of_log: declared, or the latest impression but for those that stand far from all others.
      mature_until: requests after it were left out; None: none were.
      settled_until: of a span, requests until then belong to earlier ones.
      eval_start, test_start: first instants of the later splits, where the split is by time.
      num_shards: of every output.
      sampled_units: pieces of tables that were not read to their end; 0 but for a check of a sample.
    """

    tables: dict[str, TableCounts]
    requests: dict[str, int]
    impressions: dict[str, int]
    positives: dict[str, dict[str, int]]
    behaviors: int = 0
    behavior_users: int = 0
    unknown_items: int = 0
    unknown_users: int = 0
    missing: dict[str, int] = Field(default_factory=dict)
    ignored_labels: dict[str, int] = Field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    end_of_log: int | None = None
    mature_until: int | None = None
    settled_until: int | None = None
    eval_start: int | None = None
    test_start: int | None = None
    num_shards: int
    sampled_units: int = 0

    def check_balance(self) -> None:
        """Raises `RowAccountError` unless every row of every table is accounted for exactly once."""
        for name, table in self.tables.items():
            if table.rows_in != table.accounted:
                raise RowAccountError(f"`{name}`: {table.rows_in} rows in, {table.accounted} accounted for: {table}.")
            if table.dead_letters != sum(table.reasons.values()):
                raise RowAccountError(f"`{name}`: {table.dead_letters} dead letters, by reason {table.reasons}.")
        kept = self.tables["impressions"].kept
        if kept != sum(self.impressions.values()):
            raise RowAccountError(f"{kept} impressions kept, but the splits hold {self.impressions}.")

    def save(self, directory: storage.AnyPath) -> None:
        """Writes `counts.json`."""
        storage.write_text(storage.join(directory, COUNTS_FILE), self.model_dump_json(indent=2) + "\n")

    @classmethod
    def load(cls, directory: storage.AnyPath) -> IngestCounts:
        """Reads `counts.json` of the examples in `directory`."""
        return cls.model_validate_json(storage.read_text(storage.join(directory, COUNTS_FILE)))


def counts_from(tally: Mapping[tuple[str, ...], int], plan: Mapping[str, int | None], **known: Any) -> IngestCounts:
    """Returns the counts that a tally adds up to.

    Args:
      tally: counts under ("table", table, field), ("reason", table, reason), ("file", table, path, "rows" or "bad"),
        ("requests", split), ("impressions", split), ("positives", label, split), ("missing", feature),
        ("ignored", label) or a single name.
      plan: end_of_log, mature_until, eval_start, test_start.
      **known: `splits`, `labels` (names, so that zeros are there too), `num_shards` and `files`: of each table those
        that were passed over and those that differ.
    """
    tally = Counter(tally)
    tables = {}
    for table, (passed_over, differing) in known["files"].items():
        fields = {key[2]: n for key, n in tally.items() if key[:2] == ("table", table)}
        reasons = {key[2]: n for key, n in sorted(tally.items()) if key[:2] == ("reason", table)}
        rows = {key[2]: n for key, n in sorted(tally.items()) if key[:2] == ("file", table) and key[3] == "rows"}
        tables[table] = TableCounts(
            **fields,
            dead_letters=sum(reasons.values()),
            reasons=reasons,
            passed_over=passed_over,
            differing_files=differing,
            bad_files={path: n for path, n in rows.items() if n and tally["file", table, path, "bad"] == n},
        )
    splits = known["splits"]
    ignored = Counter({key[1]: n for key, n in tally.items() if key[0] == "ignored"})
    return IngestCounts(
        tables=tables,
        requests={split: tally["requests", split] for split in splits},
        impressions={split: tally["impressions", split] for split in splits},
        positives={n: {split: tally["positives", n, split] for split in splits} for n in known["labels"]},
        **{n: tally[n,] for n in ("behaviors", "behavior_users", "unknown_items", "unknown_users", "sampled_units")},
        missing={key[1]: n for key, n in sorted(tally.items()) if key[0] == "missing"},
        ignored_labels=dict(sorted(ignored.items(), key=lambda entry: (-entry[1], entry[0]))[:MOST_FREQUENT]),
        **dict[str, Any](plan),
        num_shards=known["num_shards"],
    )

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


class RowAccountError(RunError):
    """A row account that does not balance: rows were lost or counted twice."""


class TableCounts(Strict):
    """Where the rows of one table went. Every row is in exactly one of the fields below `rows_in`."""

    rows_in: int = 0
    kept: int = 0
    duplicates: int = 0
    dead_letters: int = 0
    immature: int = 0
    late: int = Field(0, description="Clicks after the attribution window.")
    ignored: int = Field(0, description="Clicks whose label is not asked for.")
    reasons: dict[str, int] = Field(default_factory=dict, description="Dead letters by reason.")

    @property
    def accounted(self) -> int:
        return self.kept + self.duplicates + self.dead_letters + self.immature + self.late + self.ignored

    @property
    def bad_fraction(self) -> float:
        return self.dead_letters / self.rows_in if self.rows_in else 0.0


class IngestCounts(Strict):
    """`counts.json`. Times are UTC milliseconds.

    Attributes:
      tables: the account of each table.
      requests, impressions: kept ones by split.
      positives: {label: {split: impressions whose label is above 0}}.
      behaviors, behavior_users: rows and users of the behaviour log.
      unknown_items, unknown_users: kept impressions (requests) whose item (user) has no row in its table.
      end_of_log: the latest timestamp of impressions and clicks.
      mature_until: requests after it were left out; None: none were.
      eval_start, test_start: first instants of the later splits, where the split is by time.
      num_shards: of every output.
    """

    tables: dict[str, TableCounts]
    requests: dict[str, int]
    impressions: dict[str, int]
    positives: dict[str, dict[str, int]]
    behaviors: int = 0
    behavior_users: int = 0
    unknown_items: int = 0
    unknown_users: int = 0
    end_of_log: int | None = None
    mature_until: int | None = None
    eval_start: int | None = None
    test_start: int | None = None
    num_shards: int

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
      tally: counts under ("table", table, field), ("reason", table, reason), ("requests", split),
        ("impressions", split), ("positives", label, split) or a single name.
      plan: end_of_log, mature_until, eval_start, test_start.
      **known: `tables`, `splits`, `labels` (names, so that zeros are there too) and `num_shards`.
    """
    tally = Counter(tally)
    tables = {}
    for table in known["tables"]:
        fields = {key[2]: n for key, n in tally.items() if key[:2] == ("table", table)}
        reasons = {key[2]: n for key, n in sorted(tally.items()) if key[:2] == ("reason", table)}
        tables[table] = TableCounts(**fields, dead_letters=sum(reasons.values()), reasons=reasons)
    splits = known["splits"]
    return IngestCounts(
        tables=tables,
        requests={split: tally["requests", split] for split in splits},
        impressions={split: tally["impressions", split] for split in splits},
        positives={n: {split: tally["positives", n, split] for split in splits} for n in known["labels"]},
        **{n: tally[n,] for n in ("behaviors", "behavior_users", "unknown_items", "unknown_users")},
        **dict[str, Any](plan),
        num_shards=known["num_shards"],
    )

"""What LogIngest reads and how it decides: tables, labels, end of the log, split, shards, what is too bad to go on."""

from __future__ import annotations

import datetime
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator
from typing_extensions import Self

from features.config import Strict
from features.encoding.columns import raw_value_column
from features.errors import InputError
from features.ingest.spans.config import SpansConfig, SpanWindow, is_by_day
from features.spec import FeatureSpec

SPLITS = ("train", "eval", "test")
MAX_SHARDS = 65_535
"""Shards are numbered by 16 bits."""

MAX_WINDOW_HOURS = 366 * 24.0


def _instant(value: Any) -> Any:
    """Returns UTC milliseconds: of a date (its midnight, UTC), of a time with a zone (ISO 8601), or of themselves."""
    if isinstance(value, str):
        try:
            value = datetime.datetime.fromisoformat(value.replace("Z", "+00:00"))
        except ValueError as error:
            raise ValueError("expected a date (2026-11-25), a time with its zone, or UTC milliseconds") from error
    if isinstance(value, datetime.datetime):
        at_midnight = value.time() == datetime.time()
        if value.tzinfo is None and not at_midnight:
            raise ValueError("a time needs its zone, as in 2026-11-25T18:00:00Z")
        return round(value.replace(tzinfo=value.tzinfo or datetime.timezone.utc).timestamp() * 1000)
    if isinstance(value, datetime.date):
        return _instant(datetime.datetime.combine(value, datetime.time()))
    return value


Instant = Annotated[int, BeforeValidator(_instant)]


class TableConfig(Strict):
    """Where a table lies and how its files are written. A string alone is its `path`.

    Attributes:
      path: a file, a directory or a glob, local or a URI. `{DATE}` in it stands for a day as 2026-11-24, `{SPAN}` as
        20261124: then a run is of a span (docs/guides/schedule.md).
      format: of its files, whatever their names end with; by default each file's suffix says it.
      columns: {name in Clickmill: name in the files}, for logs that call a column otherwise.
      timestamp_unit: of integer timestamps.
      delimiter: of CSV: one character; by default a tab in `.tsv` and a comma elsewhere.
      encoding: of text.
      null_values: fields of CSV that mean "missing".
      max_record_bytes: a longer record of text is a dead letter; a quoted value of CSV may hold line ends within it.
    """

    path: str
    format: Literal["parquet", "csv", "jsonl"] | None = None
    columns: dict[str, str] = Field(default_factory=dict)
    timestamp_unit: Literal["s", "ms", "us", "ns"] = "ms"
    delimiter: str | None = Field(None, min_length=1, max_length=1)
    encoding: str = "utf-8"
    null_values: tuple[str, ...] = ("", "\\N", "NULL", "nan")
    max_record_bytes: int = Field(1 << 16, ge=1 << 10, le=1 << 24)

    @model_validator(mode="before")
    @classmethod
    def _path_alone(cls, values: Any) -> Any:
        return {"path": values} if isinstance(values, str) else values

    @model_validator(mode="after")
    def _check(self) -> Self:
        try:
            "a".encode(self.encoding)
        except (LookupError, ValueError) as error:
            raise ValueError(
                f"`encoding` is no text encoding that Python knows. Received: {self.encoding!r}."
            ) from error
        if self.delimiter is not None and (self.delimiter in '"\r\n\\' or not self.delimiter.isascii()):
            raise ValueError(
                f"`delimiter` must be one ASCII character, no quote and no line end. Received: {self.delimiter!r}."
            )
        return self

    def source(self, name: str) -> str:
        """Returns what the files call a column."""
        return self.columns.get(name, name)


class LogTables(Strict):
    """Where each table of the log contract lies.

    Without `clicks` the labels are columns of `impressions`; without `behaviors` the positive impressions are the
    behaviours.

    Attributes:
      impressions: what was shown.
      clicks: what became of it, and when.
      items: the catalogue and its features.
      users: users' features.
      behaviors: what users did before, where impressions do not say it all.
    """

    impressions: TableConfig
    clicks: TableConfig | None = None
    items: TableConfig | None = None
    users: TableConfig | None = None
    behaviors: TableConfig | None = None

    def given(self) -> dict[str, TableConfig]:
        """Returns the tables that are there, by name."""
        return {name: table for name, table in self if table is not None}


class LabelConfig(Strict):
    """A label column of the examples. A string alone is its `name`.

    Attributes:
      name: of the label, in the examples.
      column: what the log calls it: a value of `clicks.label`, or a column of `impressions`; the name by default.
      at_least: of a column of `impressions`: the label is 1 where the column is at least this, else 0; without it the
        column must hold the label itself, in [0, 1].
      window_hours: of its clicks; `attribution_window_hours` by default.
      value: a column, of the same table, that tells how much (price, dwell time): kept in the examples as
        `<name>_value`, of the click that counts; missing where there is none.
    """

    name: str = Field(pattern=r"^[A-Za-z][A-Za-z0-9_]*$")
    column: str = ""
    at_least: float | None = Field(None, allow_inf_nan=False)
    window_hours: float | None = Field(None, gt=0, le=MAX_WINDOW_HOURS, allow_inf_nan=False)
    value: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _name_alone(cls, values: Any) -> Any:
        values = {"name": values} if isinstance(values, str) else values
        return values | {"column": values.get("column") or values.get("name")} if isinstance(values, dict) else values

    @property
    def value_name(self) -> str | None:
        """The column of the examples that holds the value; None: it has none."""
        return raw_value_column(self.name) if self.value is not None else None


class SplitConfig(Strict):
    """How requests are split into train, eval (early stopping) and test (evaluation); always whole requests.

    `time`: the first requests train, then eval, then test: by the quantiles of the request timestamps, or by the dates
    `train_until` and `eval_until`. `random`: by a hash of the request id and `seed`. `column`: `column` of the
    impressions says train, eval or test. `span`, of a log by day: all days of the window train but the newest, which is
    eval and test in the proportion of the fractions, by the same hash; each day judges before it trains.

    Attributes:
      by: how.
      eval_fraction: share of the requests in eval.
      test_fraction: share of the requests in test; 0: there is no test split.
      train_until: instead of the fractions: requests before this date (or time with a zone) train.
      eval_until: requests from `train_until` and before this are eval, later ones test; None: there is no test split.
      column: of the impressions, with `by: column`.
      seed: of the hash, with `by: random` and `by: span`.
    """

    by: Literal["time", "random", "column", "span"] = "time"
    eval_fraction: float = Field(0.1, ge=0, lt=1)
    test_fraction: float = Field(0.1, ge=0, lt=1)
    train_until: Instant | None = None
    eval_until: Instant | None = None
    column: str | None = None
    seed: int = 0

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.eval_fraction + self.test_fraction >= 1:
            raise ValueError(
                "`eval_fraction` + `test_fraction` must leave something to train on. "
                f"Received: {self.eval_fraction} + {self.test_fraction}."
            )
        if (self.by == "column") != (self.column is not None):
            raise ValueError(f"`column` goes with `by: column`. Received: `by`={self.by}, `column`={self.column}.")
        if self.by == "span" and not self.eval_fraction:
            raise ValueError("`by: span` needs an `eval_fraction`: the newest day is eval, and test by its fraction.")
        if self.train_until is None and self.eval_until is None:
            return self
        if self.by != "time" or {"eval_fraction", "test_fraction"} & self.model_fields_set:
            raise ValueError(
                "`train_until` and `eval_until` go with `by: time` and without fractions: keep one of the two."
            )
        if self.train_until is None or (self.eval_until is not None and self.eval_until <= self.train_until):
            raise ValueError("`eval_until` must be later than `train_until`, which must be given.")
        return self

    @property
    def names(self) -> tuple[str, ...]:
        """The splits that are written."""
        if self.by == "column" or self.eval_until is not None:
            return SPLITS
        if self.train_until is not None:
            return SPLITS[:2]
        return ("train", *(["eval"] if self.eval_fraction else []), *(["test"] if self.test_fraction else []))


class Limits(Strict):
    """Shares above which a log is not trained on: the run fails after LogIngest, with the figures and what to look at.

    Attributes:
      duplicates: of impressions and of clicks that repeat another: above half, a job has written its output twice.
      ignored: of clicks whose label is not asked for: above this nearly all are, mostly since a label is misspelt.
      immature: of impressions younger than the window: above this hardly any label is known yet.
      unknown_items: of impressions whose item has no row in `items`: above half, the ids of the two tables differ.
      unknown_users: of requests whose user has no row in `users`: guests are common, all of them is a wrong id.
      missing: of a feature's values, over all splits: a feature that is always missing was not read.
      bad_files: whether a file none of whose rows is good may be: one wrong file vanishes in a large table's share.
    """

    duplicates: float = Field(0.5, ge=0, le=1)
    ignored: float = Field(0.999, ge=0, le=1)
    immature: float = Field(0.9, ge=0, le=1)
    unknown_items: float = Field(0.5, ge=0, le=1)
    unknown_users: float = Field(0.95, ge=0, le=1)
    missing: float = Field(0.9999, ge=0, le=1)
    bad_files: bool = False


class IngestConfig(Strict):
    """Configuration of LogIngest.

    Attributes:
      tables: where the log lies.
      labels: further labels beside the spec's `label`, which may stand here too, with a column, window or value.
      request_columns: columns of impressions whose values together name the request, for logs without a `request_id`.
      attribution_window_hours: a click counts for its impression within [0, this].
      label_maturity: leave out requests younger than the window at the end of the log: their clicks are still to come.
        Only where clicks have their own table.
      end_of_log: what is later is a dead letter (`in_the_future`); None: the latest impression, but for a few that
        stand far from all others.
      split: how requests are split.
      num_shards: of the outputs and shuffles; None: from the size of the log, about 128,000 rows a shard.
      max_bad_row_fraction: a table with a larger share of dead letters fails the run, after they were written.
      limits: further shares that fail a run.
      spans: how a log by day is read: one whose `impressions` lie in folders of days.
      window: the days of one run, which `clickmill run --span` sets; a profile leaves it out.
    """

    tables: LogTables
    labels: tuple[LabelConfig, ...] = ()
    request_columns: tuple[str, ...] = ()
    attribution_window_hours: float = Field(24.0, gt=0, le=MAX_WINDOW_HOURS, allow_inf_nan=False)
    label_maturity: bool = True
    end_of_log: Instant | None = None
    split: SplitConfig = SplitConfig()
    num_shards: int | None = Field(None, ge=1, le=MAX_SHARDS)
    max_bad_row_fraction: float = Field(0.05, ge=0, le=1)
    limits: Limits = Limits()
    spans: SpansConfig = SpansConfig()
    window: SpanWindow | None = None

    @model_validator(mode="after")
    def _check_days(self) -> Self:
        by_day = {name for name, table in self.tables.given().items() if is_by_day(table.path)}
        if not self.by_day:
            if by_day:
                raise ValueError(f"`tables.{min(by_day)}` lies by day, and `tables.impressions` does not.")
            if self.split.by == "span" or self.window is not None:
                raise ValueError("spans need `{DATE}` or `{SPAN}` in the path of `tables.impressions`.")
            return self
        for name in ("clicks", "behaviors"):
            if name in self.tables.given() and name not in by_day:
                raise ValueError(
                    f"`tables.{name}` must lie by day, as `tables.impressions` does: `{{DATE}}` in its path."
                )
        if self.end_of_log is not None:
            raise ValueError("`end_of_log` is the end of the span, where tables lie by day: leave it out.")
        if self.window is not None and self.split.by == "span" and self.window.days < 2:
            raise ValueError(
                "`split.by: span` needs a window of two days or more: the newest judges, the others train."
            )
        return self

    @property
    def by_day(self) -> bool:
        """Whether the log is kept by day."""
        return is_by_day(self.tables.impressions.path)

    def label_configs(self, spec: FeatureSpec) -> tuple[LabelConfig, ...]:
        """Returns the labels of the examples, the spec's label first."""
        by_name = {label.name: label for label in self.labels}
        main = by_name.pop(spec.label, LabelConfig(name=spec.label))
        return (main, *by_name.values())

    def label_columns(self, spec: FeatureSpec) -> tuple[str, ...]:
        """Returns the label columns of the examples, the spec's label first."""
        return tuple(label.name for label in self.label_configs(spec))

    @property
    def days(self) -> SpanWindow:
        """The window of the run. Raises `InputError` where it has none."""
        if self.window is None:
            raise InputError("the log lies by day, and no day was asked for: `PipelineConfig.at_span` sets the window.")
        return self.window

    def maturity_ms(self, spec: FeatureSpec) -> int | None:
        """Returns the longest window, for which impressions wait; None: they do not, their labels are known."""
        if self.tables.clicks is None or not self.label_maturity:
            return None
        return max(self.window_ms(label) for label in self.label_configs(spec))

    def window_ms(self, label: LabelConfig) -> int:
        """Returns within how many milliseconds a click of the label counts."""
        return round((label.window_hours or self.attribution_window_hours) * 3_600_000)

"""What LogIngest reads and how it decides: tables, attribution, split, shards, tolerance."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator
from typing_extensions import Self

from features.config import Strict
from features.spec import FeatureSpec

SPLITS = ("train", "eval", "test")


class LogTables(Strict):
    """Where each table of the log contract lies: a file, a directory or a glob, local or a URI.

    Without `clicks` the labels are columns of `impressions`; without `behaviors` the positive impressions are the
    behaviours.
    """

    impressions: str
    clicks: str | None = None
    items: str | None = None
    users: str | None = None
    behaviors: str | None = None

    def given(self) -> dict[str, str]:
        """Returns {table: path} of the tables that are there."""
        return {name: path for name, path in self if path is not None}


class SplitConfig(Strict):
    """How requests are split into train, eval (early stopping) and test (evaluation); always whole requests.

    `time`: the first requests train, then eval, then test: the quantiles of the request timestamps. `random`: by a
    hash of the request id and `seed`. `column`: `column` of the impressions says train, eval or test.
    """

    by: Literal["time", "random", "column"] = "time"
    eval_fraction: float = Field(0.1, ge=0, lt=1)
    test_fraction: float = Field(0.1, ge=0, lt=1)
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
        return self

    @property
    def names(self) -> tuple[str, ...]:
        """The splits that are written."""
        if self.by == "column":
            return SPLITS
        return ("train", *(["eval"] if self.eval_fraction else []), *(["test"] if self.test_fraction else []))


class IngestConfig(Strict):
    """Configuration of LogIngest.

    Attributes:
      tables: where the log lies.
      labels: further label columns beside the spec's `label`: values of `clicks.label`, or columns of `impressions`.
      attribution_window_hours: a click counts for its impression within [0, this].
      label_maturity: leave out requests younger than the window at the end of the log: their clicks are still to come.
        Only where clicks have their own table.
      split: how requests are split.
      num_shards: of the outputs and shuffles; None: from the size of the log, about 128,000 impressions a shard.
      max_bad_row_fraction: a table with a larger share of dead letters fails the run, after they were written.
    """

    tables: LogTables
    labels: tuple[str, ...] = ()
    attribution_window_hours: float = Field(24.0, gt=0)
    label_maturity: bool = True
    split: SplitConfig = SplitConfig()
    num_shards: int | None = Field(None, ge=1, le=65535)
    max_bad_row_fraction: float = Field(0.05, ge=0, le=1)

    @property
    def window_ms(self) -> int:
        return round(self.attribution_window_hours * 3_600_000)

    def label_columns(self, spec: FeatureSpec) -> tuple[str, ...]:
        """Label columns of the examples, the spec's label first."""
        return tuple(dict.fromkeys((spec.label, *self.labels)))

"""A log with a column of each policy's propensities: what `evaluation.replay.replay` compares."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from evaluation.metrics.rows import Array
from evaluation.replay.log_table import LogColumns
from evaluation.replay.policies.slates import Slates
from features.errors import ClickmillError, InputError
from serving.offline.in_order import in_order
from serving.replay.log_files import RawBatch, RawLogs, impressions_of
from serving.replay.scorers import Scored, Scorer
from serving.replay.sources import PolicySource
from serving.requests.tensors import candidate_counts

MARGINAL, CONDITIONAL, Q_LOGGED, Q_EXPECTED = "propensity", "conditional", "q_logged", "q_expected"


class Impressions(NamedTuple):
    """A log with its policies.

    Attributes:
      table: a row an impression.
      columns: which of its columns say what.
    """

    table: pa.Table
    columns: LogColumns


def with_columns(table: pa.Table, sources: Mapping[str, PolicySource], columns: LogColumns) -> Impressions:
    """A table of impressions whose policies are columns of it.

    Raises:
      InputError: for a policy that scores requests, which impressions alone do not hold.
    """
    for name, source in sources.items():
        if source.column is None:
            raise InputError(
                f"`{name}`: {source.text} scores requests, and a table of impressions holds none. Give the logs of a "
                "run (`clickmill run` ingests them), or a policy that the table has a column of: column:NAME."
            )
    return Impressions(table, replace(columns, policies={name: str(each.column) for name, each in sources.items()}))


def score_logs(
    logs: RawLogs,
    sources: Mapping[str, PolicySource],
    columns: LogColumns,
    *,
    exclude: bool = False,
    progress: Callable[[int], None] | None = None,
) -> Impressions:
    """Scores raw requests by every policy's model, and says how likely each policy shows what was shown.

    Args:
      logs: the requests.
      sources: policy → what it is made of.
      columns: of the log; `policies` and what else is of policies is filled here.
      exclude: whether a request that a model fails on is left without propensities, so that it is left out and
        counted when the table is read; else it is an error.
      progress: called with the number of requests done.

    Returns:
      The impressions of the slots that are read, with `<policy>.propensity`, `<policy>.q_logged`,
      `<policy>.q_expected` of each policy that scores, and `<policy>.conditional` where lists are weighed whole.

    Raises:
      InputError: for a request that a model fails on.
      FileNotFoundError: if the split or its behaviours are not there.
    """
    scored = {name: source for name, source in sources.items() if source.scorer is not None}
    read: dict[str, dict[str, pa.Table]] = {name: {} for name in scored}
    tables, done = [], 0
    for batch in logs.batches():
        table = _first_slots(batch.requests, columns)
        for name, source in scored.items():
            job = _Job(name, source, columns, exclude)
            for column, values in job.columns_of(batch, read[name], table).items():
                table = table.append_column(f"{name}.{column}", pa.array(values, mask=np.isnan(values)))
        for name, source in sources.items():
            if source.scorer is None and scored and source.column == columns.propensity:
                # Of the logger itself weights are 1: whatever a model expects of it cancels out.
                for column in (Q_LOGGED, Q_EXPECTED):
                    table = table.append_column(f"{name}.{column}", pa.array(np.zeros(len(table))))
        tables.append(table.drop([_ROW]))
        done += len(batch.requests)
        if progress is not None:
            progress(done)
    if not tables:
        raise InputError(f"{logs.examples_dir}: split `{logs.split}` holds no request.")
    joined = pa.concat_tables(tables, promote_options="permissive")
    return Impressions(joined, _named(columns, sources, joined))


_ROW = "_request_row"


def _first_slots(requests: pa.Table, columns: LogColumns) -> pa.Table:
    """The impressions of the slots that are read, with the place of each row's request in the batch."""
    row = np.repeat(np.arange(len(requests)), candidate_counts(requests))
    table = impressions_of(requests).append_column(_ROW, pa.array(row))
    if columns.slots is None or columns.slot is None:
        return table
    return table.filter(pa.array(table[columns.slot].to_numpy(zero_copy_only=False) < columns.slots))


def _named(columns: LogColumns, sources: Mapping[str, PolicySource], table: pa.Table) -> LogColumns:
    """The columns with those of the policies."""
    own = CONDITIONAL if columns.read_as == "conditional" else MARGINAL
    policies = {name: each.column or f"{name}.{own}" for name, each in sources.items()}
    conditionals = {}
    if columns.conditional is not None:
        for name, source in sources.items():
            if source.scorer is not None:
                conditionals[name] = f"{name}.{CONDITIONAL}"
            elif source.column == columns.propensity:
                conditionals[name] = columns.conditional
    optional = {
        kind: {name: f"{name}.{kind}" for name in sources if f"{name}.{kind}" in table.column_names}
        for kind in (Q_LOGGED, Q_EXPECTED)
    }
    return replace(
        columns,
        policies=policies,
        conditionals=conditionals,
        optional={**columns.optional, **{kind: each for kind, each in optional.items() if each}},
    )


@dataclass(frozen=True)
class _Job:
    """One policy over the requests of a batch."""

    name: str
    source: PolicySource
    columns: LogColumns
    exclude: bool

    def columns_of(self, batch: RawBatch, read: dict[str, pa.Table], table: pa.Table) -> dict[str, Array]:
        """The policy's columns of the impressions, NaN where the model failed."""
        assert self.source.scorer is not None and self.source.policy is not None
        requests = batch.with_windows(self.source.scorer.history, read)
        rows = [requests.slice(at, 1) for at in range(len(requests))]
        scored = list(in_order(_Tried(self.source.scorer), rows))
        if not self.exclude:
            self._refuse(scored, requests)
        row, place, slot = self._logged(scored, table)
        policy = self.source.policy
        whole = np.ones(len(row), bool) if self.columns.slot is None else _whole(row, slot)
        fine = np.array([isinstance(each, Scored) for each in scored], bool)[row]
        slates, values, kept = _slates(scored, row, place, slot, fine)
        found = {MARGINAL: policy.marginals(slates), Q_EXPECTED: policy.expected(slates, values)}
        found = {name: _spread(each, kept) for name, each in found.items()}
        found[Q_LOGGED] = self._q_logged(scored, table)
        if self.columns.whole_lists:
            slates, _, kept = _slates(scored, row, place, slot, fine & whole)
            found[CONDITIONAL] = _spread(policy.conditionals(slates), kept)
        return found

    def _refuse(self, scored: list[Scored | Exception], requests: pa.Table) -> None:
        for at, each in enumerate(scored):
            if isinstance(each, Exception):
                key = requests[self.columns.request][at].as_py()
                raise InputError(
                    f"policy `{self.name}` ({self.source.text}) fails on request {key!r}: {_said(each)} Mend the "
                    "log, or leave such requests out with `exclude`."
                ) from each

    def _logged(self, scored: list[Scored | Exception], table: pa.Table) -> tuple[Array, Array, Array]:
        """Of each impression: its request in the batch, its item's place among the candidates, its slot."""
        row = table[_ROW].to_numpy()
        place = np.full(len(row), -1)
        for at, index in self._spans(row):
            if isinstance(scored[at], Scored):
                place[index] = scored[at].place[: len(index)]  # type: ignore[union-attr]
        slot = np.zeros(len(row), np.int64)
        if self.columns.slot is not None:
            slot = np.nan_to_num(table[self.columns.slot].to_numpy(zero_copy_only=False)).astype(np.int64)
        return row, place, slot

    def _q_logged(self, scored: list[Scored | Exception], table: pa.Table) -> Array:
        row = table[_ROW].to_numpy()
        found = np.full(len(row), np.nan)
        for at, index in self._spans(row):
            if isinstance(scored[at], Scored):
                found[index] = scored[at].q_logged[: len(index)]  # type: ignore[union-attr]
        return found

    @staticmethod
    def _spans(row: Array) -> list[tuple[int, Array]]:
        """Each request that has impressions, with theirs."""
        starts = np.flatnonzero(np.append(True, row[1:] != row[:-1])[: len(row)])
        return [(int(row[index[0]]), index) for index in np.split(np.arange(len(row)), starts[1:]) if len(index)]


class _Tried:
    """A scorer that returns what keeps it from a request."""

    def __init__(self, scorer: Scorer):
        self._scorer = scorer

    def __call__(self, row: pa.Table) -> Scored | Exception:
        try:
            found = self._scorer(row)
        except Exception as error:  # noqa: BLE001  whatever a model says of a row, the others are scored
            return error
        wrong = ~np.isfinite(found.logits)
        if wrong.any():
            return InputError(f"the logit of {int(wrong.sum())} of {len(wrong)} candidates is no number.")
        return found


def _said(error: Exception) -> str:
    text = str(error) if isinstance(error, ClickmillError | ValueError) else f"{type(error).__name__}: {error}"
    first = text.strip().splitlines()[0] if text.strip() else type(error).__name__
    return first if first.endswith(".") else f"{first}."


def _whole(row: Array, slot: Array) -> Array:
    """[N] whether the request has all slots from 0 on, in order."""
    first = np.searchsorted(row, row)
    wrong = np.bincount(row, slot != np.arange(len(row)) - first, int(row.max(initial=-1)) + 1)
    return wrong[row] == 0


def _slates(
    scored: list[Scored | Exception], row: Array, place: Array, slot: Array, keep: Array
) -> tuple[Slates, Array, Array]:
    """The requests of kept impressions, their candidates' probabilities [C], and which impressions are kept."""
    requests, counts = np.unique(row[keep], return_counts=True)
    chosen = [scored[at] for at in requests]
    logits = [each.logits for each in chosen if isinstance(each, Scored)]
    values = [each.probability for each in chosen if isinstance(each, Scored)]
    slates = Slates(
        offsets=np.append(0, np.cumsum([len(each) for each in logits])).astype(np.int64),
        logits=np.concatenate([np.zeros(0), *logits]),
        row_offsets=np.append(0, np.cumsum(counts)).astype(np.int64),
        place=place[keep],
        slot=slot[keep],
    )
    return slates, np.concatenate([np.zeros(0), *values]), keep


def _spread(values: Array, kept: Array) -> Array:
    found = np.full(len(kept), np.nan)
    found[kept] = values
    return found

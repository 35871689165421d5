"""A log with a column of each policy's propensities: what `evaluation.replay.replay` compares."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from evaluation.metrics.rows import Array
from evaluation.replay.log_table import LogColumns
from evaluation.replay.policies.slates import LoggedSlates
from features.errors import ClickmillError, InputError
from serving.offline.in_order import in_order
from serving.offline.replay.log_files import RawLogs, RequestBatch, impressions_of
from serving.offline.replay.scorers import ScoredRequest, Scorer
from serving.offline.replay.sources import PolicySource
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
    joined = pa.concat_tables(tables)
    return Impressions(joined, _named(columns, sources, joined))


_ROW = "_request_row"


def _first_slots(requests: pa.Table, columns: LogColumns) -> pa.Table:
    """The impressions of the slots that are read, with the place of each row's request in the batch."""
    row = np.repeat(np.arange(len(requests)), candidate_counts(requests))
    table = impressions_of(requests).append_column(_ROW, pa.array(row))
    if columns.slots is None or columns.slot is None:
        return table
    return table.filter(pa.array(~(_numbers(table, columns.slot) >= columns.slots)))  # a missing one is a fault


def _numbers(table: pa.Table, name: str) -> Array:
    """[N] doubles, NaN of nulls."""
    return np.asarray(table[name].cast(pa.float64()).to_numpy())


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

    def columns_of(self, batch: RequestBatch, read: dict[str, pa.Table], table: pa.Table) -> dict[str, Array]:
        """The policy's columns of the impressions, NaN where the model failed."""
        assert self.source.scorer is not None and self.source.policy is not None
        requests = batch.with_windows(self.source.scorer.history, read)
        rows = [requests.slice(at, 1) for at in range(len(requests))]
        scored = list(in_order(_Tried(self.source.scorer), rows))
        if not self.exclude:
            self._refuse(scored, requests)
        row = table[_ROW].to_numpy()
        place = self._of_rows(row, [each.place if isinstance(each, ScoredRequest) else None for each in scored], -1)
        q_logged = self._of_rows(
            row, [each.q_logged if isinstance(each, ScoredRequest) else None for each in scored], np.nan
        )
        slot = np.zeros(len(row), np.int64)
        if self.columns.slot is not None:
            slot = np.nan_to_num(_numbers(table, self.columns.slot)).astype(np.int64)
        policy, done = self.source.policy, np.array([isinstance(each, ScoredRequest) for each in scored], bool)[row]
        slates, values = _slates(scored, row, place, slot, done)
        found = {MARGINAL: _spread(policy.marginals(slates), done), Q_LOGGED: q_logged}
        found[Q_EXPECTED] = _spread(policy.expected(slates, values), done)
        if self.columns.whole_lists:
            whole = done & _whole(row, slot)
            found[CONDITIONAL] = _spread(policy.conditionals(_slates(scored, row, place, slot, whole)[0]), whole)
        return found

    def _refuse(self, scored: list[ScoredRequest | Exception], requests: pa.Table) -> None:
        for at, each in enumerate(scored):
            if isinstance(each, Exception):
                key = requests[self.columns.request][at].as_py()
                raise InputError(
                    f"policy `{self.name}` ({self.source.text}) fails on request {key!r}: {_said(each)} Mend the "
                    "log, or leave such requests out with `exclude`."
                ) from each

    @staticmethod
    def _of_rows(row: Array, values: list[Array | None], missing: float) -> Array:
        """What requests say of their logged items, of the rows that are read: the first ones of each request."""
        found = np.full(len(row), missing)
        starts = np.searchsorted(row, np.arange(len(values) + 1))
        for each, begin, end in zip(values, starts, starts[1:], strict=False):
            if each is not None:
                found[begin:end] = each[: end - begin]
        return found


class _Tried:
    """A scorer that returns what keeps it from a request."""

    def __init__(self, scorer: Scorer):
        self._scorer = scorer

    def __call__(self, row: pa.Table) -> ScoredRequest | Exception:
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
    scored: list[ScoredRequest | Exception], row: Array, place: Array, slot: Array, keep: Array
) -> tuple[LoggedSlates, Array]:
    """The requests of kept impressions, and their candidates' probabilities [C]."""
    requests, counts = np.unique(row[keep], return_counts=True)
    chosen = [each for each in (scored[at] for at in requests) if isinstance(each, ScoredRequest)]
    slates = LoggedSlates(
        offsets=np.append(0, np.cumsum([len(each.logits) for each in chosen])).astype(np.int64),
        logits=np.concatenate([np.zeros(0), *(each.logits for each in chosen)]),
        row_offsets=np.append(0, np.cumsum(counts)).astype(np.int64),
        place=place[keep].astype(np.int64),
        slot=slot[keep],
    )
    return slates, np.concatenate([np.zeros(0), *(each.probability for each in chosen)])


def _spread(values: Array, kept: Array) -> Array:
    found = np.full(len(kept), np.nan)
    found[kept] = values
    return found

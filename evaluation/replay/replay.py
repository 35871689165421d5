"""Replay of a log as a table: what two policies would have earned, and which of them is better."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import pyarrow as pa

from evaluation.replay.log_table import LogColumns, logged_from_table
from evaluation.replay.verdicts.looks import read_looks
from evaluation.replay.verdicts.replay_report import ReplayPlan, ReplayReport, ReplaySums, report_of
from features import storage
from features.config import parse_model
from features.errors import InputError


def replay(
    table: pa.Table,
    columns: LogColumns,
    plan: ReplayPlan | None = None,
    *,
    exclude: bool = False,
    items: Collection[object] | None = None,
    looks: storage.AnyPath | None = None,
    **settings: Any,
) -> ReplayReport:
    """Compares two policies on a log.

    Example:
      columns = LogColumns(policies={"candidate": "p_new", "baseline": "propensity"}, reward="click")
      found = replay(table, columns, estimators=("snips", "dr"), interval="sequence", planned=1e6)
      print(found.outcome, found.comparisons[0].difference)

    Args:
      table: the log, a row an impression, with a column of each policy's propensities.
      columns: which of its columns say what.
      plan: how the policies are compared.
      exclude, items: as of `logged_from_table`.
      looks: file of the comparison's looks, which this one is counted in before anything is returned
        (`evaluation.replay.verdicts.looks`); None: looks are the caller's to count.
      settings: of a `ReplayPlan`, by name, in place of `plan`.

    Raises:
      InputError: for a log or a plan that cannot be used, or an estimator that needs what the log does not have.
      LookError: for a look that the plan does not have.
    """
    if plan is not None and settings:
        raise InputError(f"give a `plan`, or its settings by name. Received both, with `{next(iter(settings))}`.")
    plan = plan or parse_model(settings, ReplayPlan, "replay")
    logged = logged_from_table(table, columns, items, exclude)
    if not len(logged):
        told = ", ".join(f"{rows} rows: {fault}" for fault, rows in logged.excluded.items())
        raise InputError(f"the log holds no request that can be used{f' ({told})' if told else ''}.")
    found = ReplaySums.of(logged, plan)
    report = report_of(found, plan)
    if looks is not None:
        tier = plan.tier()
        read_looks(looks, tier).take(found.sums, tier).write(looks)
    return report

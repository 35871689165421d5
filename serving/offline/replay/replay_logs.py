"""Replays logs: opens what the policies are made of, scores what must be scored, and compares."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from evaluation.replay.log_table import LogColumns
from evaluation.replay.policies.registry import make_policy
from evaluation.replay.replay import replay
from evaluation.replay.verdicts.replay_report import ReplayPlan, ReplayReport
from features import storage
from features.errors import InputError
from serving.offline.replay.log_files import RawLogs, find_raw_logs, read_impressions
from serving.offline.replay.policy_columns import Impressions, score_logs, with_columns
from serving.offline.replay.sources import LOGGED, PolicySource, check_catalogues, open_source, reads_models

Progress = Callable[[int, int], None]
"""Called with the requests done and how many there are."""


@dataclass(frozen=True)
class ReplayPolicies:
    """What two policies are made of.

    Attributes:
      candidate, baseline: as `serving.offline.replay.sources.open_source` reads them.
      policy: how the candidate makes a list of what its model scores (`evaluation.replay.policies.registry`).
      baseline_policy: the baseline's; None: the same.
      root: the serving root of releases.
    """

    candidate: str
    baseline: str = LOGGED
    policy: str = "top"
    baseline_policy: str | None = None
    root: storage.AnyPath = "serving_models"


def replay_logs(
    logs: Sequence[str],
    policies: ReplayPolicies,
    columns: LogColumns,
    plan: ReplayPlan | None = None,
    *,
    split: str = "test",
    behaviors: storage.AnyPath | None = None,
    exclude: bool = False,
    looks: storage.AnyPath | None = None,
    progress: Progress | None = None,
) -> ReplayReport:
    """Compares two policies on logs.

    Args:
      logs: a run's folder or raw examples, which models can score; or tables of impressions, with a column of each
        policy.
      policies: what is compared.
      columns: of the log; those of policies are filled here. No more slots are read than both policies fill.
      plan: how they are compared; its policies are named `candidate` and `baseline`, or as it says.
      split, behaviors: of raw examples (`serving.offline.replay.log_files.find_raw_logs`).
      exclude, looks: as of `evaluation.replay.replay.replay`.
      progress: of the scoring.

    Raises:
      InputError: for logs, policies or a plan that cannot be used; a request that a model fails on; an item that a
        catalogue does not hold, and policies of different catalogues, unless such requests are left out by `exclude`.
      NotFoundError: for logs, releases or models that are not there.
      LookError: for a look that the plan does not have.
    """
    plan = plan or ReplayPlan()
    raw = find_raw_logs(logs[0], split, behaviors) if len(logs) == 1 else None
    if raw is None:
        for text in (policies.candidate, policies.baseline):
            if reads_models(text):
                raise InputError(_no_requests(logs, text))
    texts = {plan.candidate: policies.candidate, plan.baseline: policies.baseline}
    made = {plan.candidate: policies.policy, plan.baseline: policies.baseline_policy or policies.policy}
    sources = {
        name: open_source(text, make_policy(made[name]), policies.root, columns.propensity)
        for name, text in texts.items()
    }
    items = check_catalogues(sources, exclude)
    if raw is not None:
        columns = replace(columns, item=columns.item or "item_id", time=columns.time or "timestamp")
    filled = [source.scorer.slots for source in sources.values() if source.scorer and source.scorer.slots]
    columns = replace(columns, slots=min([*filled, *([columns.slots] if columns.slots else [])], default=None))
    if raw is None:
        found = with_columns(read_impressions(logs), sources, columns)
    else:
        found = _scored(raw, sources, columns, exclude, progress)
    described = {name: source.described for name, source in sources.items()} | plan.described
    return replay(
        found.table,
        found.columns,
        plan.model_copy(update={"described": described}),
        exclude=exclude,
        items=items,
        looks=looks,
    )


def parse_reward(text: str) -> str | dict[str, float]:
    """Reads a reward: a column, or a sum of columns with factors such as `click + 5 * order`.

    Raises:
      InputError: for what is neither.
    """
    found: dict[str, float] = {}
    for term in text.split("+"):
        factor, star, name = term.rpartition("*")
        try:
            number = float(factor) if star else 1.0
        except ValueError:
            number = float("nan")
        if not re.fullmatch(r"\s*\w[\w.]*\s*", name) or number != number:
            raise InputError(f"a reward is a column, or a sum such as `click + 5 * order`. Received: {text!r}.")
        found[name.strip()] = found.get(name.strip(), 0.0) + number
    only = next(iter(found))
    return only if found == {only: 1.0} else found


def _scored(
    raw: RawLogs, sources: Mapping[str, PolicySource], columns: LogColumns, exclude: bool, progress: Progress | None
) -> Impressions:
    total = raw.num_requests
    told = None if progress is None else lambda done: progress(done, total)
    return score_logs(raw, sources, columns, exclude=exclude, progress=told)


def _no_requests(logs: Sequence[str], text: str) -> str:
    return (
        f"{text} scores requests, and {logs[0]} holds none: give the folder of a run or of its raw examples by --logs, "
        "or a policy that the table has a column of, as column:NAME."
    )

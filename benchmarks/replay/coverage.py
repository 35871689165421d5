"""How often the intervals of replay hold the truth, on logs whose truth is known, and what the diagnostics withhold.

Each scenario is a world of `benchmarks.replay.worlds`, and each seed a log of it. `by row` is the linearised interval
that takes rows for independent, which is what is wrong where users come again. Open Bandit Pipeline's and SCOPE-RL's
intervals of the same logs stand beside (`--rivals-python`), each in an environment of its own. Finished pieces are
kept: a run goes on where the last was stopped.
"""

from __future__ import annotations

import subprocess
import tempfile
from dataclasses import asdict
from pathlib import Path

import numpy as np

from benchmarks.records import Sweep
from benchmarks.replay.worlds import SCENARIOS, Draw, Scenario, World
from benchmarks.throughput import environments
from evaluation.replay.diagnostics.diagnostic import Evidence
from evaluation.replay.diagnostics.registry import diagnose
from evaluation.replay.estimators.registry import make_estimator
from evaluation.replay.intervals.cressie_read import CressieRead
from evaluation.replay.intervals.interval import Interval
from evaluation.replay.intervals.linearised import Linearised
from evaluation.replay.logged import LoggedRewards
from evaluation.replay.sums import UserSums
from evaluation.results import Estimate

OPTIONS = {
    "seeds": (2000, "logs of each scenario"),
    "rivals_seeds": (1000, "of them that the rivals get"),
    "rivals_python": ("python3.10", "3.10, of the rivals' environments; empty: without their columns"),
}
PIECE = 250
RESAMPLES = 300
"""Of the rivals' bootstraps; their default of 10,000 (100 of SCOPE-RL) would take hours."""

RIVALS = Path(__file__).parent / "rivals"
COLUMNS: dict[str, tuple[str, type[Interval], bool]] = {
    "ips": ("ips", Linearised, False),
    "snips": ("snips", Linearised, False),
    "snips by row": ("snips", Linearised, True),
    "cressie_read": ("ips", CressieRead, False),
}
"""Column → estimator, tier, whether rows are taken for users."""


def run(options) -> dict:
    """Measures all scenarios, piece by piece."""
    sweep, found = Sweep("coverage"), {}
    for name, scenario in SCENARIOS.items():
        pieces = []
        for first in range(0, options.seeds, PIECE):
            logs = range(first, min(first + PIECE, options.seeds))
            wanted = {"scenario": name, "world": asdict(scenario), "logs": [logs.start, logs.stop]}
            if sweep.find(wanted) is None:
                rivals = options.rivals_python if first < options.rivals_seeds else ""
                sweep.add(wanted, {**wanted, **piece(scenario, logs, rivals)})
                print(name, logs.stop, flush=True)
            pieces.append(sweep.find(wanted))
        found[name] = summed(pieces)
    rivals = {"seeds": options.rivals_seeds, "resamples": RESAMPLES} if options.rivals_python else {}
    return {"seeds": options.seeds, "rivals": rivals, "coverage": found}


def figures(record: dict) -> list[tuple[str, str]]:
    """Coverage by scenario."""
    rows = []
    for name, found in record["coverage"].items():
        ours = {column: share for column, share in found["covers"].items() if not _is_rivals(column)}
        theirs = {column: share for column, share in found["covers"].items() if _is_rivals(column)}
        shown = f"cover {_shares(ours)}; withheld {100 * found['withheld']:.0f} %"
        rows.append((f"replay intervals at 95 %, {name}", shown))
        if theirs:
            rows.append((f"rivals' intervals at 95 % of the same logs, {name}", f"cover {_shares(theirs)}"))
    return rows


def coverage(scenario: Scenario, seeds: int) -> dict:
    """As the record of one scenario, of our columns alone."""
    return summed([piece(scenario, range(seeds), "")])


def piece(scenario: Scenario, seeds: range, rivals_python: str) -> dict:
    """Counts of the logs of some seeds: how often each column's interval holds the candidate's truth, and the paired
    one the difference's; sums of widths."""
    world = World(scenario)
    draws = [world.draw(seed) for seed in seeds]
    ends: dict[str, list] = {column: [] for column in (*COLUMNS, "paired")}
    withheld = 0
    for draw in draws:
        found, refused = intervals(world.logged(draw), scenario.rows_a_user > 1)
        withheld += refused
        for column, each in found.items():
            ends[column].append([each.low, each.high])
    by_column = {column: np.array(each, np.float64) for column, each in ends.items()}
    if rivals_python:
        by_column |= rivals_intervals(world, draws, rivals_python)
    truth = dict.fromkeys(by_column, world.truth["candidate"])
    truth["paired"] -= world.truth["baseline"]
    return {
        "count": len(draws),
        "withheld": withheld,
        "held": {c: int(((e[:, 0] <= truth[c]) & (truth[c] <= e[:, 1])).sum()) for c, e in by_column.items()},
        "wide": {c: float((e[:, 1] - e[:, 0]).sum()) for c, e in by_column.items()},
    }


def intervals(log: LoggedRewards, returning: bool) -> tuple[dict[str, Estimate], bool]:
    """The interval of each column of a log, and whether a verdict on the candidate is withheld."""
    by_user = UserSums.of(log)
    by_row = UserSums.of(_rows_as_users(log)) if returning else by_user
    found = {}
    for column, (name, tier, rows) in COLUMNS.items():
        found[column] = tier().of(make_estimator(name), (by_row if rows else by_user).policy("candidate"))
    snips, candidate = make_estimator("snips"), by_user.policy("candidate")
    found["paired"] = Linearised().difference(snips, candidate, by_user.policy("baseline"))
    return found, not all(each.passed for each in diagnose(Evidence(candidate, snips)))


def rivals_intervals(world: World, draws: list[Draw], interpreter: str) -> dict[str, np.ndarray]:
    """The ends [K, 2] of each of the rivals' columns."""
    columns = {name: np.array([getattr(draw, name) for draw in draws]) for name in ("context", "action", "reward")}
    columns["propensity"] = world.logger[columns["context"], columns["action"]]
    found: dict[str, np.ndarray] = {}
    with tempfile.TemporaryDirectory() as work:
        logs, answer = f"{work}/logs.npz", f"{work}/found.npz"
        np.savez(logs, policy=world.policy[0], **columns)
        for python, script in (
            (environments.open_bandit(interpreter), "obp_intervals.py"),
            (environments.scope_rl(interpreter), "scope_intervals.py"),
        ):
            subprocess.run([str(python), "-W", "ignore", RIVALS / script, logs, answer, str(RESAMPLES)], check=True)
            found |= dict(np.load(answer))
    return found


def summed(pieces: list[dict]) -> dict:
    """Shares and mean widths of all pieces' logs."""

    def share(what: str, column: str) -> float:
        having = [each for each in pieces if column in each[what]]
        return sum(each[what][column] for each in having) / sum(each["count"] for each in having)

    return {
        "covers": {column: share("held", column) for column in pieces[0]["held"]},
        "width": {column: share("wide", column) for column in pieces[0]["wide"]},
        "withheld": sum(each["withheld"] for each in pieces) / sum(each["count"] for each in pieces),
    }


def _is_rivals(column: str) -> bool:
    return column.startswith(("obp ", "scope "))


def _shares(found: dict[str, float]) -> str:
    return ", ".join(f"{column} {100 * share:.1f}" for column, share in found.items())


def _rows_as_users(log: LoggedRewards) -> LoggedRewards:
    return LoggedRewards(log.request, log.request, log.slot, log.reward, log.propensity, log.weights)

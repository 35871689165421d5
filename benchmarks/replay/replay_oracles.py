"""Replay's estimates beside Open Bandit Pipeline's and vw-estimators', on the Open Bandit Dataset's sample.

Both packages run in an environment of their own, which this benchmark makes (Python 3.10, with PyTorch, 2 GB). The
sample is the one that obp 0.5.7 brings along: three campaigns, each logged by uniform draws and by Thompson sampling,
10,000 impressions each, with policies and a model drawn by a fixed seed. It has no slates; those are drawn.
vw-estimators' Cressie-Read estimate and interval are ours; Open Bandit Pipeline's intervals are not, by intent, and
stand beside ours: `coverage` says whose hold the truth. The diagnostics say which of the six logs a verdict may rest
on.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
from pathlib import Path

import numpy as np

from benchmarks.throughput import environments

WORKER = Path(__file__).parent / "rivals" / "obp_estimates.py"
POLICY = "policy"
#: Largest difference, relative to values above 1, that counts as equal.
TOLERANCE = 1e-9
OPTIONS = {"rivals_python": ("python3.10", "3.10, of the rivals' environment")}


def impressions(log: dict, target: str):
    """The sample as logged rewards: each row a user and a request of its own, as the sample has neither."""
    from evaluation.replay.logged import LoggedRewards
    from evaluation.replay.weights import cluster_weights

    action, position, rows = log["action"], log["position"], np.arange(len(log["action"]))
    items = len(log["cluster"])
    request, item = np.repeat(rows, items), np.tile(np.arange(items), len(rows))
    at = item, np.repeat(position, items)
    shown = item == np.repeat(action, items)
    clustered = cluster_weights(request, log["cluster"][item], shown, log[target][at], log["uniform"][at])
    expected = (log[target] * log["model"]).sum(axis=0)[position] + log["context"]
    return LoggedRewards(
        user=rows,
        request=rows,
        slot=position,
        reward=log["reward"],
        propensity=log["propensity"],
        weights={POLICY: log[target][action, position] / log["propensity"]},
        q_logged={POLICY: log["model"][action, position] + log["context"]},
        q_expected={POLICY: expected},
        cluster_weights={POLICY: clustered},
        balanced_weights={POLICY: log["balanced"]},
    )


def slates(log: dict):
    """The drawn slates as logged rewards."""
    from evaluation.replay.logged import LoggedRewards

    return LoggedRewards(
        user=log["slate"],
        request=log["slate"],
        slot=log["position"],
        reward=log["reward"],
        propensity=log["propensity"],
        weights={POLICY: log["new"] / log["propensity"]},
        q_logged={POLICY: log["model"][np.arange(len(log["action"])), log["action"]]},
        q_expected={POLICY: (log["model"] * log["new_dist"]).sum(axis=1)},
        cascade_weights={POLICY: log["down_new"] / log["down"]},
    )


def compare(log: dict, theirs: dict[str, float]) -> dict[str, list[float]]:
    """Ours, theirs and the difference, by the rival's estimator."""
    from evaluation.replay.estimators.registry import make_estimator
    from evaluation.replay.intervals.cressie_read import CressieRead
    from evaluation.replay.sums import UserSums

    found = {}
    for name, value in theirs.items():
        wanted = name.split(" ")[1]
        estimator = make_estimator("ips" if wanted == "cressie_read" else wanted)
        rows = slates(log) if "slate" in log else impressions(log, "sure" if estimator.name == "replay" else "soft")
        sums = UserSums.of(rows, [estimator]).policy(POLICY)
        ours = CressieRead().of(estimator, sums).value if wanted == "cressie_read" else estimator.estimate(sums)
        if np.isnan(ours) and estimator.name == "replay" and value == 0:
            ours = 0.0  # no row to go by: theirs says 0, ours that there is no estimate
        found[name] = [ours, value, _apart(ours, value)]
    return found


def compare_intervals(log: dict, theirs: dict[str, list[float]]) -> dict[str, list]:
    """Intervals at 95 %: vw-estimators' Cressie-Read and ours, Open Bandit Pipeline's and our linearised ones."""
    from evaluation.replay.estimators.registry import make_estimator
    from evaluation.replay.intervals.registry import INTERVALS
    from evaluation.replay.sums import UserSums

    sums, found = UserSums.of(impressions(log, "soft")).policy(POLICY), {}
    for name, tier, estimator in (
        ("vw cressie_read", "cressie_read", "ips"),
        ("obp ips", "linearised", "ips"),
        ("obp snips", "linearised", "snips"),
    ):
        ours = INTERVALS[tier]().of(make_estimator(estimator), sums)
        found[name] = [[ours.low, ours.high], theirs[f"{name} interval"]]
    return found


def withheld(log: dict) -> list[str]:
    """The diagnostics that refuse a verdict on the drawn policy by SNIPS."""
    from evaluation.replay.diagnostics.diagnostic import Evidence
    from evaluation.replay.diagnostics.registry import diagnose
    from evaluation.replay.diagnostics.strata import StrataSums
    from evaluation.replay.estimators.registry import make_estimator
    from evaluation.replay.sums import UserSums

    rows = impressions(log, "soft")
    strata = {"slot": StrataSums.of(rows, rows.slot, np.full(len(rows), len(log["cluster"])))}
    evidence = Evidence(UserSums.of(rows).policy(POLICY), make_estimator("snips"), strata)
    return [each.name for each in diagnose(evidence) if not each.passed]


def judge(folder: Path) -> dict:
    """The record of what the worker left in a folder; a difference over the tolerance is an error."""
    theirs = json.loads((folder / "estimates.json").read_text())
    logs = {name: dict(np.load(folder / f"{name.replace('/', '_')}.npz")) for name in theirs}
    values = {name: {k: v for k, v in theirs[name].items() if isinstance(v, float)} for name in theirs}
    found = {name: compare(logs[name], values[name]) for name in theirs}
    sample = [name for name in theirs if name != "slates"]
    intervals = {name: compare_intervals(logs[name], theirs[name]) for name in sample}
    worst = {name: max(row[2] for row in rows.values()) for name, rows in found.items()}
    ends = max(_apart(*pair) for each in intervals.values() for pair in zip(*each["vw cressie_read"], strict=True))
    if not max(*worst.values(), ends) <= TOLERANCE:
        raise AssertionError(f"estimates differ by more than {TOLERANCE}: {found} {intervals}")
    return {
        "tolerance": TOLERANCE,
        "rows": {name: len(log["reward"]) for name, log in logs.items()},
        "estimators": {name: len(rows) for name, rows in found.items()},
        "largest_difference": worst,
        "cressie_read_ends": ends,
        "intervals": intervals,
        "withheld": {name: withheld(logs[name]) for name in sample},
        "estimates": {name: {each: row[0] for each, row in rows.items()} for name, rows in found.items()},
    }


def _apart(ours: float, theirs: float) -> float:
    return abs(ours - theirs) / max(1.0, abs(theirs))


def run(options) -> dict:
    """Makes the environment, runs the two packages in it, and compares all estimators on all logs."""
    python = environments.open_bandit(options.rivals_python)
    options.work.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=options.work) as work:
        subprocess.run([str(python), str(WORKER), work], check=True)
        return judge(Path(work))


def figures(found: dict) -> list[tuple[str, str]]:
    worst, counts = max(found["largest_difference"].values()), found["estimators"]
    sample = max(count for name, count in counts.items() if name != "slates")
    what = (
        f"replay beside Open Bandit Pipeline and vw-estimators, {sample} estimators on {len(counts) - 1} logs of the "
        f"Open Bandit Dataset's sample, {counts['slates']} on slates"
    )
    rows = [(what, f"largest difference {worst:.1e}")]
    rows.append(("Cressie-Read intervals beside vw-estimators' on the six logs", f"{found['cressie_read_ends']:.1e}"))
    for name in ("obp ips", "obp snips"):
        ratios = [
            _width(theirs) / _width(ours) for ours, theirs in (each[name] for each in found["intervals"].values())
        ]
        rows.append(
            (f"width of {name}'s interval over ours on the six logs", f"{min(ratios):.2f} to {max(ratios):.2f}")
        )
    refused = ", ".join(f"{name} ({' and '.join(why)})" for name, why in found["withheld"].items() if why)
    return [*rows, ("of the six logs, those on which a verdict on the drawn policy is withheld", refused or "none")]


def _width(ends: list[float]) -> float:
    return ends[1] - ends[0]

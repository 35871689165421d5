"""Whether each estimator's mean error is 0 where its assumptions hold, on simulated logs of lists whose truth is known.

Worlds (`benchmarks.replay.list_worlds`) hold what an estimator assumes and no more: users who read each slot by itself,
downwards or as a whole, loggers that fill slots independently or one after the other, items of a cluster that earn
alike. Errors are counted in standard errors of their mean over the logs. Beside them: DR and IPS by a good and by a bad
model.
"""

from __future__ import annotations

import numpy as np

from benchmarks.records import Sweep
from benchmarks.replay import list_worlds
from benchmarks.replay.list_worlds import CONTEXTS, ITEMS, POLICY, SLOTS, ListWorld
from evaluation.replay.estimators.estimator import Estimator
from evaluation.replay.estimators.registry import make_estimator
from evaluation.replay.sums import UserSums

OPTIONS = {"seeds": (500, "logs of each world")}
PIECE = 50
IMPRESSION = (
    "ips", "snips", "clipped_ips@1000", "sub_gaussian_ips@0", "balanced_ips", "dm", "dr", "sndr", "switch_dr@1000",
    "shrunk_dr@1e12", "clipped_dr@1000", "sub_gaussian_dr@0",
)  # fmt: skip
#: What is assumed → estimators that need no more, with λ such that nothing is cut.
ESTIMATORS = {
    "by slot, one after the other": (*IMPRESSION, "iips", "sniips", "pbm", "interpol"),
    "items of a cluster alike": ("mips", "snmips"),
    "by slot, independently": ("pi", "pi_cv"),
    "downwards": ("rips", "snrips", "cascade_dr"),
    "as a whole": ("sips", "snsips"),
    "mixed": ("adaptive",),
    "sure policy, uniform logger": ("replay",),
    "bad model": ("ips", "dr", "sndr"),
}


def worlds() -> dict[str, ListWorld]:
    """Assumption → world."""
    plain, rng = list_worlds.make(), np.random.default_rng(1)
    uniform = list_worlds.filled(plain.lists, np.ones((CONTEXTS, ITEMS)), False)
    sure = np.zeros_like(uniform)
    sure[np.arange(CONTEXTS), rng.integers(0, len(plain.lists), CONTEXTS)] = 1
    return {
        "by slot, one after the other": plain,
        "items of a cluster alike": list_worlds.make(clustered=True),
        "by slot, independently": list_worlds.make(repeats=True),
        "downwards": list_worlds.make(behavior="cascade", conditional=True),
        "as a whole": list_worlds.make(behavior="standard"),
        "mixed": list_worlds.make(behavior="mixed"),
        "sure policy, uniform logger": list_worlds.make(logger=uniform, policy=sure),
        "bad model": list_worlds.make(model=rng.uniform(0, 1, (CONTEXTS, ITEMS, SLOTS))),
    }


def run(options) -> dict:
    """Estimates all logs, piece by piece; finished pieces are kept."""
    sweep, found = Sweep("replay_bias"), {}
    for number, (name, world) in enumerate(worlds().items(), 1):
        # Seeds of its own: with common ones, all worlds would share the luck of who came.
        estimates, begin = [], number * 10_000
        for first in range(begin, begin + options.seeds, PIECE):
            logs = range(first, min(first + PIECE, begin + options.seeds))
            wanted = {"world": name, "estimators": list(ESTIMATORS[name]), "logs": [logs.start, logs.stop]}
            if sweep.find(wanted) is None:
                sweep.add(wanted, {**wanted, "estimates": estimate(world, ESTIMATORS[name], logs)})
                print(name, logs.stop, flush=True)
            estimates += sweep.find(wanted)["estimates"]
        found[name] = judge(world, ESTIMATORS[name], np.array(estimates))
    return {"seeds": options.seeds, "requests": 4000, "worlds": found}


def figures(record: dict) -> list[tuple[str, str]]:
    """The largest mean error in standard errors, and what a model does to the variance."""
    found = record["worlds"]
    errors = {f"{e} ({w})": each["errors"] for w, rows in found.items() for e, each in rows.items()}
    worst = max(errors, key=lambda name: abs(errors[name]))
    over = sum(abs(each) > 2 for each in errors.values())
    good, bad = found["by slot, one after the other"], found["bad model"]
    return [
        (
            f"replay's mean error over {record['seeds']} logs where assumptions hold, {len(errors)} cases",
            f"{over} above 2 standard errors (by chance {0.0455 * len(errors):.1f}); "
            f"the largest {errors[worst]:.2f}, {worst}",
        ),
        ("DR's variance over IPS's, good model", f"{(good['dr']['deviation'] / good['ips']['deviation']) ** 2:.2f}"),
        ("DR's mean error by a bad model, in standard errors", f"{bad['dr']['errors']:.2f}"),
    ]


def estimate(world: ListWorld, names: tuple[str, ...], logs: range) -> list[list[float]]:
    """[logs, estimators] the estimates."""
    estimators, found = [make_estimator(name) for name in names], []
    for seed in logs:
        sums = UserSums.of(world.draw(seed), estimators).policy(POLICY)
        found.append([each.estimate(sums) for each in estimators])
    return found


def judge(world: ListWorld, names: tuple[str, ...], estimates: np.ndarray) -> dict[str, dict[str, float]]:
    """By estimator: the truth, the mean estimate, its deviation, and the mean error in standard errors."""
    found = {}
    for name, column in zip(names, estimates.T, strict=True):
        truth, deviation = _truth(world, make_estimator(name)), float(column.std(ddof=1))
        errors = (float(column.mean()) - truth) / (deviation / np.sqrt(len(column)))
        found[name] = {"truth": truth, "mean": float(column.mean()), "deviation": deviation, "errors": float(errors)}
    return found


def _truth(world: ListWorld, estimator: Estimator) -> float:
    return world.truth / (SLOTS if estimator.unit == "impression" else 1)

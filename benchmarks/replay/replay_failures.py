"""Each estimator where it is known to fail: how far off it is, how often its interval holds, what withholds it.

Four failures, on lists of known truth (`benchmarks.replay.list_worlds`):

    no overlap           the logger never shows a third of the items, the policy does
    wrong propensities   the log says that the logger drew uniformly; it did not
    position ignored     weights leave the slot out: how likely the item is shown anywhere, policy over logger
    changed logger       in half of the days another logger served, and the log has the first one's propensities

Each log is replayed by each estimator as if nothing were wrong.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace

import numpy as np

from benchmarks.records import Sweep
from benchmarks.replay import list_worlds
from benchmarks.replay.list_worlds import CONTEXTS, ITEMS, POLICY, SLOTS, ListWorld
from evaluation.replay.diagnostics.diagnostic import Evidence
from evaluation.replay.diagnostics.registry import diagnose
from evaluation.replay.diagnostics.strata import StrataSums
from evaluation.replay.estimators.registry import make_estimator
from evaluation.replay.intervals.linearised import Linearised
from evaluation.replay.logged import LoggedRewards
from evaluation.replay.sums import UserSums

OPTIONS = {"seeds": (200, "logs of each failure")}
PIECE = 50
DAYS = 6
IMPRESSION = ("ips", "snips", "clipped_ips", "sub_gaussian_ips", "dr", "sndr", "switch_dr", "shrunk_dr")
LISTS = ("iips", "sniips", "rips", "snrips", "sips", "snsips", "cascade_dr", "pi", "pi_cv", "adaptive")
#: Failure → the estimators that it misleads.
ESTIMATORS = {
    "no overlap": (*IMPRESSION, *LISTS),
    "wrong propensities": (*IMPRESSION, *LISTS, "mips", "snmips"),
    "position ignored": (*IMPRESSION, "iips", "sniips", "pi", "pi_cv"),
    "changed logger": (*IMPRESSION, *LISTS, "mips", "snmips"),
}


@dataclass(frozen=True)
class Failing:
    """A world, and the one that serves from the middle of the log on, where that is another."""

    first: ListWorld
    second: ListWorld | None = None

    def draw(self, seed: int) -> tuple[LoggedRewards, np.ndarray]:
        """A log and the day [N] of each row."""
        if self.second is None:
            log = self.first.draw(seed)
            return log, log.request * DAYS // (log.request[-1] + 1)
        parts = [self.first.draw(seed, 2000), self.second.draw(seed + 10**6, 2000)]
        log = _joined(*parts)
        return log, log.request * DAYS // (log.request[-1] + 1)


def failures() -> dict[str, Failing]:
    """Name → world; models are wrong, too, since DR is right where either is: half of a model is noise."""
    rng, plain = np.random.default_rng(4), list_worlds.make()
    bad = {"model": (plain.model + rng.uniform(0, 1, (CONTEXTS, ITEMS, SLOTS))) / 2}
    quality = plain.model[:, :, 0]
    hidden = quality.argsort(axis=1).argsort(axis=1) >= ITEMS - 2  # the best two of each context
    shown = list_worlds.filled(plain.lists, rng.uniform(0.5, 2, quality.shape) * ~hidden, False)
    uniform = list_worlds.filled(plain.lists, np.ones_like(quality), False)
    before = list_worlds.make(behavior="cascade", **bad)
    after = list_worlds.make(behavior="cascade", favour=(3, 0), said=before.logger, **bad)
    return {
        "no overlap": Failing(list_worlds.make(logger=shown, **bad)),
        "wrong propensities": Failing(list_worlds.make(favour=(2, 0), said=uniform, **bad)),
        "position ignored": Failing(list_worlds.make(favour=(-4, 4), blind=True, **bad)),
        "changed logger": Failing(before, after),
    }


def run(options) -> dict:
    """Replays all failures, piece by piece; finished pieces are kept."""
    sweep, found = Sweep("replay_failures"), {}
    for name, failing in failures().items():
        pieces = []
        for first in range(0, options.seeds, PIECE):
            logs = range(first, min(first + PIECE, options.seeds))
            wanted = {"failure": name, "estimators": list(ESTIMATORS[name]), "logs": [logs.start, logs.stop]}
            if sweep.find(wanted) is None:
                sweep.add(wanted, {**wanted, "found": replayed(failing, ESTIMATORS[name], logs)})
                print(name, logs.stop, flush=True)
            pieces.append(sweep.find(wanted)["found"])
        found[name] = {each: summed([piece[each] for piece in pieces]) for each in ESTIMATORS[name]}
    return {"seeds": options.seeds, "requests": 4000, "failures": found}


def figures(record: dict) -> list[tuple[str, str]]:
    """By failure: how often the intervals hold, and how often the verdict is withheld."""
    rows = []
    for name, found in record["failures"].items():
        held, refused = ([each[key] for each in found.values()] for key in ("covers", "withheld"))
        reasons = Counter(reason for each in found.values() for reason in each["reasons"])
        often = "all" if min(refused) == 1 else f"{100 * min(refused):.0f} % or more"
        why = " and ".join(reason for reason, _ in reasons.most_common(3))
        shown = (
            f"intervals at 95 % hold in {100 * min(held):.0f} to {100 * max(held):.0f} %, withheld in {often}, by {why}"
        )
        rows.append((f"replay where it fails: {name}, {len(found)} estimators", shown))
    return rows


def replayed(failing: Failing, names: tuple[str, ...], logs: range) -> dict[str, dict]:
    """Of each estimator over some logs: errors in half widths of its interval, how often it held, was withheld, why."""
    estimators = {name: make_estimator(name) for name in names}
    found = {name: {"count": 0, "held": 0, "withheld": 0, "error": 0.0, "reasons": Counter()} for name in names}
    for seed in logs:
        log, day = failing.draw(seed)
        strata = {"slot": StrataSums.of(log, log.slot, np.full(len(log), ITEMS)), "day": StrataSums.of(log, day)}
        sums = UserSums.of(log, estimators.values()).policy(POLICY)
        for name, estimator in estimators.items():
            truth = failing.first.truth / (SLOTS if estimator.unit == "impression" else 1)
            ends, row = Linearised().of(estimator, sums), found[name]
            refused = [each.name for each in diagnose(Evidence(sums, estimator, strata)) if not each.passed]
            row["count"] += 1
            row["held"] += ends.low <= truth <= ends.high
            row["withheld"] += bool(refused)
            row["error"] += (ends.value - truth) / ((ends.high - ends.low) / 2)
            row["reasons"].update(refused)
    return found


def summed(pieces: list[dict]) -> dict:
    """Shares over all pieces; reasons are those of nine logs in ten, or else the most frequent."""
    count, reasons = sum(each["count"] for each in pieces), Counter()
    for each in pieces:
        reasons.update(each["reasons"])
    frequent = [name for name, times in reasons.most_common() if times >= 0.9 * count]
    return {
        "covers": sum(each["held"] for each in pieces) / count,
        "half_widths_off": sum(each["error"] for each in pieces) / count,
        "withheld": sum(each["withheld"] for each in pieces) / count,
        "reasons": frequent or [name for name, _ in reasons.most_common(1)],
    }


def _joined(first: LoggedRewards, second: LoggedRewards) -> LoggedRewards:
    """Both logs, one after the other, as users and requests of their own."""
    moved = int(first.request[-1]) + 1
    second = replace(second, user=second.user + moved, request=second.request + moved)
    changed: dict[str, object] = {}
    for each in fields(first):
        one, two = getattr(first, each.name), getattr(second, each.name)
        if isinstance(one, np.ndarray) and each.name != "examination":
            changed[each.name] = np.concatenate([one, two])
        elif isinstance(one, Mapping) and each.name.endswith(("weights", "q_logged", "q_expected", "placements")):
            changed[each.name] = {policy: np.concatenate([one[policy], two[policy]]) for policy in one}
    return replace(first, **changed)

"""What replay's verdicts say of effects that are known: none, two per cent, and a sweep of effects.

No effect, three times: a policy against itself; two policies of equal worth (like actions swapped); and thirty daily
looks at the latter, by users who return, with the confidence sequence and with the interval for one look. A planted
effect is replayed on logs of the size that `power_of` asks for on another log, and a sweep of effects on logs of one
size, beside the chance that `chance_of_verdict` gives.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np

from benchmarks.records import Sweep
from benchmarks.replay.worlds import Scenario, World
from evaluation.replay.diagnostics.diagnostic import Evidence
from evaluation.replay.diagnostics.registry import diagnose
from evaluation.replay.estimators.registry import make_estimator
from evaluation.replay.intervals.confidence_sequence import ConfidenceSequence
from evaluation.replay.intervals.interval import Interval, LinearInterval
from evaluation.replay.intervals.linearised import Linearised
from evaluation.replay.sums import UserSums
from evaluation.replay.verdicts.power import chance_of_verdict
from evaluation.replay.verdicts.verdict import PolicyComparison, compare
from evaluation.results import Estimate

OPTIONS = {
    "seeds": (2000, "logs of two policies of equal worth; half as many of a policy against itself"),
    "sequences": (1000, "of thirty daily looks"),
    "planted": (500, "logs of a planted +2 %"),
    "swept": (500, "logs of each effect of the sweep"),
}
DAYS, USERS = 30, 300
PIECE = 100
EQUAL = Scenario(rows=4000, rows_a_user=4, spread=0.5, near=0.3)
DAILY = Scenario(rows=DAYS * USERS, rows_a_user=DAYS, reward=0.1, spread=0.5, near=0.3, rate=1.0)
PLANTED = Scenario(rows=60_000, rows_a_user=4, spread=0.5, near=0.3)
LIFTS = (-0.04, -0.02, -0.01, 0.01, 0.02, 0.04)
SNIPS = make_estimator("snips")


def run(options) -> dict:
    """Measures all, piece by piece; finished pieces are kept."""
    record = {
        "seeds": options.seeds,
        "sequences": options.sequences,
        "planted_logs": options.planted,
        "swept_logs": options.swept,
    }
    record["itself"] = _shares(_counted("itself", against_itself, options.seeds // 2))
    record["equal"] = _shares(_counted("equal", equal_worth, options.seeds))
    looks = _counted("looks", replayed_looks, options.sequences)
    record["looks"] = {name: looks[name] / options.sequences for name in ("sequence", "linearised")}
    needed = rows_needed(0.02)
    found = _counted("promised", lambda logs: planted(0.02, logs, needed), options.planted)
    record["promised"] = {"lift": 0.02, "power": 0.8, "rows": needed, "found": found["better"] / options.planted}
    record["sweep"] = {}
    for lift in LIFTS:
        found = _counted(f"lift {lift:g}", lambda logs, lift=lift: planted(lift, logs), options.swept)
        shares = {name: found[name] / options.swept for name in ("better", "worse", "cannot_tell", "withheld")}
        record["sweep"][f"{lift:+.0%}"] = {"promised": promised(lift), **shares}
    return record


def figures(record: dict) -> list[tuple[str, str]]:
    """False verdicts, looks, and found effects beside what was promised."""
    equal, itself, looks, asked = (record[name] for name in ("equal", "itself", "looks", "promised"))
    sweep = ", ".join(
        f"{lift}: {100 * (row['worse'] if lift.startswith('-') else row['better']):.0f} ({100 * row['promised']:.0f})"
        for lift, row in record["sweep"].items()
    )
    wrong = max(row["better" if lift.startswith("-") else "worse"] for lift, row in record["sweep"].items())
    return [
        ("replay of a policy against itself", f"{100 * itself['false']:.1f} % better or worse"),
        ("replay of policies of equal worth", f"{100 * equal['false']:.1f} % better or worse, at a level of 5 %"),
        (
            "thirty daily looks at policies of equal worth, ever better or worse",
            f"confidence sequence {100 * looks['sequence']:.1f} %, "
            f"interval for one look {100 * looks['linearised']:.1f} %",
        ),
        (
            f"a planted +2 % on {asked['rows']:,} impressions, which a power of 80 % takes",
            f"found in {100 * asked['found']:.0f} %",
        ),
        (
            f"planted effects on {PLANTED.rows:,} impressions, found in % (promised)",
            f"{sweep}; the wrong way {100 * wrong:.1f}",
        ),
    ]


def against_itself(logs: range) -> Counter:
    """Verdicts on a policy and a copy of it."""
    world = World(EQUAL, equal=True)
    world.policy = np.stack([world.policy[0]] * 2)
    return Counter(_judged(world.log(seed)).outcome for seed in logs)


def equal_worth(logs: range) -> Counter:
    """Verdicts on two policies of equal worth."""
    world = World(EQUAL, equal=True)
    return Counter(_judged(world.log(seed)).outcome for seed in logs)


def planted(lift: float, logs: range, rows: int = PLANTED.rows) -> Counter:
    """Verdicts on a candidate that is worth (1 + lift) times the baseline."""
    world = World(replace(PLANTED, rows=rows)).planted(lift)
    return Counter(_judged(world.log(seed)).outcome for seed in logs)


def promised(lift: float) -> float:
    """The chance of the verdict that `chance_of_verdict` gives, by the standard error of a log of its own."""
    world = World(PLANTED).planted(lift)
    error = _judged(world.log(10**6)).power.standard_error
    return chance_of_verdict(world.truth["candidate"] - world.truth["baseline"], error)


def rows_needed(lift: float, power: float = 0.8) -> int:
    """How many impressions the verdict takes, by a log of its own."""
    world = World(PLANTED).planted(lift)
    effect = world.truth["candidate"] - world.truth["baseline"]
    return _judged(world.log(10**6), effect=effect, power=power).power.units_needed


def replayed_looks(sequences: range) -> Counter:
    """How many sequences of replays of a growing log, with users who come every day, ever find a difference of 0."""
    world = World(DAILY, equal=True)
    tiers: tuple[Interval, ...] = (ConfidenceSequence(planned=DAILY.rows), Linearised())
    alarms: Counter = Counter()
    for seed in sequences:
        log = world.log(seed)
        day, sums = np.arange(len(log)) % DAYS, None
        alarmed = set()
        for today in range(DAYS):
            part = UserSums.of(log.take(day == today))
            sums = part if sums is None else sums.merge(part)
            for tier in tiers:
                found = tier.difference(SNIPS, sums.policy("candidate"), sums.policy("baseline"))
                if not _holds(found, 0.0):
                    alarmed.add(tier.name)
        alarms.update(alarmed)
    return alarms


def daily_looks(sequences: int, users: int = USERS, days: int = DAYS, returning: bool = True) -> dict[str, float]:
    """The share of sequences in which some look at a difference of 0 is better or worse, of drawn influences.

    Args:
      sequences: how many.
      users: of each sequence; where they return, all are there each day, with a taste of their own for each policy.
      days: looks.
      returning: False: each day has users of its own.
    """
    tiers: tuple[LinearInterval, ...] = (ConfidenceSequence(planned=users * days), Linearised())
    alarms = {tier.name: 0 for tier in tiers}
    for seed in range(sequences):
        rng = np.random.default_rng((2, seed))
        effect = rng.normal(size=(users, days)) + 0.3 * rng.normal(size=(users, 1)) * returning
        for tier in tiers:
            looks = (_look(tier, effect[:, : day + 1], returning) for day in range(days))
            alarms[tier.name] += any(not _holds(look, 0.0) for look in looks)
    return {name: count / sequences for name, count in alarms.items()}


def _judged(log, **asked: float) -> PolicyComparison:
    sums = UserSums.of(log)
    found = [each for name in sums.policies for each in diagnose(Evidence(sums.policy(name), SNIPS))]
    return compare(sums, "candidate", "baseline", SNIPS, Linearised(), found, **asked)


def _counted(what: str, measure, logs: int) -> Counter:
    """Counts over all logs, by pieces that are kept."""
    sweep, found = Sweep("replay_effects"), Counter()
    for first in range(0, logs, PIECE):
        part = range(first, min(first + PIECE, logs))
        wanted = {"what": what, "logs": [part.start, part.stop]}
        if sweep.find(wanted) is None:
            sweep.add(wanted, {**wanted, "counts": dict(measure(part))})
            print(what, part.stop, flush=True)
        found.update(sweep.find(wanted)["counts"])
    return found


def _shares(counts: Counter) -> dict[str, float]:
    total = sum(counts.values())
    shares = {name: counts[name] / total for name in ("better", "worse", "cannot_tell", "withheld")}
    return shares | {"false": shares["better"] + shares["worse"]}


def _look(tier: LinearInterval, effect: np.ndarray, returning: bool) -> Estimate:
    """The interval of the mean of what was seen so far."""
    by_user = effect.sum(axis=1) if returning else effect.ravel()
    value, units = effect.mean(), effect.size
    return tier.around(value, (by_user - value * units / len(by_user)) / units, units)


def _holds(found: Estimate, truth: float) -> bool:
    return found.low is not None and found.high is not None and found.low <= truth <= found.high

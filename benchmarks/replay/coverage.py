"""How often the intervals of replay hold the truth, on logs whose truth is known, and what the diagnostics withhold.

Each scenario is a world of `benchmarks.replay.worlds`, and each seed a log of it. `by row` is the linearised interval
that takes rows for independent, which is what is wrong where users come again. Two policies of equal worth (A/A) are
compared on as many logs, and looked at on thirty days by the confidence sequence and by the interval for one look.
"""

from __future__ import annotations

import numpy as np

from benchmarks.replay.worlds import SCENARIOS, Scenario, World
from evaluation.replay.diagnostics.diagnostic import Evidence
from evaluation.replay.diagnostics.registry import diagnose
from evaluation.replay.estimators.registry import make_estimator
from evaluation.replay.intervals.confidence_sequence import ConfidenceSequence
from evaluation.replay.intervals.cressie_read import CressieRead
from evaluation.replay.intervals.interval import Interval, LinearInterval
from evaluation.replay.intervals.linearised import Linearised
from evaluation.replay.logged import LoggedRewards
from evaluation.replay.sums import UserSums
from evaluation.replay.verdicts.verdict import compare
from evaluation.results import Estimate

OPTIONS = {
    "seeds": (2000, "logs of each scenario"),
    "sequences": (1000, "of thirty daily looks"),
}
DAYS = 30
AA = Scenario(rows=4000, rows_a_user=4, spread=0.5, near=0.3)
COLUMNS: dict[str, tuple[str, type[Interval], bool]] = {
    "ips": ("ips", Linearised, False),
    "snips": ("snips", Linearised, False),
    "snips by row": ("snips", Linearised, True),
    "cressie_read": ("ips", CressieRead, False),
}
"""Column → estimator, tier, whether rows are taken for users."""


def run(options) -> dict:
    """Measures all scenarios, A/A comparisons and daily looks."""
    return {
        "seeds": options.seeds,
        "coverage": {name: coverage(scenario, options.seeds) for name, scenario in SCENARIOS.items()},
        "aa": equal_policies(options.seeds),
        "sequences": options.sequences,
        "looks": daily_looks(options.sequences),
    }


def figures(record: dict) -> list[tuple[str, str]]:
    """Coverage by scenario, and false verdicts of equal policies."""
    rows = []
    for name, found in record["coverage"].items():
        shown = ", ".join(f"{column} {100 * share:.1f}" for column, share in found["covers"].items())
        rows.append((f"replay intervals at 95 %, {name}", f"cover {shown}; withheld {100 * found['withheld']:.0f} %"))
    rows.append(("replay of equal policies", f"{100 * record['aa']['false']:.1f} % better or worse, at a level of 5 %"))
    looks = record["looks"]
    shown = (
        f"confidence sequence {100 * looks['sequence']:.1f} %, interval for one look {100 * looks['linearised']:.1f} %"
    )
    rows.append(("thirty daily looks at equal policies, ever better or worse", shown))
    return rows


def coverage(scenario: Scenario, seeds: int) -> dict:
    """How often each column's interval holds the candidate's truth, and the paired one the difference's."""
    world, held, wide = (
        World(scenario),
        dict.fromkeys((*COLUMNS, "paired"), 0),
        dict.fromkeys((*COLUMNS, "paired"), 0.0),
    )
    truth, withheld = world.truth["candidate"], 0
    for seed in range(seeds):
        log = world.log(seed)
        by_user, by_row = UserSums.of(log), UserSums.of(_rows_as_users(log)) if scenario.rows_a_user > 1 else None
        for column, (name, tier, rows) in COLUMNS.items():
            sums = by_row if rows and by_row else by_user
            found = tier().of(make_estimator(name), sums.policy("candidate"))
            held[column] += _holds(found, truth)
            wide[column] += found.high - found.low
        snips = make_estimator("snips")
        found = Linearised().difference(snips, by_user.policy("candidate"), by_user.policy("baseline"))
        held["paired"] += _holds(found, truth - world.truth["baseline"])
        wide["paired"] += found.high - found.low
        withheld += not all(each.passed for each in diagnose(Evidence(by_user.policy("candidate"), snips)))
    return {
        "covers": {column: count / seeds for column, count in held.items()},
        "width": {column: total / seeds for column, total in wide.items()},
        "withheld": withheld / seeds,
    }


def equal_policies(seeds: int) -> dict:
    """The share of verdicts, all false, on two policies of equal worth."""
    world, snips, outcomes = World(AA, equal=True), make_estimator("snips"), []
    for seed in range(seeds):
        sums = UserSums.of(world.log(seed))
        found = [each for name in sums.policies for each in diagnose(Evidence(sums.policy(name), snips))]
        outcomes.append(compare(sums, "candidate", "baseline", snips, Linearised(), found).outcome)
    shares = {name: outcomes.count(name) / seeds for name in ("better", "worse", "cannot_tell", "withheld")}
    return shares | {"false": shares["better"] + shares["worse"]}


def daily_looks(sequences: int, users: int = 300, days: int = DAYS, returning: bool = True) -> dict[str, float]:
    """The share of sequences in which some look at a difference of 0 is better or worse.

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


def _look(tier: LinearInterval, effect: np.ndarray, returning: bool) -> Estimate:
    """The interval of the mean of what was seen so far."""
    by_user = effect.sum(axis=1) if returning else effect.ravel()
    value, units = effect.mean(), effect.size
    return tier.around(value, (by_user - value * units / len(by_user)) / units, units)


def _holds(found: Estimate, truth: float) -> bool:
    return found.low is not None and found.high is not None and found.low <= truth <= found.high


def _rows_as_users(log: LoggedRewards) -> LoggedRewards:
    return LoggedRewards(log.request, log.request, log.slot, log.reward, log.propensity, log.weights)

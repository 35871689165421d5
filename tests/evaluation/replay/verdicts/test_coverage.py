"""How often intervals and verdicts hold: short forms of `python -m benchmarks coverage` and `replay_effects`."""

import numpy as np
import pytest

from benchmarks.replay import coverage, replay_effects
from benchmarks.replay.worlds import SCENARIOS, World
from evaluation.replay.estimators.registry import make_estimator
from evaluation.replay.intervals.linearised import Linearised, standard_error
from evaluation.replay.sums import UserSums
from evaluation.replay.verdicts.power import chance_of_verdict, power_of

SEEDS = 100


def within(share: float, expected: float, trials: int) -> bool:
    """Whether a share is within four standard errors of what it should be."""
    return abs(share - expected) < 4 * np.sqrt(expected * (1 - expected) / trials)


def test_users_who_come_again_are_covered_and_their_rows_are_not():
    found = coverage.coverage(SCENARIOS["ten_rows_a_user"], SEEDS)["covers"]
    assert all(within(found[column], 0.95, SEEDS) for column in ("ips", "snips", "paired"))
    assert found["snips by row"] < 0.92 and found["cressie_read"] > 0.93


def test_rewards_near_1_are_covered_without_waste():
    found = coverage.coverage(SCENARIOS["rewards_near_1"], SEEDS)
    assert within(found["covers"]["snips"], 0.95, SEEDS) and found["withheld"] == 0
    assert found["width"]["snips"] < 0.6 * found["width"]["ips"]


def test_a_tail_too_heavy_is_withheld():
    found = coverage.coverage(SCENARIOS["heavy_tail"], 30)
    assert found["withheld"] == 1 and found["covers"]["ips"] < 0.9 < found["covers"]["cressie_read"]


def test_equal_policies_get_verdicts_no_more_often_than_said():
    found = replay_effects.equal_worth(range(100))
    assert within((found["better"] + found["worse"]) / 100, 0.05, 100) and found["withheld"] < 10


def test_a_policy_is_never_better_than_itself():
    assert replay_effects.against_itself(range(20)) == {"cannot_tell": 20}


def test_a_growing_log_that_is_replayed_daily_raises_alarms_by_the_interval_for_one_look():
    found = replay_effects.replayed_looks(range(15))
    assert found["sequence"] <= 1 < found["linearised"]


@pytest.mark.parametrize("returning", [False, True])
def test_daily_looks_hold_their_level_by_the_sequence_alone(returning):
    found = replay_effects.daily_looks(60, users=100, returning=returning)
    assert found["sequence"] <= 0.09 and found["linearised"] > 0.15


def test_a_planted_difference_is_found_as_often_as_the_formula_says():
    """The log that `units_needed` asks for tells the true difference with the power asked for."""
    world, snips, tier = World(SCENARIOS["independent"], seed=3), make_estimator("snips"), Linearised()

    def measured(seed: int, rows: int):
        sums = UserSums.of(world.log(seed, rows))
        a, b = sums.policy("candidate"), sums.policy("baseline")
        return tier.difference(snips, a, b), standard_error(snips.influence(a) - snips.influence(b))

    effect = world.truth["candidate"] - world.truth["baseline"]
    assert effect < -0.01
    found, error = measured(0, 10_000)
    needed = power_of((found.high - found.low) / 2, error, 10_000, effect, power=0.8).units_needed
    shown = sum(measured(seed, needed)[0].high < 0 for seed in range(1, 61)) / 60
    assert within(shown, 0.8, 60)
    assert chance_of_verdict(effect, error * np.sqrt(10_000 / needed)) == pytest.approx(0.8, abs=0.02)

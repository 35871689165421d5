"""The test of sample ratios: it finds a loss of one in a hundred, and is silent where there is none."""

import numpy as np
import pytest

from evaluation.replay.experiment.sample_ratio import LEVEL, sample_ratio, sequential_sample_ratio
from features.errors import InputError

SHARES = {"a": 5000, "b": 5000}
DAYS = 1000


def counts(rng, users: int, lost: float = 0.0) -> dict[str, int]:
    """Users of two halves, of whose second a share is lost."""
    first = int(rng.binomial(users, 0.5))
    return {"a": first, "b": int(rng.binomial(users - first, 1 - lost))}


@pytest.mark.parametrize("freedom", [1, 2, 3, 7, 20])
def test_p_values_are_those_of_the_distribution(freedom):
    """Of uniform draws of the null, all p-values come alike: their mean and their small ones."""
    rng = np.random.default_rng(freedom)
    shares = dict.fromkeys(range(freedom + 1), 1)
    draws = rng.multinomial(100_000, np.full(freedom + 1, 1 / (freedom + 1)), 4000)
    found = np.array([sample_ratio(dict(enumerate(row.tolist())), shares).p_value for row in draws])
    for level in (0.01, 0.1, 0.5, 0.9):
        assert abs((found < level).mean() - level) < 4.5 * np.sqrt(level * (1 - level) / 4000)


def test_known_p_values():
    assert sample_ratio({"a": 60, "b": 40}, SHARES).p_value == pytest.approx(0.04550026389635842)
    three = sample_ratio({"a": 30, "b": 50, "c": 40}, {"a": 1, "b": 1, "c": 1})
    assert three.p_value == pytest.approx(np.exp(-2.5)) and three.expected == {"a": 40, "b": 40, "c": 40}


def test_a_loss_of_one_in_a_hundred_is_found_and_a_thousand_equal_days_are_silent():
    rng = np.random.default_rng(1)
    # The loss of 5,000 of a million users is five standard errors: 95.7 % of such experiments are told.
    found = [sample_ratio(counts(rng, 1_000_000, lost=0.01), SHARES) for _ in range(400)]
    assert 0.92 < np.mean([each.mismatch for each in found]) < 0.985
    assert all(sample_ratio(counts(rng, 4_000_000, lost=0.01), SHARES).mismatch for _ in range(20))
    silent = [sample_ratio(counts(rng, 1_000_000), SHARES) for _ in range(DAYS)]
    assert sum(each.mismatch for each in silent) <= 5  # 1 expected at 0.001; above 5 once in two thousand
    assert abs(np.mean([each.p_value < 0.05 for each in silent]) - 0.05) < 0.03


def test_looking_every_day_takes_the_sequential_test():
    """A hundred looks at growing counts, at a level of 5 %: it alarms in no more of the experiments, χ² in many."""
    rng = np.random.default_rng(2)
    alarms = {"once": 0, "sequential": 0}
    for _ in range(100):
        grown = np.cumsum(rng.multinomial(10_000, [0.5, 0.5], 100), axis=0).tolist()
        looks = [dict(zip("ab", row, strict=True)) for row in grown]
        alarms["once"] += any(sample_ratio(look, SHARES, 0.05).mismatch for look in looks)
        alarms["sequential"] += any(sequential_sample_ratio(look, SHARES, 0.05).mismatch for look in looks)
    assert alarms["sequential"] <= 11 and alarms["once"] >= 20
    lost = sequential_sample_ratio(counts(rng, 4_000_000, lost=0.01), SHARES)
    assert lost.mismatch and lost.p_value < LEVEL


def test_what_cannot_be_tested_is_said():
    assert sample_ratio({}, SHARES).p_value == 1.0 and not sample_ratio({"a": 5}, {"a": 1}).mismatch
    assert sample_ratio({"a": 7, "b": 0}, {"a": 1, "b": 0}).observed == {"a": 7}
    for test in (sample_ratio, sequential_sample_ratio):
        for given, shares, said in (
            ({"a": 1, "c": 2}, SHARES, "users of `c`, which has no share"),
            ({"a": -1}, SHARES, "must not be negative"),
            ({}, {"a": 0}, "no share is positive"),
        ):
            with pytest.raises(InputError, match=said):
                test(given, shares)

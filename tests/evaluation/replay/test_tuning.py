"""SLOPE takes the narrowest estimate that agrees with all wider ones."""

import numpy as np
import pytest

from evaluation.replay.estimators.registry import make_estimator
from evaluation.replay.estimators.tuning import choose, choose_behavior, half_width, slope
from evaluation.replay.logged import LoggedRewards
from evaluation.replay.sums import UserSums
from features.errors import InputError


def log_of(seed, tail, requests=4000):
    """One row a request; weights of mean 1 whose rare large values carry reward 1, others reward 0.5."""
    generator = np.random.default_rng(seed)
    rare = generator.random(requests) < 0.01
    weight = np.where(rare, tail, (1 - 0.01 * tail) / 0.99)
    ones = np.arange(requests)
    return LoggedRewards(ones, ones, ones * 0, np.where(rare, 1.0, 0.5), np.full(requests, 0.01), {"target": weight})


@pytest.mark.parametrize(
    "values, widths, taken",
    [
        ([1.0, 1.0, 1.0], [3.0, 2.0, 1.0], 2),
        ([1.0, 1.0, 9.0], [3.0, 2.0, 1.0], 1),
        ([1.0, 9.0, 1.0], [1.0, 1.0, 0.1], 0),  # what comes after a disagreement is not looked at
        ([9.0, 1.0, 1.0], [1.0, 2.0, 3.0], 1),  # by width, not as listed
        ([np.nan, 2.0], [np.inf, 1.0], 1),
    ],
)
def test_slope_by_hand(values, widths, taken):
    assert slope(values, widths) == taken


def test_without_an_estimate_nothing_is_chosen():
    with pytest.raises(InputError, match="none of the estimators"):
        slope([np.nan], [1.0])


def test_a_clip_is_taken_where_it_costs_nothing_and_left_where_it_biases():
    grid = [make_estimator(f"clipped_ips@{limit}") for limit in (1e6, 50, 3)]
    biased = UserSums.of(log_of(0, tail=60), grid).policy("target")  # 60 % of the value are in 1 % of the rows
    assert choose(grid, biased) is not grid[2]
    mild = UserSums.of(log_of(0, tail=2), grid).policy("target")
    assert choose(grid, mild).estimate(mild) == grid[0].estimate(mild)


def test_a_width_is_the_naive_one_of_independent_rows():
    log, ips = log_of(1, tail=20), make_estimator("ips")
    sums = UserSums.of(log, [ips]).policy("target")
    rows = log.weights["target"] * log.reward
    assert half_width(ips, sums) == pytest.approx(1.959964 * rows.std(ddof=1) / np.sqrt(len(rows)), rel=1e-5)
    one = UserSums.of(log.take(np.arange(len(log)) == 0), [ips]).policy("target")
    assert half_width(ips, one) == np.inf


def test_readers_who_go_downwards_are_told_from_those_who_do_not():
    generator, requests = np.random.default_rng(2), 20_000
    request, slot = np.repeat(np.arange(requests), 2), np.tile([0, 1], requests)
    stratum = request % 2
    item = generator.integers(0, 2, 2 * requests)  # a logger that fills slots independently and evenly
    weight = np.where(item == 1, 1.6, 0.4)
    above = np.where(slot == 1, np.roll(item, 1), 1)
    reward = np.where((stratum == 1) & (above == 0), 0.0, 1.0) * (slot == 1)
    down = np.where(slot == 1, weight * np.roll(weight, 1), weight)
    log = LoggedRewards(
        request, request, slot, reward, np.full(len(slot), 0.5), {"a": weight}, cascade_weights={"a": down}
    )
    chosen = choose_behavior(log, "a", stratum)
    assert set(chosen[stratum == 0]) == {0} and 0 not in chosen[stratum == 1]

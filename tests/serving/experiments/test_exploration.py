"""Explorers: what they say of a list is its probability, and what they show comes as often as they say."""

import itertools
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluation.replay.policies.list_policy import ranked
from evaluation.replay.policies.plackett_luce import marginals
from features.errors import InputError
from serving.experiments.exploration.config import EpsilonGreedy, PlackettLuce, Thompson
from serving.experiments.exploration.explorer import explorer
from tests.serving.experiments.explored import (
    DEVIATIONS,
    EXPLORERS,
    LOGITS,
    SLOTS,
    all_marginals,
    draw,
    every_list,
    marginals_of,
    p_values,
    said,
)

names = pytest.mark.parametrize("name", EXPLORERS)


@names
def test_propensities_and_conditionals_are_those_of_every_list_counted_out(name):
    """The marginals, and the product of conditionals as the probability of the whole list."""
    lists = every_list(name)
    assert sum(lists.values()) == pytest.approx(1)
    expected, rng = marginals_of(lists), np.random.default_rng(0)
    for _ in range(60):
        choice = EXPLORERS[name].choose(LOGITS, SLOTS, rng, DEVIATIONS)
        np.testing.assert_allclose(choice.propensities, expected[np.arange(SLOTS), choice.order], rtol=1e-9)
        assert np.prod(choice.conditionals) == pytest.approx(lists[tuple(choice.order.tolist())], rel=1e-9)
        assert (choice.propensities <= 1).all() and (choice.conditionals <= 1).all()


@names
def test_what_is_shown_comes_as_often_as_is_said(name):
    orders, propensities = draw(name, 4000, seed=1)
    chances = marginals_of(every_list(name))
    found = said(orders, propensities)
    assert np.abs(found - chances)[found > 0].max() < 1e-9
    assert min(p_values(orders, chances)) > 1e-4
    wrong = chances.copy()
    wrong[0, chances[0].argmax()] *= 0.7
    assert min(p_values(orders, wrong)) < 1e-4


@names
def test_inverse_propensities_give_the_value_of_another_policy(name):
    """IIPS of the likeliest list and of one that the logger seldom shows, beside their known values."""
    orders, propensities = draw(name, 2500, seed=2)
    rewards = 1 / (2 + np.arange(len(LOGITS)))[orders] / (1 + np.arange(SLOTS))
    clicks = np.random.default_rng(3).random(orders.shape) < rewards
    lists = every_list(name)
    for policy in (np.array(max(lists, key=lists.get)), np.array(min(lists, key=lambda each: abs(lists[each] - 0.06)))):
        value = float((1 / (2 + policy) / (1 + np.arange(SLOTS))).sum())
        each = ((orders == policy) / propensities * clicks).sum(axis=1)
        assert abs(each.mean() - value) < 4 * each.std() / np.sqrt(len(each))


def test_plackett_luce_marginals_are_exact():
    """Beside sums over all lists in rational numbers: relative errors below 1e-9, of small propensities too."""
    for rates in ([1, 1, 1, 1, 1, 1], [1000, 1, 1, 1, 1, 1], [1, 7, 49, 343, 2401, 16807], [3, 1, 4, 1, 5, 9]):
        exact = np.zeros((6, 6))
        for shown in itertools.permutations(range(6)):
            left, chance = Fraction(sum(rates)), Fraction(1)
            for item in shown:
                chance *= rates[item] / left
                left -= rates[item]
            exact[np.arange(6), list(shown)] += float(chance)
        for slots in (1, 2, 4, 6):
            found = all_marginals(np.log(np.array(rates, float)), slots)
            np.testing.assert_allclose(found, exact[:slots], rtol=1e-9)
            np.testing.assert_allclose(found.sum(axis=1), 1, rtol=1e-9)


@pytest.mark.parametrize("n, k", [(200, 20), (30, 30), (300, 1), (30, 29)])
@pytest.mark.parametrize("spread", [0.0, 1.0, 6.0, 40.0])
def test_plackett_luce_marginals_sum_to_one_over_the_items(n, k, spread):
    """Of every slot, over all items: n calls, whose errors would add up."""
    log_rates = spread * np.random.default_rng(n).normal(size=n)
    slots = sorted({0, k // 2, k - 1})
    total = np.zeros(k)
    for turn in range(n):
        total += marginals(log_rates, (turn + np.arange(k)) % n)
    np.testing.assert_allclose(total[slots], 1, rtol=2e-9)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(-1e6, 1e6), min_size=0, max_size=30), st.integers(1, 40), st.integers(0, 10**6))
def test_any_logits_are_answered_by_a_list_without_repeats(logits, k, seed):
    logits = np.array(logits)
    deviations = np.random.default_rng(seed).normal(size=(len(logits), 8))
    for exploration in (
        None,
        EpsilonGreedy(kind="epsilon", epsilon=0.5, top=7),
        PlackettLuce(kind="plackett_luce", temperature=0.01, top=7),
        Thompson(kind="thompson"),
    ):
        choice = explorer(exploration).choose(logits, k, np.random.default_rng(seed), deviations)
        size = min(k, len(logits))
        assert len(set(choice.order.tolist())) == len(choice.order) == size
        for chances in (choice.propensities, choice.conditionals):
            assert chances.shape == (size,) and ((chances > 0) & (chances <= 1)).all()
        if exploration is None or exploration.kind != "thompson":
            np.testing.assert_array_equal(choice.order[7:], ranked(logits)[7:k])
            assert (choice.propensities[7:] == 1).all()


def test_a_low_temperature_is_the_rankers_order_and_a_high_one_is_random():
    rng = np.random.default_rng(0)
    cold, hot = (explorer(PlackettLuce(kind="plackett_luce", temperature=each)) for each in (1e-3, 1e9))
    distinct = np.arange(7.0)
    choice = cold.choose(distinct, 7, rng)
    assert choice.order.tolist() == ranked(distinct).tolist() and choice.propensities.min() > 1 - 1e-9
    np.testing.assert_allclose(hot.choose(distinct, 7, rng).propensities, 1 / 7, rtol=1e-6)


@pytest.mark.parametrize(
    "logits, k, deviations, said",
    [
        ([1.0, np.nan], 1, None, "finite numbers.*1 not finite"),
        ([[1.0]], 1, None, r"shape \(1, 1\)"),
        ([1.0], 0, None, "`k` must be positive. Received: 0"),
    ],
)
def test_what_cannot_be_ranked_is_refused(logits, k, deviations, said):
    for each in (explorer(None), *EXPLORERS.values()):
        with pytest.raises(InputError, match=said):
            each.choose(np.array(logits), k, np.random.default_rng(0), deviations)


def test_thompson_sampling_says_what_it_needs():
    thompson = EXPLORERS["thompson"]
    assert thompson.needs_draws and not EXPLORERS["epsilon"].needs_draws
    for deviations, message in (
        (None, "its signature `draw_logits`"),
        (np.zeros((2, 0)), r"must be \[3, M\] finite numbers"),
        (np.zeros((3, 0)), "M positive"),
        (np.full((3, 4), np.inf), "12 not finite"),
    ):
        with pytest.raises(InputError, match=message):
            thompson.choose(np.zeros(3), 2, np.random.default_rng(0), deviations)

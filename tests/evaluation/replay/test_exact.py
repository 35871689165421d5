"""Sums are exact to 2⁻⁶⁰ a summand, and the same bits in every order."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluation.replay import exact
from features.errors import InputError

NUMBERS = st.lists(st.floats(-1e15, 1e15) | st.floats(-1, 1), min_size=1, max_size=40)


def added(values, groups=None):
    return exact.add_groups(exact.to_limbs(np.array(values)), np.array([0] if groups is None else groups))


def fraction(limbs):
    return int(limbs[0, 0]) * Fraction(2) ** 20 + Fraction(int(limbs[1, 0]), 2**20) + Fraction(int(limbs[2, 0]), 2**60)


@settings(max_examples=60, deadline=None)
@given(NUMBERS, st.randoms(use_true_random=False))
def test_a_sum_is_exact_and_has_no_order(values, random):
    found = added(values)
    true = sum((Fraction(value) for value in values), Fraction(0))
    assert abs(fraction(found) - true) < len(values) * Fraction(1, 2**60)
    assert float(exact.to_doubles(found)[0]) == pytest.approx(float(true), rel=1e-15, abs=len(values) * 2.0**-60)
    random.shuffle(values)
    assert np.array_equal(added(values), found)
    cut = random.randrange(len(values)) if len(values) > 1 else 0
    parts = np.concatenate([added(each) for each in (values[:cut], values[cut:]) if each], axis=1)
    assert np.array_equal(exact.add_groups(parts, np.array([0])), found)


@pytest.mark.parametrize("value", [0.1, -0.1, 1e-9, -1e-9, 1e17, -1e17, 2.0**-60, -(2.0**40) - 0.5, 0.0])
def test_one_number_comes_back(value):
    assert exact.to_doubles(exact.to_limbs(np.array([value])))[0] == pytest.approx(value, rel=1e-9, abs=0)
    assert exact.to_doubles(added([value]))[0] == pytest.approx(value, rel=1e-9, abs=0)


def test_small_numbers_are_not_lost_beside_large_ones():
    assert exact.to_doubles(added([1e16, 1.0, -1e16, 2.0**-50]))[0] == 1 + 2.0**-50


@pytest.mark.parametrize("value", [np.nan, np.inf, 2.0**60, -1e30])
def test_what_has_no_place_is_refused(value):
    with pytest.raises(InputError, match="`wwrr` must be finite and below"):
        exact.to_limbs(np.array([1.0, value]), "`wwrr`")


def test_long_groups_are_carried_on_the_way(monkeypatch):
    """2²² limbs of 40 bits fit in 63; more go in stages, whose edges need not be those of groups."""
    values, groups = np.random.default_rng(0).normal(size=23) * 1e6, [0, 1, 9, 22]
    whole = added(values, groups)
    monkeypatch.setattr(exact, "_GROUP", 3)
    assert np.array_equal(added(values, groups), whole)


def test_nothing_adds_up_to_nothing():
    assert exact.add_groups(np.empty((3, 0), np.int64), np.empty(0, np.int64)).shape == (3, 0)

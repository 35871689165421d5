"""The tiers of intervals: closed forms, those of other libraries, and what they have in common."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluation.replay.estimators.registry import make_estimator
from evaluation.replay.intervals.confidence_sequence import ConfidenceSequence
from evaluation.replay.intervals.cressie_read import CressieRead
from evaluation.replay.intervals.linearised import Linearised, standard_error
from evaluation.replay.intervals.registry import INTERVALS
from evaluation.replay.sums import UserSums
from features.errors import InputError
from tests.evaluation.replay.verdicts.logs import log

IPS, SNIPS = make_estimator("ips"), make_estimator("snips")
WEIGHTS = np.array([(k * 37 % 101) / 50.5 if k % 17 else 6.0 for k in range(200)])
BINARY = np.array([float((k * 53 % 97) < 30) for k in range(200)])
VALUED = np.array([(k * 53 % 97) / 50 - 0.5 for k in range(200)])

#: rewards, their range, the range of weights, level; value and ends, as vw-estimators 0.2.2 finds them.
CRESSIE_READ = [
    (BINARY, (0, 1), (0, math.inf), 0.95, 0.2952418823492707, 0.15442917036717713, 0.41796366683072517),
    (BINARY, (0, 1), (0, math.inf), 0.9, 0.2952418823492707, 0.16634727087470197, 0.400890620221431),
    (BINARY, (0, 1), (0, 20.0), 0.95, 0.2952418823492707, 0.1725200978678162, 0.41796366683072517),
    (BINARY, (0, 1), (0, 20.0), 0.9, 0.2952418823492707, 0.19239735098741562, 0.39808641371112574),
    (VALUED, (-1, 2), (0, math.inf), 0.95, 0.4668273238697742, 0.3206937342211028, 0.6129609135184457),
    (VALUED, (-1, 2), (0, 20.0), 0.9, 0.4668273238697742, 0.3443629985085796, 0.5892916492309689),
]


def policy(weight, reward, **more):
    return UserSums.of(log(weight, reward, **more)).policy("a")


def ends(found) -> tuple[float, float]:
    return found.low, found.high


def test_the_linearised_interval_of_independent_rows_is_that_of_a_mean():
    found, product = Linearised().of(IPS, policy(WEIGHTS, BINARY)), WEIGHTS * BINARY
    error = product.std(ddof=1) / np.sqrt(200)
    assert found.value == pytest.approx(product.mean())
    assert standard_error(IPS.influence(policy(WEIGHTS, BINARY))) == pytest.approx(error)
    assert 1.96 * error < (found.high - found.low) / 2 < 2.1 * error  # Student's t, not the normal


def test_rows_of_a_user_do_not_pass_for_independent_ones():
    one = Linearised().of(IPS, policy(WEIGHTS, BINARY))
    same = policy(np.repeat(WEIGHTS, 9), np.repeat(BINARY, 9), user=np.repeat(np.arange(200), 9))
    assert ends(Linearised().of(IPS, same)) == pytest.approx(ends(one), abs=1e-12)
    assert ends(CressieRead().of(IPS, same)) == pytest.approx(ends(CressieRead().of(IPS, policy(WEIGHTS, BINARY))))


def test_that_users_come_unequally_often_is_no_doubt_about_a_constant_reward():
    uneven = policy(np.ones(200), np.full(200, 0.5), user=np.arange(200) ** 2 // 400)
    for tier in (Linearised(), CressieRead()):
        assert ends(tier.of(IPS, uneven)) == pytest.approx((0.5, 0.5), abs=1e-8)


def test_a_constant_reward_leaves_the_self_normalised_value_no_doubt():
    found = Linearised().of(SNIPS, policy(WEIGHTS, np.ones(200)))
    assert ends(found) == pytest.approx((1, 1), abs=1e-12)


@pytest.mark.parametrize("reward, rewards, weights, level, value, low, high", CRESSIE_READ)
def test_cressie_read_is_that_of_vw_estimators(reward, rewards, weights, level, value, low, high):
    found = CressieRead(level, rewards, weights).of(IPS, policy(WEIGHTS, reward))
    assert found.value == pytest.approx(value, abs=1e-9)
    assert ends(found) == pytest.approx((low, high), abs=1e-9)


def test_cressie_read_is_of_rewards_in_their_range_and_of_weights_with_mean_1():
    with pytest.raises(InputError, match="must hold all rewards"):
        CressieRead().of(IPS, policy(WEIGHTS, 2 * BINARY))
    clipped = make_estimator("clipped_ips")
    with pytest.raises(InputError, match="take the linearised"):
        CressieRead().of(clipped, UserSums.of(log(WEIGHTS, BINARY), [clipped]).policy("a"))
    with pytest.raises(InputError, match="must hold 1"):
        CressieRead(weight_range=(0, 0.5))
    with pytest.raises(InputError, match="must rise"):
        CressieRead(reward_range=(1, 1))


def test_the_sequence_is_that_of_the_paper_and_narrowest_as_planned():
    """Waudby-Smith et al., equation (5): s √n times √(2 (n ρ² + 1) / (n² ρ²) log(√(n ρ² + 1) / α))."""
    sequence, alpha = ConfidenceSequence(0.95, planned=5000), 0.05
    rho2 = (-2 * math.log(alpha) + math.log(-2 * math.log(alpha) + 1)) / 5000
    for n in (10, 5000, 10**6):
        paper = math.sqrt(2 * (n * rho2 + 1) / (n * n * rho2) * math.log(math.sqrt(n * rho2 + 1) / alpha))
        assert sequence.factor(n) == pytest.approx(paper * math.sqrt(n))
    others = [ConfidenceSequence(0.95, planned=5000 * k).factor(5000) for k in (0.5, 0.8, 1.25, 2)]
    assert all(sequence.factor(5000) < other for other in others)


@pytest.mark.parametrize("name", INTERVALS)
class TestEveryTier:
    def test_the_difference_of_a_policy_and_itself_is_nothing(self, name):
        sums = UserSums.of(log(WEIGHTS, BINARY, b=WEIGHTS))
        found = INTERVALS[name]().difference(IPS, sums.policy("a"), sums.policy("b"))
        assert found.value == 0 and found.low <= 0 <= found.high

    def test_candidate_and_baseline_can_be_swapped(self, name):
        sums = UserSums.of(log(WEIGHTS, BINARY, b=WEIGHTS[::-1]))
        a, b, tier = sums.policy("a"), sums.policy("b"), INTERVALS[name]()
        there, back = tier.difference(IPS, a, b), tier.difference(IPS, b, a)
        assert ends(there) == pytest.approx((-back.high, -back.low)) and there.low < there.value < there.high

    def test_a_higher_level_is_wider(self, name):
        sums = policy(WEIGHTS, BINARY)
        narrow, wide = (INTERVALS[name](level).of(IPS, sums) for level in (0.8, 0.99))
        assert wide.low < narrow.low < narrow.high < wide.high

    @settings(max_examples=30, deadline=None)
    @given(st.lists(st.tuples(st.floats(0, 50), st.booleans(), st.integers(0, 5)), min_size=1, max_size=40))
    def test_ends_surround_the_value_or_are_not_there(self, name, rows):
        weight, reward, user = (np.array(column) for column in zip(*rows, strict=True))
        found = INTERVALS[name]().of(IPS, policy(weight, reward, user=user))
        assert found.value is not None
        assert found.low is None or (found.low <= found.high and math.isfinite(found.low + found.high))

    def test_refusals(self, name):
        with pytest.raises(InputError, match="between 0 and 1"):
            INTERVALS[name](1.0)
        with pytest.raises(InputError, match="same log"):
            INTERVALS[name]().difference(IPS, policy(WEIGHTS, BINARY), policy(WEIGHTS[:9], BINARY[:9]))

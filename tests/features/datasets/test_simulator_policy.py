"""The logging policy's propensities are the probabilities with which it chooses."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.datasets.simulator.catalogue import draw_items
from features.datasets.simulator.config import ItemTree
from features.datasets.simulator.policy import LoggingPolicy

DAYS = 7
TREE = ItemTree()


def _policy(seed=0, temperature=1.5, exploration=0.1):
    items = draw_items(np.random.default_rng(seed), TREE, TREE.num_niches + 120, DAYS, 1.0)
    return items, LoggingPolicy(items, DAYS, temperature, exploration)


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    temperature=st.floats(0.5, 5.0),
    exploration=st.sampled_from([0.0, 0.05, 0.5, 1.0]),
    day=st.integers(0, DAYS - 1),
    slots=st.integers(1, 12),
)
def test_logged_propensity_is_the_plain_sum_over_all_items(seed, temperature, exploration, day, slots):
    _, policy = _policy(seed % 5, temperature, exploration)
    rng = np.random.default_rng(seed)
    affinity = rng.standard_normal((3, TREE.num_clusters)) * 2
    chosen, propensity = policy.sample(rng, affinity, np.full(3, day), np.full(3, slots))
    for row in range(3):
        for slot in range(slots):
            probabilities = policy.slot_probabilities(affinity[row], day, chosen[row, :slot])
            assert probabilities.sum() == pytest.approx(1.0, abs=1e-12)
            assert (probabilities[chosen[row, :slot]] == 0).all()
            assert propensity[row, slot] == pytest.approx(probabilities[chosen[row, slot]], rel=1e-9)


def test_choices_have_the_logged_frequencies():
    _, policy = _policy(temperature=0.7)
    rng = np.random.default_rng(1)
    n = 60_000
    affinity = np.tile(rng.standard_normal(TREE.num_clusters) * 2, (n, 1))
    chosen, _ = policy.sample(rng, affinity, np.full(n, 3), np.full(n, 3))

    first = policy.slot_probabilities(affinity[0], 3, [])
    _assert_frequencies(chosen[:, 0], first)
    # Given the likeliest first item: what rejection leaves must be the law over the rest.
    head = int(first.argmax())
    rest = chosen[chosen[:, 0] == head]
    second = policy.slot_probabilities(affinity[0], 3, [head])
    assert len(rest) > 1_000
    _assert_frequencies(rest[:, 1], second)
    # The third slot, over all first two: each item's expected count is the sum of its conditional probabilities.
    pair = rest[rest[:, 1] == int(second.argmax())]
    _assert_frequencies(pair[:, 2], policy.slot_probabilities(affinity[0], 3, pair[0, :2]))


def _assert_frequencies(chosen, probabilities):
    """Pearson's chi-square over the items expected at least 5 times, the rest as one; five standard deviations."""
    expected = probabilities * len(chosen)
    observed = np.bincount(chosen, minlength=len(expected))
    often = expected >= 5
    assert observed[probabilities == 0].sum() == 0
    expected = np.append(expected[often], max(expected[~often].sum(), 1e-300))
    observed = np.append(observed[often], observed[~often].sum())
    statistic = ((observed - expected) ** 2 / expected).sum()
    freedom = len(expected) - 1
    assert abs(statistic - freedom) < 5 * np.sqrt(2 * freedom)


def test_candidates_are_distinct_and_released():
    items, policy = _policy()
    rng = np.random.default_rng(2)
    day = np.repeat(np.arange(DAYS), 200)
    slots = rng.integers(5, 31, len(day))
    chosen, propensity = policy.sample(rng, np.zeros((len(day), TREE.num_clusters)), day, slots)
    assert ((chosen >= 0).sum(axis=1) == slots).all()
    assert ((propensity > 0) == (chosen >= 0)).all()
    for row, count in zip(chosen, slots, strict=True):
        assert len(set(row[:count])) == count
    shown = chosen >= 0
    assert (items.release_day[chosen] <= day[:, None])[shown].all()
    # The bound is met: some candidate appears on its very release day.
    assert (items.release_day[chosen] == day[:, None])[shown].any()


def test_exploration_alone_is_uniform():
    items, policy = _policy(exploration=1.0)
    affinity = np.random.default_rng(0).standard_normal((1, TREE.num_clusters))
    _, propensity = policy.sample(np.random.default_rng(3), affinity, np.array([0]), np.array([4]))
    available = (items.release_day <= 0).sum()
    np.testing.assert_allclose(propensity[0], 1 / (available - np.arange(4)), rtol=1e-12)

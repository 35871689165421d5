"""Every policy of the table: what it says of lists is what it draws, counted out and drawn."""

import itertools
from collections import Counter

import numpy as np
import pytest

from evaluation.replay.policies.registry import POLICIES, make_policy
from evaluation.replay.policies.slates import LoggedSlates
from features.errors import InputError

#: Two candidates tie, one is far below: Plackett-Luce's second group.
LOGITS = np.array([1.0, 0.2, -0.5, 0.2, 2.0, -400.0])
SLOTS, DRAWS = 3, 4000
SPECS = {
    "top": "top",
    "softmax": "softmax@0.7",
    "epsilon": "epsilon@0.3,4",
    "plackett_luce": "plackett_luce@0.8,4",
}
each = pytest.mark.parametrize("name", POLICIES)


def lists(name):
    """The probability of every list, by the product of conditionals."""
    policy, repeats = make_policy(SPECS[name]), name == "softmax"
    orders = itertools.product(range(len(LOGITS)), repeat=SLOTS)
    kept = [order for order in orders if repeats or len(set(order)) == SLOTS]
    rows = np.arange(len(kept) + 1)
    slates = LoggedSlates(
        offsets=rows * len(LOGITS),
        logits=np.tile(LOGITS, len(kept)),
        row_offsets=rows * SLOTS,
        place=np.array(kept).ravel(),
        slot=np.tile(np.arange(SLOTS), len(kept)),
    )
    return kept, policy.conditionals(slates).reshape(-1, SLOTS).prod(axis=1), slates


def counted(kept, chances):
    """[n, SLOTS] the marginals of lists."""
    found = np.zeros((len(LOGITS), SLOTS))
    for order, chance in zip(kept, chances, strict=True):
        found[order, np.arange(SLOTS)] += chance
    return found


def test_every_policy_is_tested():
    assert set(SPECS) == set(POLICIES)


@each
def test_marginals_are_those_of_all_lists_counted_out(name):
    kept, chances, slates = lists(name)
    expected, policy = counted(kept, chances), make_policy(SPECS[name])
    assert chances.sum() == pytest.approx(1)
    np.testing.assert_allclose(policy.marginals(slates), expected[slates.place, slates.slot], rtol=1e-8, atol=1e-12)
    np.testing.assert_allclose(policy.placements(slates, SLOTS), expected[slates.place], rtol=1e-8, atol=1e-12)
    values = np.tile(np.arange(6.0) ** 2, len(kept))
    np.testing.assert_allclose(policy.expected(slates, values), (values[:6] @ expected)[slates.slot], rtol=1e-8)


@each
def test_lists_are_drawn_as_often_as_is_said(name):
    kept, chances, _ = lists(name)
    policy, rng = make_policy(SPECS[name]), np.random.default_rng(7)
    drawn = Counter(tuple(policy.draw(LOGITS, SLOTS, rng).tolist()) for _ in range(DRAWS))
    assert sum(drawn[order] for order in kept) == DRAWS
    away = np.array([drawn[order] for order in kept]) - DRAWS * chances
    assert np.abs(away).max() <= 4.5 * np.sqrt(DRAWS * (chances * (1 - chances)).max() + 1e-9)


@each
def test_a_choice_says_what_the_policy_says_of_its_list(name):
    policy = make_policy(SPECS[name])
    choice = policy.choose(LOGITS, SLOTS, np.random.default_rng(3))
    slates = LoggedSlates.of_list(LOGITS, choice.order)
    np.testing.assert_allclose(choice.propensities, policy.marginals(slates), rtol=1e-12)
    np.testing.assert_allclose(choice.conditionals, policy.conditionals(slates), rtol=1e-12)
    assert choice.policy == policy.policy


@each
def test_requests_of_other_sizes_beside_it_change_nothing(name):
    """Ragged: no candidate, one, many; an item that is no candidate; slots that were not logged."""
    policy = make_policy(SPECS[name])
    slates = LoggedSlates(
        offsets=np.array([0, 0, 6, 7]),
        logits=np.append(LOGITS, 3.0),
        row_offsets=np.array([0, 1, 4, 6]),
        place=np.array([-1, 4, -1, 0, 0, -1]),
        slot=np.array([0, 0, 1, 2, 0, 1]),
    )
    alone = LoggedSlates.of_list(LOGITS, np.array([4, -1, 0]))
    for found, of_one in (
        (policy.marginals(slates), policy.marginals(alone)),
        (policy.conditionals(slates), policy.conditionals(alone)),
    ):
        np.testing.assert_allclose(found[1:3], of_one[:2], rtol=1e-12)
        assert found[[0, 2, 5]].tolist() == [0, 0, 0] and found[4] == pytest.approx(1) and np.isfinite(found).all()
    worth = policy.expected(slates, np.ones(7))
    assert worth[0] == 0 and worth[1:5] == pytest.approx(1)


@each
def test_what_is_above_a_slot_must_be_logged(name):
    slates = LoggedSlates(np.array([0, 6]), LOGITS, np.array([0, 1]), np.array([0]), np.array([1]))
    assert make_policy(SPECS[name]).marginals(slates).shape == (1,)
    with pytest.raises(InputError, match="slot 1 in its place"):
        make_policy(SPECS[name]).conditionals(slates)


@pytest.mark.parametrize(
    "spec, said",
    [
        ("softmx@1", "Did you mean `softmax`"),
        ("top@3", "`top` is written `top`"),
        ("epsilon", "written `epsilon@EPSILON,TOP`, and takes 1 to 2"),
        ("epsilon@1.5", r"`epsilon` must lie in \(0, 1\]. Received: 1.5"),
        ("softmax@0", "`temperature` must lie in"),
        ("plackett_luce@1,1", r"`top` must lie in \[2"),
        ("softmax@warm", "must be numbers"),
        ("softmax@nan", "`temperature`"),
    ],
)
def test_what_is_no_policy_is_refused(spec, said):
    with pytest.raises(InputError, match=said):
        make_policy(spec)


@pytest.mark.parametrize(
    "change, said",
    [
        ({"logits": np.array([np.nan, 1.0])}, "needs finite logits"),
        ({"offsets": np.array([0, 3])}, "`offsets` must rise from 0 to 2"),
        ({"place": np.array([2])}, "beyond its request's candidates"),
        ({"slot": np.array([0, 1])}, "places and slots of the same rows"),
    ],
)
def test_slates_that_do_not_fit_are_refused(change, said):
    good = {"offsets": np.array([0, 2]), "logits": np.zeros(2), "row_offsets": np.array([0, 1])}
    with pytest.raises(InputError, match=said):
        LoggedSlates(**(good | {"place": np.zeros(1, int), "slot": np.zeros(1, int)} | change))

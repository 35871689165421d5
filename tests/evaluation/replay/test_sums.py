"""The sums of a log by user: what they hold, what they refuse, and what of them is paired."""

import numpy as np
import pytest

from evaluation.replay.estimators.registry import make_estimator
from evaluation.replay.logged import LoggedRewards
from evaluation.replay.sums import WEIGHTED, UserSums
from features.errors import InputError

USER = np.array([7, 7, -3, 7, -3])
WEIGHT = np.array([2.0, 0.5, 3.0, 0.0, 1.0])
REWARD = np.array([1.0, -2.0, 0.0, 4.0, 0.5])


def make_log(**changes):
    columns = {"user": USER, "request": np.arange(5), "slot": np.zeros(5, int), "reward": REWARD}
    columns |= {"propensity": np.full(5, 0.25), "weights": {"a": WEIGHT, "b": 1 - WEIGHT / 4}}
    return LoggedRewards(**columns | changes)


def test_the_sums_by_hand():
    sums = UserSums.of(make_log()).policy("a")
    assert sums.users.tolist() == [-3, 7] and sums["rows"].tolist() == [2, 3]
    assert sums["requests"].tolist() == [2, 3] and sums["r"].tolist() == [0.5, 3] and sums["rr"].tolist() == [0.25, 21]
    by_hand = {"w": [4, 2.5], "ww": [10, 4.25], "wr": [0.5, 1], "wwr": [0.5, 3.5], "wwrr": [0.25, 5]}
    assert {name: sums[name].tolist() for name in WEIGHTED} == by_hand
    assert sums.largest_weight.tolist() == [3, 2] and sums.total("wr") == 1.5
    assert sums.sums.reward_range == (-2, 4)
    assert UserSums.of(make_log()).policy("b")["w"].tolist() == [1, 2.375]


def test_sums_by_slot():
    log = make_log(request=np.array([0, 0, 1, 2, 3]), slot=np.array([0, 2, 0, 1, 2]))
    sums = UserSums.of(log, [make_estimator("sniips")]).policy("a")
    assert [each.tolist() for each in sums.slot_cells] == [[0, 0, 1, 1, 1], [0, 2, 0, 1, 2]]
    assert sums.by_slot("sniips/slot_w").tolist() == [3, 1, 2, 0, 0.5]
    assert sums.slot_totals("rows").tolist() == [2, 1, 2] and sums["requests"].tolist() == [2, 2]


def test_the_order_of_estimators_and_of_policies_does_not_matter():
    every = [make_estimator(name) for name in ("clipped_ips", "sniips", "clipped_ips")]
    flipped = make_log(weights={"b": 1 - WEIGHT / 4, "a": WEIGHT})
    sums = UserSums.of(make_log(), every)
    merged = sums.merge(UserSums.of(flipped, every[::-1]))
    for name in ("a", "b"):
        for each in every:
            assert each.estimate(merged.policy(name)) == pytest.approx(each.estimate(sums.policy(name)), rel=1e-15)
    assert merged.policy("a").total("rows") == 10


def test_policies_are_paired():
    every = [make_estimator(name) for name in ("ips", "snips")]
    sums = UserSums.of(make_log(), every)
    a, b = sums.policy("a"), sums.policy("b")
    assert np.array_equal(a.users, b.users)
    same = UserSums.of(make_log(weights={"a": WEIGHT, "b": WEIGHT}), every)
    for each in every:
        assert np.array_equal(each.influence(same.policy("a")) - each.influence(same.policy("b")), [0, 0])


def test_many_parts_merge_to_the_bits_of_one_log_each_few_times(monkeypatch):
    log, merges = make_log(), []
    whole, merge = UserSums.of(log), UserSums.merge
    monkeypatch.setattr(UserSums, "merge", lambda self, *others: merges.append(1) or merge(self, *others))
    for count in (1, 3, 5):
        parts = [log.take(np.arange(5) % count == each) for each in range(count)]
        found = UserSums.merged(UserSums.of(part) for part in parts)
        assert np.array_equal(found.users, whole.users) and found.reward_range == whole.reward_range
        for name, limbs in whole.by_user.columns.items():
            assert np.array_equal(found.by_user.columns[name], limbs)
    assert len(merges) == 0 + 2 + 4
    with pytest.raises(InputError, match="no part to merge"):
        UserSums.merged([])


def test_what_was_not_summed_is_refused():
    sums = UserSums.of(make_log())
    with pytest.raises(InputError, match="`c` is not a policy of these sums. Known: a, b"):
        sums.policy("c")
    with pytest.raises(InputError, match="`clipped_ips@100/value` was not summed for `a`"):
        make_estimator("clipped_ips").estimate(sums.policy("a"))
    with pytest.raises(InputError, match="nothing was summed by slot"):
        make_estimator("sniips").estimate(sums.policy("a"))
    with pytest.raises(InputError, match="same policies and the same estimators"):
        sums.merge(UserSums.of(make_log(), [make_estimator("clipped_ips")]))
    with pytest.raises(InputError, match="same policies"):
        sums.merge(UserSums.of(make_log(weights={"a": WEIGHT})))


def test_rewards_too_large_for_the_sums_are_refused():
    with pytest.raises(InputError, match="must be finite and below 2"):
        UserSums.of(make_log(reward=REWARD * 1e9))


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"propensity": np.array([0.5, 0, 1, 1, 1])}, "`propensity` must lie in"),
        ({"propensity": np.array([0.5, 1.5, 1, 1, 1])}, "`propensity` must lie in"),
        ({"reward": np.array([0, np.nan, 1, 1, 1])}, "`reward` must be finite"),
        ({"weights": {"a": np.array([0, -1.0, 1, 1, 1])}}, "`weights/a` must not be negative"),
        ({"weights": {"a": np.ones(4)}}, "`weights/a` must have 5 rows"),
        ({"request": np.array([0, 2, 1, 3, 4])}, "rising `request`"),
        ({"request": np.array([0, 0, 1, 2, 3])}, "each slot once"),
        ({"request": np.array([0, 1, 1, 2, 3]), "slot": np.array([0, 0, 1, 0, 0])}, "one user"),
        ({"slot": np.array([0, -1, 0, 0, 0])}, "count from 0"),
    ],
)
def test_logs_that_cannot_be_are_refused(changes, message):
    with pytest.raises(InputError, match=message):
        make_log(**changes)

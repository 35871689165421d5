"""Every estimator of the table: against a naive loop, merged, unbiased where its assumptions hold and not elsewhere.

A new estimator is tested by being listed; what to add is its naive reference, a world where it is exact, and one where
it is not.
"""

import re
from pathlib import Path

import numpy as np
import pytest

from evaluation.replay.estimators.registry import ESTIMATORS, make_estimator
from evaluation.replay.logged import LoggedRewards
from evaluation.replay.sums import UserSums
from features.errors import InputError
from tests.evaluation.replay.references import REFERENCES, rows_of
from tests.evaluation.replay.worlds import World, independent, plackett_luce

POLICY = "target"
NAMES = list(ESTIMATORS)


def random_log(seed: int, requests: int = 60, users: int = 9, slots: int = 3) -> LoggedRewards:
    """Rows that mean nothing, with every optional column and lists of unequal lengths."""
    generator = np.random.default_rng(seed)
    length = generator.integers(1, slots + 1, requests)
    request = np.repeat(np.arange(requests), length)
    n = len(request)
    one = lambda low=0.0, high=1.0: {POLICY: generator.uniform(low, high, n)}  # noqa: E731
    propensity = generator.uniform(0.05, 1, n)
    target = np.where(generator.random(n) < 0.2, 1.0, generator.random(n) * (generator.random(n) < 0.9))
    return LoggedRewards(
        user=np.repeat(generator.integers(0, users, requests) * 1000 - 4000, length),
        request=request,
        slot=np.concatenate([np.arange(each) for each in length]),
        reward=generator.normal(size=n),
        propensity=propensity,
        weights={POLICY: target / propensity, "other": generator.random(n)},
        **{
            name: one() | {"other": generator.random(n)}
            for name in ("q_logged", "q_expected", "cluster_weights", "balanced_weights", "cascade_weights")
        },
        placements={name: generator.random((n, slots)) for name in (POLICY, "other")},
        logger_placements=generator.uniform(0.1, 1, (n, slots)),
        behavior=np.repeat(generator.integers(0, 3, requests), length),
        examination=np.array([1.0, 0.6, 0.3]),
    )


# Worlds in which estimators are exact, and worlds in which an assumption of theirs is broken.

ONE_SLOT_LOGGERS = [plackett_luce([1, 2, 3, 4], 1), plackett_luce([4, 3, 2, 1], 1)]
ONE_SLOT_POLICIES = [plackett_luce([5, 1, 1, 3], 1), plackett_luce([1, 1, 0, 8], 1)]


def item_reward(context, shown, slot):
    return 0.1 + 0.2 * shown[slot] + 0.3 * context * (shown[slot] == 3)


ONE = World(ONE_SLOT_LOGGERS, ONE_SLOT_POLICIES, item_reward)
UNSUPPORTED = World([plackett_luce([0, 2, 3, 4], 1)] * 2, ONE_SLOT_POLICIES, item_reward)
CLUSTERED = World(
    UNSUPPORTED.loggers, ONE_SLOT_POLICIES, lambda x, shown, slot: 0.2 + 0.5 * (shown[slot] > 1) + 0.1 * x
)
SURE = [{(1,): plackett_luce([0, 1], 1)[(1,)]}, {(3,): plackett_luce([0, 0, 0, 1], 1)[(3,)]}]
UNIFORM = World([plackett_luce([1, 1, 1, 1], 1)] * 2, SURE, item_reward)
UNEVEN = World([plackett_luce([1, 5, 1, 1], 1), plackett_luce([3, 3, 1, 1], 1)], SURE, item_reward)
MODELLED = World(ONE_SLOT_LOGGERS, ONE_SLOT_POLICIES, item_reward, lambda x, item, slot: item_reward(x, (item,), 0))

LIST_LOGGERS = [plackett_luce([3, 2, 1, 1], 2), plackett_luce([1, 2, 2, 1], 2)]
LIST_POLICIES = [plackett_luce([1, 1, 4, 1], 2), plackett_luce([5, 0, 1, 1], 2)]


def slot_reward(context, shown, slot):
    return (0.1 + 0.2 * shown[slot] + 0.1 * context) / (1 + slot)


def cascade_reward(context, shown, slot):
    return slot_reward(context, shown, slot) * (1.0 if slot == 0 or shown[0] < 2 else 0.2)


def whole_reward(context, shown, slot):
    return cascade_reward(context, shown, slot) * (1.0 if shown[-1] != 3 else 0.3)


def mixed_reward(context, shown, slot):
    return (slot_reward, whole_reward)[context](context, shown, slot)


def seen_reward(context, shown, slot):
    return (0.2 + 0.3 * (shown[slot] + context == 2)) / (1 + slot)  # as `examination` of the worlds


SLOTS, CASCADE, WHOLE, MIXED, SEEN = (
    World(LIST_LOGGERS, LIST_POLICIES, reward)
    for reward in (slot_reward, cascade_reward, whole_reward, mixed_reward, seen_reward)
)
PRODUCT_POLICIES = [independent([1, 1, 1, 3], [2, 1, 0, 1]), independent([1, 0, 0, 2], [1, 1, 1, 1])]
PRODUCT = World([independent([1, 2, 1, 2], [2, 1, 1, 2])] * 2, PRODUCT_POLICIES, slot_reward)
PRODUCT_WHOLE = World(PRODUCT.loggers, PRODUCT_POLICIES, whole_reward)
#: `interpol@1` of two slots is the position-based model; far slots need a third.
LONG = World([plackett_luce([3, 2, 1, 1], 3)] * 2, [plackett_luce([1, 1, 5, 1], 3)] * 2, seen_reward)

EXACT = {
    "replay": ("replay", UNIFORM),
    "ips": ("ips", ONE),
    "snips": ("snips", ONE),
    "clipped_ips": ("clipped_ips@1e6", ONE),
    "sub_gaussian_ips": ("sub_gaussian_ips@0", ONE),
    "balanced_ips": ("balanced_ips", ONE),
    "mips": ("mips", CLUSTERED),
    "snmips": ("snmips", CLUSTERED),
    "dm": ("dm", MODELLED),
    "dr": ("dr", ONE),
    "sndr": ("sndr", ONE),
    "switch_dr": ("switch_dr@1e6", ONE),
    "shrunk_dr": ("shrunk_dr@1e15", ONE),
    "clipped_dr": ("clipped_dr@1e6", ONE),
    "sub_gaussian_dr": ("sub_gaussian_dr@0", ONE),
    "sips": ("sips", WHOLE),
    "iips": ("iips", SLOTS),
    "rips": ("rips", CASCADE),
    "snsips": ("snsips", WHOLE),
    "sniips": ("sniips", SLOTS),
    "snrips": ("snrips", CASCADE),
    "cascade_dr": ("cascade_dr", CASCADE),
    "pi": ("pi", PRODUCT),
    "pi_cv": ("pi_cv", PRODUCT),
    "adaptive": ("adaptive", MIXED),
    "pbm": ("pbm", LONG),
    "interpol": ("interpol@1", LONG),
}
BROKEN = {
    "replay": ("replay", UNEVEN),
    **{name: (name, UNSUPPORTED) for name in ("ips", "snips", "balanced_ips", "dr", "sndr")},
    "clipped_ips": ("clipped_ips@1", ONE),
    "sub_gaussian_ips": ("sub_gaussian_ips@0.5", ONE),
    "mips": ("mips", UNSUPPORTED),
    "snmips": ("snmips", UNSUPPORTED),
    "dm": ("dm", ONE),
    "switch_dr": ("switch_dr@1", ONE),
    "shrunk_dr": ("shrunk_dr@1", ONE),
    "clipped_dr": ("clipped_dr@1", ONE),
    "sub_gaussian_dr": ("sub_gaussian_dr@0.5", ONE),
    "sips": ("sips", World([plackett_luce([0, 2, 1, 1], 2)] * 2, LIST_POLICIES, whole_reward)),
    "snsips": ("snsips", World([plackett_luce([0, 2, 1, 1], 2)] * 2, LIST_POLICIES, whole_reward)),
    **{name: (name, CASCADE) for name in ("iips", "sniips", "pbm", "interpol")},
    **{name: (name, WHOLE) for name in ("rips", "snrips", "cascade_dr")},
    **{name: (name, PRODUCT_WHOLE) for name in ("pi", "pi_cv")},
    "adaptive": ("adaptive", World(LIST_LOGGERS, LIST_POLICIES, whole_reward)),
}
BEHAVIOR = [0, 2]


def estimate_in(world, name):
    log, estimator = world.log(behavior=BEHAVIOR), make_estimator(name)
    return estimator.estimate(UserSums.of(log, [estimator]).policy(POLICY))


@pytest.mark.parametrize("name", NAMES)
def test_it_equals_a_loop_over_rows(name):
    # Clips, limits and shrinkages at a value that changes about half of the weights.
    kind, log = ESTIMATORS[name], random_log(3)
    for estimator in (kind(), kind() if kind.default is None else kind(0.5 if "gaussian" in name else 1.0)):
        sums = UserSums.of(log, [estimator])
        found = estimator.estimate(sums.policy(POLICY))
        assert found == pytest.approx(REFERENCES[name](rows_of(log), estimator.parameter), rel=1e-10)
        assert estimator.estimate(sums.policy("other")) != found


@pytest.mark.parametrize("name", NAMES)
def test_its_expectation_is_the_truth_where_its_assumptions_hold(name):
    variant, world = EXACT[name]
    assert estimate_in(world, variant) == pytest.approx(world.truth, abs=1e-9)


@pytest.mark.parametrize("name", NAMES)
def test_its_expectation_is_not_the_truth_where_one_is_broken(name):
    variant, world = BROKEN[name]
    assert abs(estimate_in(world, variant) - world.truth) > 0.004


@pytest.mark.parametrize("name", NAMES)
def test_its_influence_is_what_the_estimate_loses_with_a_user(name):
    """V − V without u = ψ_u U / (U − 1) but for terms of second order: a hundredth of users makes them a hundredth."""
    estimator, log = make_estimator(name), random_log(5, requests=4000, users=400)
    sums = UserSums.of(log, [estimator]).policy(POLICY)
    influence, value = estimator.influence(sums), estimator.estimate(sums)
    scale = np.abs(influence).max()
    assert influence.shape == sums.users.shape and abs(influence.sum()) < 1e-9 * scale * len(influence)
    for user in np.argsort(-np.abs(influence))[:5]:
        left = UserSums.of(log.take(log.user != sums.users[user]), [estimator]).policy(POLICY)
        assert value - estimator.estimate(left) == pytest.approx(influence[user], abs=0.06 * scale)


def test_parts_in_any_order_make_the_same_bits():
    """All estimators at once; users are torn apart, requests are not."""
    log, every = random_log(11, requests=200), [make_estimator(name) for name in NAMES]
    whole = UserSums.of(log, every)
    for seed in range(3):
        generator = np.random.default_rng(seed)
        parts = [
            UserSums.of(log.take(np.isin(log.request, requests)), every)
            for requests in np.array_split(generator.permutation(200), 7)
        ]
        while len(parts) > 1:  # merged two or three at a time, in a random tree
            taken = [parts.pop(generator.integers(len(parts))) for _ in range(min(len(parts), 2 + seed % 2))]
            parts.append(taken[0].merge(*taken[1:]))
        merged = parts[0]
        assert np.array_equal(merged.users, whole.users) and merged.reward_range == whole.reward_range
        for table, other in ((merged.by_user, whole.by_user), (merged.by_slot, whole.by_slot)):
            assert np.array_equal(table.user, other.user) and np.array_equal(table.slot, other.slot)
            assert all(np.array_equal(table.columns[each], other.columns[each]) for each in other.columns)
        assert all(np.array_equal(merged.largest[each], whole.largest[each]) for each in whole.policies)
        for estimator in every:
            assert estimator.estimate(merged.policy(POLICY)) == estimator.estimate(whole.policy(POLICY))


@pytest.mark.parametrize("name", NAMES)
def test_a_log_without_what_it_needs_is_refused_or_enough(name):
    log, estimator = random_log(7), make_estimator(name)
    bare = LoggedRewards(log.user, log.request, log.slot, log.reward, log.propensity, log.weights)
    plain = ("replay", "ips", "snips", "clipped_ips", "sub_gaussian_ips", "iips", "sniips", "pi", "pi_cv")
    if name in plain:
        assert np.isfinite(estimator.estimate(UserSums.of(bare, [estimator]).policy(POLICY)))
    else:
        with pytest.raises(InputError, match=f"`{name}` needs `"):
            UserSums.of(bare, [estimator])


@pytest.mark.parametrize("name", NAMES)
def test_an_empty_log_has_no_estimate(name):
    log, estimator = random_log(7), make_estimator(name)
    sums = UserSums.of(log.take(np.zeros(len(log), bool)), [estimator]).policy(POLICY)
    assert np.isnan(estimator.estimate(sums)) and estimator.influence(sums).shape == (0,)
    assert all(np.isnan(value) or value == 0 for value in estimator.diagnose(sums).values())


@pytest.mark.parametrize("name", NAMES)
def test_its_diagnosis_is_of_its_weights(name):
    log, estimator = random_log(7), make_estimator(name)
    found = estimator.diagnose(UserSums.of(log, [estimator]).policy(POLICY))
    if name != "dm":
        assert 1 <= found["effective_rows"] <= len(log) and 0 <= found["changed_share"] <= 1
        assert np.isfinite(found["mean_weight"])


@pytest.mark.parametrize("name", NAMES)
def test_names_read_back(name):
    kind = ESTIMATORS[name]
    assert kind.name == name and make_estimator(make_estimator(name).key).key == make_estimator(name).key
    if kind.default is None:
        with pytest.raises(InputError, match="has no parameter"):
            make_estimator(f"{name}@3")
    else:
        assert make_estimator(f"{name}@0.25").number == 0.25
        for number in ("-1", "nan", *(["1.5"] if kind.highest == 1 else [])):
            with pytest.raises(InputError, match=r"needs a parameter in \[0, "):
                make_estimator(f"{name}@{number}")


def test_unknown_names_are_refused_with_the_nearest():
    with pytest.raises(InputError, match="`snip` is not an estimator. Did you mean `snips`"):
        make_estimator("snip")
    with pytest.raises(InputError, match="must be a number"):
        make_estimator("clipped_ips@many")


def test_the_tables_of_this_file_are_those_of_the_registry():
    assert set(NAMES) == set(REFERENCES) == set(EXACT) == set(BROKEN)


def test_every_estimator_is_a_row_of_the_reference_page():
    page = Path(__file__).parents[2] / "docs" / "reference" / "replay" / "estimators.md"
    assert re.findall(r"^\| `(\w+)`", page.read_text("utf-8"), re.MULTILINE) == NAMES

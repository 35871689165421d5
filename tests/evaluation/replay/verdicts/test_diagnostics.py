"""Diagnostics: every one passes a sound log, and each known failure of an estimator is found by one of them."""

from dataclasses import replace

import numpy as np
import pytest

from benchmarks.replay import replay_effects, replay_failures
from benchmarks.replay.worlds import SCENARIOS, World
from evaluation.replay.diagnostics.diagnostic import Evidence
from evaluation.replay.diagnostics.registry import DIAGNOSTICS, diagnose
from evaluation.replay.diagnostics.strata import StrataSums
from evaluation.replay.diagnostics.weights import contributions, pareto_shape
from evaluation.replay.estimators.registry import make_estimator
from evaluation.replay.sums import UserSums
from features.errors import InputError
from tests.evaluation.replay.verdicts.logs import log

ROWS = 4000
SNIPS = make_estimator("snips")


def evidence(rows, estimator=SNIPS, day=None, candidates=20, **more) -> Evidence:
    known = np.full(len(rows), candidates)
    strata = {"slot": StrataSums.of(rows, rows.slot, known)}
    if day is not None:
        strata["day"] = StrataSums.of(rows, day, known)
    return Evidence(UserSums.of(rows, [estimator]).policy(rows.policies[0]), estimator, strata, **more)


def modelled(rows, world: World, draw):
    """The log with what a model, drawn at random, expects of the candidate."""
    model = np.random.default_rng(5).uniform(0.1, 0.5, world.reward.shape)
    expected = (world.policy[0] * model).sum(axis=1)[draw.context]
    return replace(rows, q_logged={"candidate": model[draw.context, draw.action]}, q_expected={"candidate": expected})


def failed(found: Evidence, **bounds) -> set[str]:
    return {each.name for each in diagnose(found, bounds) if not each.passed}


def uniform(seed=0, rows=ROWS, items=20):
    """Propensities of a uniform logger, and weights of a policy that likes some items thrice as much as others."""
    rng = np.random.default_rng(seed)
    liked = rng.integers(0, items, rows) < items // 2
    return np.full(rows, 1 / items), np.where(liked, 1.5, 0.5), (rng.random(rows) < 0.3).astype(float)


@pytest.fixture(scope="module")
def sound() -> dict[str, Evidence]:
    """A log that nothing is wrong with, by an estimator that clips and one that does not."""
    world = World(SCENARIOS["independent"])
    draw = world.draw(0)
    rows = modelled(world.logged(draw), world, draw)
    day = np.arange(len(rows)) % 7
    more = {"unsupported": 0.0, "positions": 1, "users_by_variant": {"a": 510, "b": 490}, "shares": {"a": 1, "b": 1}}
    rows = replace(rows, balanced_weights=rows.weights)
    kinds = (make_estimator("clipped_ips"), SNIPS, make_estimator("balanced_ips"))
    clipping, plain, balanced = (evidence(rows, kind, day, classifier_error=0.01, **more) for kind in kinds)
    return dict.fromkeys(DIAGNOSTICS, clipping) | {"weight_tail": plain, "classifier": balanced}


@pytest.mark.parametrize("name", DIAGNOSTICS)
def test_a_sound_log_passes_and_says_nothing(sound, name):
    found = DIAGNOSTICS[name].judge(sound[name])
    assert found.passed and found.value is not None and not found.reason and not found.remedy


@pytest.mark.parametrize("name", DIAGNOSTICS)
def test_beyond_its_bound_each_says_why_and_what_would_lift_it(sound, name):
    each = DIAGNOSTICS[name]
    bound = each.measure(sound[name]) + (1e-6 if each.at_least else -1e-6)
    found = each.judge(sound[name], bound)
    assert not found.passed and found.reason.endswith(".") and found.remedy.endswith(".") and found.bound == bound
    assert "{" not in found.reason and found.policy == "candidate"


def test_what_is_not_there_is_not_looked_at():
    propensity, weight, reward = uniform()
    bare = Evidence(UserSums.of(log(weight, reward, propensity=propensity)).policy("a"), SNIPS)
    names = {each.name for each in diagnose(bare)}
    assert names == {"mean_weight", "effective_sample", "largest_share", "contributions", "weight_tail"}


def test_no_overlap_is_found():
    """The policy shows half of its items where the logger has none: what is left of its weights has mean 1/2."""
    propensity, weight, reward = uniform()
    assert "mean_weight" in failed(evidence(log(np.where(weight > 1, 1.0, 0.0), reward, propensity=propensity)))
    assert failed(evidence(log(weight, reward, propensity=propensity), unsupported=0.5)) == {"unsupported"}


def test_wrong_propensities_are_found():
    """The logger was not uniform, as it said, but showed liked items in nine rows of ten."""
    rng = np.random.default_rng(1)
    weight = np.where(rng.random(ROWS) < 0.9, 1.5, 0.5)
    rows = log(weight, rng.random(ROWS) < 0.3, propensity=np.full(ROWS, 1 / 20))
    assert {"mean_weight", "stratum_weight"} <= failed(evidence(rows))


def test_a_logger_that_likes_what_earns_and_did_not_say_so_is_found_by_the_model_alone():
    """Weights of its rows still have mean 1, since the policy has other tastes."""
    world = World(SCENARIOS["independent"])
    draw = world.draw(0, 20_000)
    rows = modelled(world.logged(draw), world, draw)
    keep = np.random.default_rng(6).random(len(rows)) < rows.q_logged["candidate"] / 0.5
    assert failed(evidence(rows)) == set()
    assert failed(evidence(rows.take(keep))) == {"balance"}
    assert "balance" not in {each.name for each in diagnose(evidence(replace(rows, q_logged={}, q_expected={})))}


@pytest.mark.parametrize("name", replay_failures.ESTIMATORS)
def test_where_an_estimator_fails_its_verdict_is_withheld(name):
    """Short form of `python -m benchmarks replay_failures`."""
    found = replay_failures.replayed(replay_failures.failures()[name], replay_failures.ESTIMATORS[name], range(3))
    assert {each: row["withheld"] for each, row in found.items()} == dict.fromkeys(found, 3)
    assert sum(row["held"] for row in found.values()) < 0.5 * 3 * len(found)


def test_propensities_of_another_scale_are_found():
    propensity, weight, reward = uniform()
    assert "calibration" in failed(evidence(log(weight, reward, propensity=propensity / 1.3)))
    assert "calibration" not in failed(evidence(log(weight, reward, propensity=propensity)))


def test_one_row_that_makes_the_sum_of_inverse_propensities_is_found():
    propensity, weight, reward = uniform()
    propensity[0] = 1e-6
    assert "calibration" in failed(evidence(log(weight, reward, propensity=propensity)))


def test_a_logger_that_changed_inside_the_window_is_found():
    propensity, weight, reward = uniform()
    day = np.arange(ROWS) * 6 // ROWS
    changed = np.where(day < 3, propensity, 2 * propensity)
    assert "drift" in failed(evidence(log(weight, reward, propensity=changed), day=day))
    assert "drift" not in failed(evidence(log(weight, reward, propensity=propensity), day=day))


def test_a_slot_whose_weights_are_wrong_is_found_by_its_stratum():
    """Where position is ignored, weights are right in one slot and wrong in another."""
    propensity, weight, reward = uniform()
    slot = np.arange(ROWS) % 2
    rows = log(np.where(slot == 1, 1.5 * weight, 0.5 * weight), reward, slot=slot, propensity=propensity)
    assert failed(evidence(rows)) & {"stratum_weight", "mean_weight"} == {"stratum_weight"}


def test_slots_that_were_never_logged_are_found():
    propensity, weight, reward = uniform()
    assert failed(evidence(log(weight, reward, propensity=propensity), positions=4)) == {"positions"}


def test_few_rewards_few_users_and_heavy_weights_are_found():
    propensity, weight, reward = uniform()
    rare = log(weight, np.arange(ROWS) < 5, propensity=propensity)
    assert failed(evidence(rare)) == {"contributions"}
    tail = np.random.default_rng(2).pareto(1.05, ROWS)
    assert {"weight_tail", "effective_sample", "largest_share"} <= failed(evidence(log(tail, reward)))
    assert "effective_sample" in failed(evidence(log(weight[:250], reward[:250], propensity=propensity[:250])))


def test_few_different_weights_in_a_large_log_are_no_tail():
    """The largest 500 of 32,000 users' weights are eight values, to which a tail of shape 1 seems to fit."""
    world = World(replace(replay_effects.PLANTED, rows=130_000)).planted(0.02)
    found = [failed(Evidence(UserSums.of(world.log(seed)).policy("baseline"), SNIPS)) for seed in (1, 2)]
    assert found == [set(), set()]


def test_what_is_clipped_is_found_and_a_model_alone_is_all_clipped():
    propensity, weight, reward = uniform()
    rows = log(weight, reward, propensity=propensity)
    assert "clipped_share" in failed(evidence(rows, make_estimator("clipped_ips@1")))
    assert "clipped_share" not in failed(evidence(rows, make_estimator("clipped_ips@2")))


def test_uneven_variants_are_found():
    propensity, weight, reward = uniform()
    uneven = {"users_by_variant": {"a": 2200, "b": 1800}, "shares": {"a": 1, "b": 1}}
    assert failed(evidence(log(weight, reward, propensity=propensity), **uneven)) == {"sample_ratio"}


def test_bounds_can_be_declared_anew_and_misspelt():
    propensity, weight, reward = uniform()
    found = evidence(log(weight, reward, propensity=propensity))
    assert failed(found, effective_sample=1e6) == {"effective_sample"}
    with pytest.raises(InputError, match="Did you mean `effective_sample`"):
        diagnose(found, {"efective_sample": 1})


@pytest.mark.parametrize("shape", [-0.3, 0.2, 0.8])
def test_the_shape_of_a_pareto_tail_is_found(shape):
    uniform_draws = np.random.default_rng(3).random(20_000)
    excess = np.sort((uniform_draws**-shape - 1) / shape)
    assert pareto_shape(excess) == pytest.approx(shape, abs=0.05)
    assert pareto_shape(np.zeros(20)) == -np.inf


def test_contributions_count_equal_users():
    assert contributions(np.array([1.0, -1.0, 1.0, -1.0, 0.0])) == pytest.approx(4)
    assert contributions(np.zeros(3)) is None


def test_strata_merge_in_any_order_to_the_same_bits():
    rows = World(SCENARIOS["softmax"]).log(0)
    day = np.arange(len(rows)) % 5
    order = np.random.default_rng(4).permutation(len(rows))
    known = np.full(len(rows), 20)

    def part(chosen):
        chosen = np.sort(chosen)
        names = {name: weight[chosen] for name, weight in rows.weights.items()}
        columns = (rows.user, rows.request, rows.slot, rows.reward, rows.propensity)
        return StrataSums.of(type(rows)(*(column[chosen] for column in columns), names), day[chosen], known[chosen])

    whole, parts = part(order), [part(each) for each in np.array_split(order, 3)]
    for merged in (parts[0].merge(*parts[1:]), parts[2].merge(parts[0]).merge(parts[1])):
        for name, limbs in whole.table.columns.items():
            np.testing.assert_array_equal(merged.table.columns[name], limbs)

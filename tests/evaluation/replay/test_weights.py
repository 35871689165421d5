"""Weights of lists and clusters by hand; examination recovered from a random logger."""

import numpy as np
import pytest

from evaluation.replay.estimators.registry import make_estimator
from evaluation.replay.logged import LoggedRewards
from evaluation.replay.sums import UserSums
from evaluation.replay.weights import cascade_weights, cluster_weights, examination, whole_list
from features.errors import InputError
from tests.evaluation.replay.worlds import World, plackett_luce


def test_weights_multiply_down_a_list():
    request = np.array([0, 0, 0, 1, 2, 2])
    found = cascade_weights(request, np.array([2.0, 3, 0.5, 7, 0, 4]))
    assert found.tolist() == [2, 6, 3, 7, 0, 0]
    assert cascade_weights(np.empty(0, int), np.empty(0)).shape == (0,)
    log = LoggedRewards(
        request, request, np.array([0, 1, 2, 0, 0, 1]), np.zeros(6), np.ones(6), {"a": np.ones(6)},
        cascade_weights={"a": found},
    )  # fmt: skip
    assert whole_list(log, "a", "it").tolist() == [3, 3, 3, 7, 0, 0]


def test_a_cluster_weighs_what_its_candidates_weigh_together():
    request, cluster = np.array([5, 5, 5, 4, 4]), np.array([1, 0, 1, 1, 1])
    target, logger = np.array([0.1, 0.2, 0.7, 1.0, 0.0]), np.array([0.3, 0.6, 0.1, 0.5, 0.5])
    shown = np.array([True, True, False, False, True])
    found = cluster_weights(request, cluster, shown, target, logger)
    assert found == pytest.approx([0.8 / 0.4, 0.2 / 0.6, 1.0])


def test_examination_is_found_from_the_loggers_own_swaps():
    seen = np.array([1.0, 0.45, 0.2])
    loggers = [plackett_luce([1, 1, 2, 5], 3), plackett_luce([1, 1, 4, 6], 3)]
    world = World(loggers, loggers, lambda context, shown, slot: seen[slot] * (0.1 + 0.3 * shown[slot] + context))
    assert examination(world.log()) == pytest.approx(seen, rel=1e-12)
    naive = [world.log().reward[world.log().slot == slot].mean() for slot in range(3)]
    assert abs(naive[1] / naive[0] - seen[1]) > 0.01  # the logger puts the better items first


def test_a_slot_without_a_shared_item_has_no_examination():
    world = World([plackett_luce([1], 1)], [plackett_luce([1], 1)], lambda *_: 1.0)
    log = world.log()
    placed = np.array([[1.0, 0.0]] * len(log))
    changed = LoggedRewards(
        log.user, log.request, log.slot, log.reward, log.propensity, log.weights, logger_placements=placed
    )
    found = examination(changed)
    assert found[0] == 1 and np.isnan(found[1])
    with pytest.raises(InputError, match="needs `logger_placements`"):
        examination(LoggedRewards(log.user, log.request, log.slot, log.reward, log.propensity, log.weights))


def test_windows_lead_from_slots_alone_to_the_position_based_model():
    logger = plackett_luce([3, 2, 1, 1], 3)
    log = World([logger], [plackett_luce([1, 1, 5, 1], 3)], lambda _, shown, slot: shown[slot] + slot**2).log()
    every = {name: make_estimator(name) for name in ("interpol@0", "interpol@1", "interpol@2", "iips", "pbm")}
    sums = UserSums.of(log, every.values()).policy("target")
    found = {name: each.estimate(sums) for name, each in every.items()}
    assert found["interpol@0"] == pytest.approx(found["iips"], rel=1e-12)
    assert found["interpol@2"] == pytest.approx(found["pbm"], rel=1e-12)
    assert len({round(value, 6) for value in found.values()}) == 3

"""What simulated users clicked before the log, and what follows from it in the log."""

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from features.datasets.simulator.catalogue import DAY_MS, draw_items, draw_users
from features.datasets.simulator.config import ItemTree
from features.datasets.simulator.marketplace import SimulatorConfig, simulate
from features.datasets.simulator.past import FOCUS_CHANGES, FOCUS_IS_OWN, draw_past

TREE, DAYS = ItemTree(), 365


@pytest.fixture(scope="module")
def world():
    rng = np.random.default_rng(3)
    items = draw_items(rng, TREE, 2 * TREE.num_niches, 14, 1.0, DAYS)
    users = draw_users(rng, TREE, 2_000, 1.0)
    return items, users, draw_past(np.random.default_rng(4), users, items, DAYS, 60.0, 0.0)


def test_a_year_of_items_that_were_there(world):
    items, _, past = world
    assert -DAYS * DAY_MS <= past.timestamp.min() < (1 - DAYS) * DAY_MS < -DAY_MS < past.timestamp.max() < 0
    assert (items.release_day[past.item] <= past.timestamp // DAY_MS).all()
    assert (np.diff(past.user) >= 0).all()
    assert (np.diff(past.timestamp)[np.diff(past.user) == 0] > 0).all()


def test_half_of_the_users_have_a_long_history(world):
    _, users, past = world
    count = np.bincount(past.user, minlength=len(users))
    assert 50 < np.median(count) < 70
    active = users.activity > np.median(users.activity)
    assert np.median(count[active]) > 1.5 * np.median(count[~active])


def test_clicks_are_after_the_users_own_interests(world):
    items, users, past = world
    own = users.interests[past.user, items.cluster[past.item]]
    anywhere = users.interests.mean(axis=1)[past.user].mean()
    # A focus is one of the interests four times in five, and else one of them by chance.
    assert own.mean() == pytest.approx(FOCUS_IS_OWN + (1 - FOCUS_IS_OWN) * anywhere, abs=0.01)
    with_niches = own & users.niches.reshape(len(users), -1, TREE.niches_per_cluster)[
        past.user, items.cluster[past.item]
    ].any(axis=1)
    assert users.niches[past.user, items.niche[past.item]][with_niches].all()
    same = np.diff(items.cluster[past.item])[np.diff(past.user) == 0] == 0
    assert same.mean() > 1 - FOCUS_CHANGES


@pytest.mark.parametrize("drift", [0.0, 1.0])
def test_interests_drift(world, drift):
    items, users, _ = world
    past = draw_past(np.random.default_rng(5), users, items, DAYS, 60.0, drift)
    own = users.interests[past.user, items.cluster[past.item]]
    early, late = past.timestamp < -300 * DAY_MS, past.timestamp > -60 * DAY_MS
    # Interests move on a day that is uniform: between the middles of the two spans lie 302 of the 365 days.
    foreign = 1 - users.interests.mean(axis=1)[past.user].mean()
    expected = drift * 302 / 365 * FOCUS_IS_OWN * foreign
    assert own[late].mean() - own[early].mean() == pytest.approx(expected, abs=0.02)


def test_the_last_click_of_a_niche(world):
    items, users, past = world
    last = past.last_click_of_niches(items.niche, len(users), TREE.num_niches).reshape(len(users), -1)
    for user in (0, 7, 1_999):
        expected = np.full(TREE.num_niches, -1)
        for number, item in enumerate(past.item[past.user == user]):
            expected[items.niche[item]] = number
        np.testing.assert_array_equal(last[user], expected)


def test_the_table_holds_the_past_and_the_log(tmp_path):
    config = SimulatorConfig(impressions=20_000, seed=1, history_days=DAYS)
    summary = simulate(config, tmp_path / "log")
    behaviors, clicks = pq.read_table(tmp_path / "log" / "behaviors"), pq.read_table(tmp_path / "log" / "clicks")
    before = pc.sum(pc.less(behaviors["timestamp"], config.start)).as_py()
    assert before == summary.behaviors_before_the_log > 10_000
    assert len(behaviors) - before == summary.clicked_impressions
    times = clicks.filter(pc.equal(clicks["label"], "click"))["timestamp"].to_pylist()
    assert set(times) >= set(behaviors["timestamp"].to_pylist()[before:])
    truth = pq.read_table(tmp_path / "log" / "truth")
    assert truth["behaviors_before"].to_numpy().min() >= 0
    without = simulate(config.model_copy(update={"history_days": 0}), tmp_path / "without")
    assert summary.long_term_share > 3 * without.long_term_share
    assert not (tmp_path / "without" / "behaviors").exists()

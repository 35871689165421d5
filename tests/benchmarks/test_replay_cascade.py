"""The world of the cascade's truth: true values are those of every list, and a log of it is what the policies say."""

import argparse
import itertools

import numpy as np
import pytest

from benchmarks.replay import replay_cascade
from benchmarks.replay.replay_cascade import POLICIES, SLOTS, Pool


@pytest.fixture(scope="module")
def pool():
    """Requests of five users with four candidates; the baseline lists no more than three of them."""
    rng = np.random.default_rng(0)
    logits = dict(zip(POLICIES, rng.normal(size=(2, 12, 4)), strict=True))
    logits["baseline"][:, 1] = np.nan
    return Pool(
        user=np.arange(12) % 5,
        items=rng.integers(0, 100, (12, 4)),
        logger=rng.normal(size=(12, 4)),
        logits=logits,
        attraction=rng.uniform(0.1, 0.9, (12, 4)),
        examination=np.array([1.0, 0.7, 0.5]),
    )


def test_true_values_are_those_of_every_list(pool):
    found = replay_cascade.true_values(pool, 0.5)
    for name, at in itertools.product(POLICIES, (0, 7)):
        rates = np.nan_to_num(np.exp(pool.logits[name][at] / 0.5))
        value = 0.0
        for shown in itertools.permutations(np.flatnonzero(rates), SLOTS):
            left, chance = rates.sum(), 1.0
            for item in shown:
                chance, left = chance * rates[item] / left, left - rates[item]
            value += chance * (pool.examination * pool.attraction[at, list(shown)]).sum()
        assert found[name][at] == pytest.approx(value, rel=1e-6)


def test_worlds_are_replayed_and_judged(pool):
    options = argparse.Namespace(users=200, temperature=2.0, logger=1.0)
    worlds = [replay_cascade.replayed(pool, options, seed) for seed in range(3)]
    found = replay_cascade.judge(pool, replay_cascade.true_values(pool, 2.0), worlds)
    assert found["covers"].keys() == set(replay_cascade.ESTIMATORS) and found["covers"]["snips"] > 0.3
    assert found["mean"]["ips"] == pytest.approx(found["truth"]["difference"], abs=0.15)
    assert found["mean"]["rips"] == pytest.approx(SLOTS * found["mean"]["ips"])

"""Who gets which variant: alike in every process, evenly, independently between salts, and with few moves."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluation.replay.experiment.sample_ratio import sample_ratio
from features.errors import InputError
from serving.experiments.assignment import Experiments
from serving.experiments.config import NUM_BUCKETS, ExperimentsConfig
from serving.experiments.user_buckets import NOBODY, BucketHash, owners

ROOT = Path(__file__).parents[3]

#: Written down once: another stack, another machine and the next version of this code must give the same.
KNOWN = {"u7": 755, "7": 6833, 7: 2307, -1: 2623, 2**63: 6182, "": 6680, "Łódź": 6323, "a\x00": 40}

SHARES = st.dictionaries(st.sampled_from("abcde"), st.integers(0, 2000), min_size=1)


def experiments(**layer) -> Experiments:
    values = {"name": "ranker", "salt": "s1", "variants": [{"name": "a", "share": 5000}, {"name": "b", "share": 5000}]}
    return Experiments(ExperimentsConfig.parse({"layers": [values | layer]}))


def test_buckets_are_those_that_were_written_down():
    hashed = BucketHash("pinned")
    assert {user: hashed.bucket(user) for user in KNOWN} == KNOWN


def test_buckets_are_the_same_in_another_process():
    users = [f"u{i}" for i in range(300)] + list(range(300))
    code = (
        "import sys, json\nfrom serving.experiments.user_buckets import BucketHash\n"
        "print(BucketHash('s').buckets(json.load(sys.stdin)).tolist())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], input=json.dumps(users), capture_output=True, text=True, check=True, cwd=ROOT,
        env={"PYTHONHASHSEED": "12345"},
    )  # fmt: skip
    assert json.loads(done.stdout) == BucketHash("s").buckets(users).tolist()


@pytest.mark.parametrize("count", [100_000, pytest.param(1_000_000, marks=pytest.mark.slow)])
def test_buckets_are_even_and_independent_between_salts(count):
    """The shares within .1 % of all users (below a million: within four standard errors), and χ² of two layers."""
    found = [BucketHash(salt).buckets(range(count)) for salt in ("first", "second")]
    halves = [buckets * 10 // NUM_BUCKETS for buckets in found]
    for buckets, tenths in zip(found, halves, strict=True):
        bound = max(0.001, 4 * np.sqrt(0.09 / count)) if count < 1_000_000 else 0.001
        assert np.abs(np.bincount(tenths, minlength=10) / count - 0.1).max() < bound
        each = np.bincount(buckets, minlength=NUM_BUCKETS)
        assert sample_ratio(dict(enumerate(each.tolist())), dict.fromkeys(range(NUM_BUCKETS), 1)).p_value > 1e-4
    both = np.bincount(halves[0] * 10 + halves[1], minlength=100)
    assert sample_ratio(dict(enumerate(both.tolist())), dict.fromkeys(range(100), 1)).p_value > 1e-4
    # What the test would say of one salt used twice, and of a few users too many in one place.
    twice = np.bincount(halves[0] * 11, minlength=100)
    assert sample_ratio(dict(enumerate(twice.tolist())), dict.fromkeys(range(100), 1)).p_value < 1e-12


def test_strings_and_integers_are_different_users():
    hashed = BucketHash("s")
    assert np.mean([hashed.bucket(i) == hashed.bucket(str(i)) for i in range(10_000)]) < 0.01
    for user in (True, 1.0, None, b"u", ["u"], "\ud800"):
        with pytest.raises(InputError, match="`user` "):
            hashed.bucket(user)


@settings(max_examples=40, deadline=None)
@given(st.lists(SHARES, min_size=1, max_size=4))
def test_from_version_to_version_as_few_buckets_move_as_the_shares_differ_by(versions):
    before = None
    for end in range(1, len(versions) + 1):
        owner, shares = owners(versions[:end]), versions[end - 1]
        assert {name: owner.count(name) for name in shares} == shares
        assert owner.count(NOBODY) == NUM_BUCKETS - sum(shares.values())
        if before is not None:
            names = set(before) | set(owner)
            gains = sum(max(0, owner.count(name) - before.count(name)) for name in names)
            assert sum(old != new for old, new in zip(before, owner, strict=True)) == gains
        before = owner


def test_a_share_that_grows_keeps_its_users_and_the_order_of_variants_is_nothing():
    small, large, back = {"b": 500, "a": 9500}, {"b": 2000, "a": 8000}, {"a": 9500, "b": 500}
    first, grown, again = owners([small]), owners([small, large]), owners([small, large, back])
    assert {i for i, name in enumerate(first) if name == "b"} < {i for i, name in enumerate(grown) if name == "b"}
    assert first == again == owners([back]) == owners([small])


def test_a_request_gets_a_variant_of_each_layer_its_release_and_what_it_explores():
    config = ExperimentsConfig.parse(
        {
            "layers": [
                {"name": "ranker", "salt": "s1", "variants": [
                    {"name": "old", "share": 4000}, {"name": "new", "share": 4000, "release": "canary"},
                ]},
                {"name": "explore", "salt": "s2", "variants": [
                    {"name": "off", "share": 9000},
                    {"name": "on", "share": 1000, "exploration": {"kind": "epsilon", "epsilon": 0.1}},
                ]},
            ]
        }
    )  # fmt: skip
    here = Experiments(config)
    found = [here.assign(user) for user in range(20_000)]
    counts = {name: sum(each.variants.get("ranker") == name for each in found) for name in ("old", "new")}
    counts["nobody"] = sum("ranker" not in each.variants for each in found)
    assert not sample_ratio(counts, {"old": 4, "new": 4, "nobody": 2}).mismatch
    for each in found:
        assert (each.release == "canary") == (each.variants.get("ranker") == "new") and not each.forced
        assert (each.exploration is not None) == (each.variants["explore"] == "on")
    assert here.assign(None).variants == {}


def test_testers_force_variants_and_others_do_not():
    here = experiments(testers=[7, "ann"], variants=[{"name": "a", "share": 10_000}, {"name": "b", "share": 0}])
    assert {here.assign(user).variants["ranker"] for user in range(100)} == {"a"}
    forced = here.assign(7, {"ranker": "b"})
    assert forced.variants == {"ranker": "b"} and forced.forced
    for user, wanted, said in (
        ("7", {"ranker": "b"}, "user '7' is not among the testers of layer `ranker`"),
        (None, {"ranker": "b"}, "not among the testers"),
        (7, {"rankr": "b"}, "no layer is called `rankr`. Did you mean `ranker`"),
        (7, {"ranker": "c"}, "layer `ranker` has no variant `c`. It has a, b"),
    ):
        with pytest.raises(InputError, match=said):
            here.assign(user, wanted)

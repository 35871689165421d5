"""The long forms of the checks of experiments: `python -m tests.drills.explored_traffic [users] [draws] [day]`.

users: a million users, their shares and the independence of two salts. draws: a million lists of each explorer against
the propensities that it says (χ² of every slot), and of Plackett-Luce over 200 items and 20 slots. day: a day of
100,000 requests of all explorers, logged, ingested by LogIngest and replayed to its known values. All of them by
default; each prints what it found, and the exit code is 1 where something does not hold.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from evaluation.replay.experiment.sample_ratio import sample_ratio
from evaluation.replay.policies import plackett_luce
from evaluation.replay.policies.list_policy import ranked
from serving.experiments.config import NUM_BUCKETS
from serving.experiments.user_buckets import BucketHash
from tests.serving.experiments import day, explored
from tests.serving.experiments.test_day import TARGETS

MANY = 1_000_000
#: Of a p-value, below which something is wrong: some hundred are looked at.
LEVEL = 1e-5


def check_users() -> bool:
    """Deciles of the buckets within .1 % of the users; χ² of the buckets, and of two salts together."""
    first, second = (BucketHash(salt).buckets(range(MANY)) for salt in ("first", "second"))
    tenths = [buckets * 10 // NUM_BUCKETS for buckets in (first, second)]
    off = max(float(np.abs(np.bincount(each, minlength=10) / MANY - 0.1).max()) for each in tenths)
    alone = [_even(buckets, NUM_BUCKETS) for buckets in (first, second)]
    both = _even(tenths[0] * 10 + tenths[1], 100)
    print(f"users: deciles off by {off:.5f}; p of buckets {alone[0]:.3f} {alone[1]:.3f}; of two salts {both:.3f}")
    return off < 0.001 and min(*alone, both) > LEVEL


def check_draws() -> bool:
    """χ² of what is shown in each slot against what is said of it."""
    good = True
    for name in explored.EXPLORERS:
        start, found = time.monotonic(), []
        chances = explored.marginals_of(explored.every_list(name))
        if name == "plackett_luce":  # what is said of a list is the same each time: it is asked for once in a while
            orders = _drawn(explored.LOGITS / 0.7, 6, explored.SLOTS)
            said = explored.said(*explored.draw(name, 20_000, seed=9))
        else:
            orders, propensities = explored.draw(name, MANY, seed=9)
            said = explored.said(orders, propensities)
        apart = float(np.abs(said - chances)[said > 0].max())
        found = explored.p_values(orders, chances)
        good &= apart < 1e-9 and min(found) > LEVEL
        told = " ".join(f"{p:.3f}" for p in found)
        print(f"draws: {name}: said and true differ by {apart:.1e}; p by slot {told}; {time.monotonic() - start:.0f} s")
    return good & _check_wide()


def _check_wide(items: int = 200, slots: int = 20) -> bool:
    logits = np.random.default_rng(4).normal(0, 1.5, items)
    orders, best = _drawn(logits, items, slots), ranked(logits)
    chances = np.zeros((slots, items))
    chances[:, best] = explored.all_marginals(logits[best], slots)
    found = []
    for slot in range(slots):
        counts = np.bincount(orders[:, slot], minlength=items)
        found.append(sample_ratio(dict(enumerate(counts.tolist())), dict(enumerate(chances[slot].tolist()))).p_value)
    print(f"draws: plackett_luce of {items} items, {slots} slots: smallest p of a slot {min(found):.4f}")
    return min(found) > LEVEL


def check_day(count: int = 100_000) -> bool:
    """A day is ingested without a loss, and IPS of each explorer's part gives the known value."""
    with tempfile.TemporaryDirectory(prefix="clickmill-") as name:
        folder = Path(name)
        day.write_day(folder, count)
        counts, examples = day.ingest_day(folder)
        logged = {shown.request_id: shown.policy for shown, _ in day.requests(count, 0)}
    lost = count * day.SLOTS - counts.tables["impressions"].kept
    print(f"day: {count:,} requests, {lost} impressions lost")
    good = lost == 0
    for policy, target in TARGETS.items():
        rows = [row for row in examples if logged[row["request_id"]].startswith(policy)]
        known, found, error = day.value_and_interval(rows, target)
        good &= abs(found - known) < 3 * error
        print(f"day: {policy}: {len(rows):,} requests; known {known:.4f}, IPS {found:.4f} ± {1.96 * error:.4f}")
    return good


def _drawn(log_rates: np.ndarray, top: int, slots: int) -> np.ndarray:
    """A million Plackett-Luce lists of the best `top`, by the explorer's own draw."""
    best, rng = ranked(log_rates)[:top], np.random.default_rng(9)
    return np.stack([best[plackett_luce.draw(log_rates[best], slots, rng)] for _ in range(MANY)])


def _even(values: np.ndarray, count: int) -> float:
    counts = np.bincount(values, minlength=count)
    return sample_ratio(dict(enumerate(counts.tolist())), dict.fromkeys(range(count), 1)).p_value


CHECKS: dict[str, Callable[[], bool]] = {"users": check_users, "draws": check_draws, "day": check_day}


def main(names: list[str]) -> int:
    """Runs checks by their names; all by default. Returns the exit code."""
    return 0 if all([CHECKS[name]() for name in names or CHECKS]) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""What explorers show over many draws, beside what they say: used by the tests and by the drill."""

from __future__ import annotations

import itertools

import numpy as np

from evaluation.replay.experiment.sample_ratio import sample_ratio
from evaluation.replay.policies.plackett_luce import marginals
from serving.experiments.exploration.choice import Explorer
from serving.experiments.exploration.config import EpsilonGreedy, PlackettLuce, Thompson
from serving.experiments.exploration.explorer import explorer

ITEMS, SLOTS, DRAWS = 7, 4, 16
LOGITS = np.array([0.4, -1.0, 2.1, 0.4, 1.3, -0.2, 0.9])
DEVIATIONS = np.random.default_rng(5).normal(0, 0.8, (ITEMS, DRAWS))
EXPLORERS: dict[str, Explorer] = {
    "epsilon": explorer(EpsilonGreedy(kind="epsilon", epsilon=0.3, top=5)),
    "epsilon_within_the_slots": explorer(EpsilonGreedy(kind="epsilon", epsilon=0.3, top=3)),
    "plackett_luce": explorer(PlackettLuce(kind="plackett_luce", temperature=0.7, top=6)),
    "thompson": explorer(Thompson(kind="thompson", scale=1.5)),
}


def every_list(name: str) -> dict[tuple[int, ...], float]:
    """The probability of every list, counted out by the definition of the policy and not by the explorer."""
    order = sorted(range(ITEMS), key=lambda item: (-LOGITS[item], item))
    if name == "thompson":
        drawn = LOGITS[:, np.newaxis] + 1.5 * DEVIATIONS
        lists = [tuple(np.argsort(-drawn[:, draw], kind="stable")[:SLOTS].tolist()) for draw in range(DRAWS)]
        return {each: lists.count(each) / DRAWS for each in lists}
    found: dict[tuple[int, ...], float] = {}
    if name == "plackett_luce":
        for shown in itertools.permutations(order[:6], SLOTS):
            left, chance = dict.fromkeys(order[:6]), 1.0
            for item in shown:
                chance *= np.exp(LOGITS[item] / 0.7) / sum(np.exp(LOGITS[other] / 0.7) for other in left)
                del left[item]
            found[shown] = chance
        return found
    top = {"epsilon": 5, "epsilon_within_the_slots": 3}[name]
    lists = list(itertools.permutations(order[:top], min(SLOTS, top)))
    for shown in lists:
        found[(*shown, *order[len(shown) : SLOTS])] = 0.3 / len(lists)
    found[tuple(order[:SLOTS])] += 0.7
    return found


def marginals_of(lists: dict[tuple[int, ...], float]) -> np.ndarray:
    """`[slots, items]`, the probability of each item in each slot."""
    found = np.zeros((SLOTS, ITEMS))
    for shown, chance in lists.items():
        found[np.arange(SLOTS), list(shown)] += chance
    return found


def draw(name: str, count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Lists `[count, slots]` that an explorer shows, and the propensities that it says of them."""
    rng = np.random.default_rng(seed)
    chosen = [EXPLORERS[name].choose(LOGITS, SLOTS, rng, DEVIATIONS) for _ in range(count)]
    return np.stack([each.order for each in chosen]), np.stack([each.propensities for each in chosen])


def said(orders: np.ndarray, propensities: np.ndarray) -> np.ndarray:
    """`[slots, items]`, the one propensity that was said of each item in each slot; 0 where it was never shown."""
    found = np.zeros((SLOTS, ITEMS))
    for slot in range(SLOTS):
        found[slot, orders[:, slot]] = propensities[:, slot]
        np.testing.assert_allclose(found[slot, orders[:, slot]], propensities[:, slot], rtol=1e-9)
    return found


def p_values(orders: np.ndarray, chances: np.ndarray) -> list[float]:
    """χ² of how often items were shown in each slot against `[slots, items]`."""
    found = []
    for slot, expected in enumerate(chances):
        counts = np.bincount(orders[:, slot], minlength=ITEMS)
        found.append(sample_ratio(dict(enumerate(counts.tolist())), dict(enumerate(expected.tolist()))).p_value)
    return found


def all_marginals(log_rates: np.ndarray, slots: int) -> np.ndarray:
    """`[slots, n]`, Plackett-Luce marginals of every item in every slot by the explorer's own quadrature."""
    n = len(log_rates)
    found = np.zeros((slots, n))
    for turn in range(n):
        shown = (turn + np.arange(slots)) % n
        found[np.arange(slots), shown] = marginals(log_rates, shown)
    return found

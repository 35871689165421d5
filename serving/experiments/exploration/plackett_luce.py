"""Plackett-Luce lists: drawn by Gumbel noise, with the marginal propensity of each item in its slot."""

from __future__ import annotations

import math

import numpy as np

from serving.experiments.exploration.choice import Choice, checked, ranked

#: Neighbours further apart than this many temperatures change places less often than doubles can tell: exp(-37).
_APART = 37.0

#: Above the range of Gumbel noise of doubles, which lies in (-4, 37).
_BEYOND_NOISE = 100.0

#: Numbers of one block of the quadrature: 32 MB.
_BLOCK = 1 << 22


class PlackettLuceExplorer:
    """Draws each slot by the softmax of `logit / temperature` over what is left of the best `top` items.

    Args:
      temperature: positive.
      top: at least 2; slots from there on keep the ranker's order.
    """

    needs_draws = False

    def __init__(self, temperature: float, top: int):
        self._temperature, self._top = temperature, top
        self.policy = f"plackett_luce(temperature={temperature:g},top={top})"

    def choose(
        self, logits: np.ndarray, k: int, rng: np.random.Generator, deviations: np.ndarray | None = None
    ) -> Choice:
        """Draws a list; as `Explorer.choose`."""
        logits = checked(logits, k)
        best = ranked(logits)
        order = best[:k].copy()
        log_rates = logits[best[: self._top]] / self._temperature
        shown = draw(log_rates, k, rng)
        order[: len(shown)] = best[shown]
        propensities, conditionals = np.ones(len(order)), np.ones(len(order))
        # What is apart from all better items never comes before them: lists are independent lists side by side.
        starts = np.flatnonzero(_groups(log_rates, first=1)).tolist()
        for start, stop in zip(starts, [*starts[1:], len(log_rates)], strict=False):
            part = shown[start:stop] - start
            if len(part) and stop - start > 1:
                group, slots = log_rates[start:stop], slice(start, start + len(part))
                propensities[slots] = marginals(group, part)
                conditionals[slots] = _conditionals(group, part)
        return Choice(order, propensities, conditionals, self.policy)


def draw(log_rates: np.ndarray, k: int, rng: np.random.Generator) -> np.ndarray:
    """Draws the first k places of a Plackett-Luce list, or all of them.

    They are in the order of exponential clocks, which is that of noisy logits (Gumbel-max).

    Args:
      log_rates: [n], falling.
      k: how many are drawn.
      rng: what is random of it.
    """
    noisy = log_rates + rng.gumbel(size=len(log_rates)) - _BEYOND_NOISE * np.cumsum(_groups(log_rates))
    return np.argsort(-noisy, kind="stable")[:k]


def _groups(log_rates: np.ndarray, first: int = 0) -> np.ndarray:
    """1 where falling rates are apart from all before, else 0; the first is `first`."""
    return np.concatenate([[first], -np.diff(log_rates) > _APART])[: len(log_rates)]


def marginals(log_rates: np.ndarray, shown: np.ndarray) -> np.ndarray:
    """Returns the probability that a Plackett-Luce list has in each slot the item that it has.

    Item i is the first event of an exponential clock of rate λ_i; the list is the order of these events. Item i stands
    in slot l (from 0) if exactly l other clocks rang before it:

        p(i, l) = ∫ λ_i exp(-λ_i t) P(N_i(t) = l) dt,   N_i(t) = Σ_{j ≠ i} Bernoulli(1 - exp(-λ_j t))

    N_i is Poisson-binomial. With t = exp(s) the integrand is analytic and falls off exponentially on both sides, so
    that the trapezoidal rule converges faster than any power of its step: relative errors are below 1e-9. Every term is
    positive: nothing cancels, however small a propensity. Cost: O(n k Q), Q ≈ 30 √k nodes.

    Args:
      log_rates: [n] log λ; their common factor is of no account. Q grows with their range, above about 20.
      shown: [k] different places in `log_rates`, the first slot first.

    Returns:
      [k] float64 in (0, 1].
    """
    total, log_sum = np.zeros(len(shown)), np.logaddexp.reduce(log_rates)
    if len(shown) > 1:
        log_times, step = _nodes(log_rates - log_sum, len(shown))
        size = max(1, _BLOCK // (len(shown) * len(shown) + len(log_rates)))
        for start in range(0, len(log_times), size):
            total += step * _integral(log_rates - log_sum, shown, log_times[start : start + size])
    total[0] = np.exp(log_rates[shown[0]] - log_sum)  # its own closed form, which is exact
    return np.clip(total, np.finfo(np.float64).tiny, 1.0)


def _nodes(log_rates: np.ndarray, k: int) -> tuple[np.ndarray, float]:
    """Logarithms of the times [Q] of the rule, equally spaced, and the step; rates sum up to 1.

    The narrowest integrand is a Gamma density of shape k + 1, whose width in log t is 1 / √k. Before the first node no
    two clocks have rung (their chance is 1e-13); at the last one k have: the rates of what is left after k - 1 events
    sum up to those of the slowest, at least.
    """
    step = 0.7 / math.sqrt(max(k, 6))
    slowest = np.logaddexp.reduce(np.sort(log_rates)[: len(log_rates) - k + 1])
    last = math.log(k + 100.0 + 20.0 * math.sqrt(k)) - slowest
    return np.arange(-15.0, last + step, step), step


def _integral(log_rates: np.ndarray, shown: np.ndarray, log_times: np.ndarray) -> np.ndarray:
    """The sum of the integrand over some nodes [q], of each shown item in its slot: [k]."""
    k, scaled = len(shown), np.exp(log_rates[:, np.newaxis] + log_times)
    rung = -np.expm1(-scaled)
    counts = np.zeros((k, len(log_times)))  # P(N = 0 … k - 1) of the clocks so far, by node
    counts[0] = 1.0
    hidden = np.ones(len(log_rates), bool)
    hidden[shown] = False
    for chance in rung[hidden]:
        _add_clock(counts, chance)
    # All clocks but one of the shown: those before it are added from the left, those after it from the right.
    before = [counts]
    for item in shown[:-1]:
        before.append(before[-1].copy())
        _add_clock(before[-1], rung[item])
    after = np.zeros_like(counts)
    after[0] = 1.0
    found = np.empty(k)
    for slot in range(k - 1, -1, -1):
        item = shown[slot]
        others = np.einsum("jq,jq->q", before[slot][: slot + 1], after[slot::-1])
        found[slot] = np.dot(scaled[item] * np.exp(-scaled[item]), others)
        _add_clock(after, rung[item])
    return found


def _add_clock(counts: np.ndarray, chance: np.ndarray) -> None:
    """Adds a Bernoulli [q] to Poisson-binomials [k, q], in place; more than k - 1 events are left out."""
    more = counts[:-1] * chance
    counts *= 1.0 - chance
    counts[1:] += more


def _conditionals(log_rates: np.ndarray, shown: np.ndarray) -> np.ndarray:
    """The chance of each shown item among what was left."""
    of_shown, hidden = log_rates[shown], np.delete(log_rates, shown)
    last = np.logaddexp.reduce(hidden) if len(hidden) else -np.inf
    left = np.logaddexp.accumulate(np.append(last, of_shown[::-1]))[:0:-1]
    return np.minimum(np.exp(of_shown - left), 1.0)

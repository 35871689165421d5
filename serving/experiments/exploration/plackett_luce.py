"""Plackett-Luce lists: drawn by Gumbel noise, with the marginal propensity of each item in its slot."""

from __future__ import annotations

import math

import numpy as np

from serving.experiments.exploration.explorer import Choice, checked, ranked

#: Logits further than this many temperatures below the best count as this far: rates stay above the smallest double.
_LOWEST = -600.0

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
        drawn_from, order = best[: self._top], best[:k].copy()
        drawn = min(k, len(drawn_from))
        propensities, conditionals = np.ones(len(order)), np.ones(len(order))
        if drawn:
            log_rates = np.maximum((logits[drawn_from] - logits[best[0]]) / self._temperature, _LOWEST)
            # The order of exponential clocks with these rates, which is that of noisy logits (Gumbel-max).
            shown = np.argsort(-(log_rates + rng.gumbel(size=len(log_rates))), kind="stable")[:drawn]
            order[:drawn] = drawn_from[shown]
            propensities[:drawn] = marginals(np.exp(log_rates), shown)
            conditionals[:drawn] = _conditionals(np.exp(log_rates), shown)
        return Choice(order, propensities, conditionals, self.policy)


def marginals(rates: np.ndarray, shown: np.ndarray) -> np.ndarray:
    """Returns the probability that a Plackett-Luce list has in each slot the item that it has.

    Item i is the first event of an exponential clock of rate λ_i; the list is the order of these events. Item i stands
    in slot l (from 0) if exactly l other clocks rang before it:

        p(i, l) = ∫ λ_i exp(-λ_i t) P(N_i(t) = l) dt,   N_i(t) = Σ_{j ≠ i} Bernoulli(1 - exp(-λ_j t))

    N_i is Poisson-binomial. With t = exp(s) the integrand is analytic and falls off exponentially on both sides, so
    that the trapezoidal rule converges faster than any power of its step: relative errors are below 1e-9. Every term is
    positive: nothing cancels, however small a propensity. Cost: O(n k Q), Q ≈ 30 √k nodes.

    Args:
      rates: [n] positive λ.
      shown: [k] different places in `rates`, the first slot first.

    Returns:
      [k] float64 in (0, 1].
    """
    if len(rates) == 1:
        return np.ones(1)
    total = np.zeros(len(shown))
    times, step = _nodes(rates, len(shown))
    size = max(1, _BLOCK // (len(shown) * len(shown) + len(rates)))
    for start in range(0, len(times), size):
        total += _integral(rates, shown, times[start : start + size])
    total *= step
    total[0] = rates[shown[0]] / rates.sum()  # its own closed form, which is exact
    return np.clip(total, np.finfo(np.float64).tiny, 1.0)


def _nodes(rates: np.ndarray, k: int) -> tuple[np.ndarray, float]:
    """Times [Q] of the rule, equally spaced in their logarithm, and the step.

    The narrowest integrand is a Gamma density of shape k + 1, whose width in log t is 1 / √k. Before the first node no
    two clocks have rung (their chance is 1e-13); at the last one k have: the rates of what is left after k - 1 events
    sum up to those of the slowest, at least.
    """
    step = 0.7 / math.sqrt(max(k, 6))
    slowest = np.sort(rates)[: len(rates) - k + 1].sum()
    first = -15.0 - math.log(rates.sum())
    last = math.log((k + 100.0 + 20.0 * math.sqrt(k)) / slowest)
    return np.exp(np.arange(first, last + step, step)), step


def _integral(rates: np.ndarray, shown: np.ndarray, times: np.ndarray) -> np.ndarray:
    """The sum of the integrand over some nodes [q], of each shown item in its slot: [k]."""
    k, rung = len(shown), -np.expm1(-np.outer(rates, times))
    counts = np.zeros((k, len(times)))  # P(N = 0 … k - 1) of the clocks so far, by node
    counts[0] = 1.0
    hidden = np.ones(len(rates), bool)
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
        scaled = rates[item] * times
        found[slot] = np.dot(scaled * np.exp(-scaled), others)
        _add_clock(after, rung[item])
    return found


def _add_clock(counts: np.ndarray, chance: np.ndarray) -> None:
    """Adds a Bernoulli [q] to Poisson-binomials [k, q], in place; more than k - 1 events are left out."""
    more = counts[:-1] * chance
    counts *= 1.0 - chance
    counts[1:] += more


def _conditionals(rates: np.ndarray, shown: np.ndarray) -> np.ndarray:
    """The chance of each shown item among what was left."""
    of_shown = rates[shown]
    hidden = np.delete(rates, shown).sum()
    return of_shown / (hidden + np.cumsum(of_shown[::-1])[::-1])

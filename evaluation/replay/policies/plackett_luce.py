"""Plackett-Luce lists: drawn by Gumbel noise, with the marginal probability of any item in any slot."""

from __future__ import annotations

import math

import numpy as np

from evaluation.metrics.rows import Array
from evaluation.replay.policies.list_policy import ListPolicy, number_in, ranked
from evaluation.replay.policies.slates import LoggedSlates

#: Neighbours further apart than this many temperatures change places less often than doubles can tell: exp(-37).
_APART = 37.0

#: Above the range of Gumbel noise of doubles, which lies in (-4, 37).
_BEYOND_NOISE = 100.0

#: Numbers of one block of the quadrature: 32 MB.
_BLOCK = 1 << 22


class PlackettLucePolicy(ListPolicy):
    """Draws each slot by the softmax of `logit / temperature` over what is left of the best `top` items.

    Args:
      temperature: positive.
      top: at least 2; slots from there on keep the ranker's order.

    Raises:
      InputError: for parameters outside their range.
    """

    name, title = "plackett_luce", "Plackett-Luce"

    def __init__(self, temperature: float = 1.0, top: int = 200):
        self._temperature = number_in("`temperature`", temperature, 0)
        self._top = int(number_in("`top`", top, 2, closed_below=True))

    @property
    def policy(self) -> str:
        return f"plackett_luce(temperature={self._temperature:g},top={self._top})"

    def draw(self, logits: Array, k: int, rng: np.random.Generator) -> Array:
        best = ranked(logits)
        order = best[:k].copy()
        shown = draw(logits[best[: self._top]] / self._temperature, k, rng)
        order[: len(shown)] = best[shown]
        return order

    def probabilities(self, slates: LoggedSlates, candidate: Array, slot: Array) -> Array:
        rank, request = slates.rank[candidate], slates.request_of[candidate]
        found = (rank == slot).astype(np.float64)  # right of what keeps the ranker's order
        order = np.argsort(request, kind="stable")
        for rows in np.split(order, np.flatnonzero(np.diff(request[order])) + 1):
            if len(rows):
                for start, stop, rates in self._groups_of(slates, int(request[rows[0]])):
                    inside = rows[(rank[rows] >= start) & (rank[rows] < stop) & (slot[rows] >= start)]
                    inside = inside[slot[inside] < stop]
                    if len(inside):
                        found[inside] = marginals(rates, rank[inside] - start, slot[inside] - start)
        return found

    def conditionals(self, slates: LoggedSlates) -> Array:
        slates.check_lists()
        found = (slates.logged_rank == slates.slot).astype(np.float64)
        for request in range(len(slates.sizes)):
            rows = np.arange(slates.row_offsets[request], slates.row_offsets[request + 1])
            for start, stop, rates in self._groups_of(slates, request):
                part = rows[start:stop]
                place = slates.logged_rank[part] - start
                # Up to the first item of another group, which cannot stand here.
                inside = np.logical_and.accumulate((place >= 0) & (place < stop - start))
                found[part] = 0.0
                if inside.any():
                    found[part[inside]] = _conditionals(rates, place[inside])
        return found

    def _groups_of(self, slates: LoggedSlates, request: int) -> list[tuple[int, int, Array]]:
        """Groups of at least two of a request's best items that change places, as ranks from and to, with log rates.

        What is apart from all better items never comes before them: lists are independent lists side by side.
        """
        best = slates.best_first[slates.offsets[request] : slates.offsets[request + 1]]
        log_rates = slates.logits[best[: self._top]] / self._temperature
        starts = np.flatnonzero(_groups(log_rates, first=1)).tolist()
        pairs = zip(starts, [*starts[1:], len(log_rates)], strict=False)
        return [(start, stop, log_rates[start:stop]) for start, stop in pairs if stop - start > 1]


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


def marginals(log_rates: np.ndarray, items: np.ndarray, slots: np.ndarray | None = None) -> np.ndarray:
    """Returns the probability that a Plackett-Luce list has an item in a slot.

    Item i is the first event of an exponential clock of rate λ_i; the list is the order of these events. Item i stands
    in slot l (from 0) if exactly l other clocks rang before it:

        p(i, l) = ∫ λ_i exp(-λ_i t) P(N_i(t) = l) dt,   N_i(t) = Σ_{j ≠ i} Bernoulli(1 - exp(-λ_j t))

    N_i is Poisson-binomial. With t = exp(s) the integrand is analytic and falls off exponentially on both sides, so
    that the trapezoidal rule converges faster than any power of its step: relative errors are below 1e-9. Every term is
    positive: nothing cancels, however small a propensity. Cost: O(n k Q), Q ≈ 30 √k nodes, k slots down to the lowest.

    Args:
      log_rates: [n] log λ; their common factor is of no account. Q grows with their range, above about 20.
      items: [m] places in `log_rates`; one may stand there several times, with a slot each.
      slots: [m] of each, below n; 0, 1, 2, … by default.

    Returns:
      [m] float64 in (0, 1].
    """
    slots = np.arange(len(items)) if slots is None else slots
    total, log_sum = np.zeros(len(items)), np.logaddexp.reduce(log_rates)
    top = slots == 0
    if not top.all():
        k = int(slots.max()) + 1
        log_times, step = _nodes(log_rates - log_sum, k)
        size = max(1, _BLOCK // (k * len(np.unique(items)) + len(log_rates)))
        for start in range(0, len(log_times), size):
            total += step * _integral(log_rates - log_sum, items, slots, log_times[start : start + size])
    total[top] = np.exp(log_rates[items[top]] - log_sum)  # its own closed form, which is exact
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


def _integral(log_rates: np.ndarray, items: np.ndarray, slots: np.ndarray, log_times: np.ndarray) -> np.ndarray:
    """The sum of the integrand over some nodes [q], of each item in its slot: [m]."""
    wanted, k, scaled = np.unique(items), int(slots.max()) + 1, np.exp(log_rates[:, np.newaxis] + log_times)
    rung = -np.expm1(-scaled)
    counts = np.zeros((k, len(log_times)))  # P(N = 0 … k - 1) of the clocks so far, by node
    counts[0] = 1.0
    others = np.ones(len(log_rates), bool)
    others[wanted] = False
    for chance in rung[others]:
        _add_clock(counts, chance)
    # All clocks but one of the wanted: those before it are added from the left, those after it from the right.
    before = [counts]
    for item in wanted[:-1]:
        before.append(before[-1].copy())
        _add_clock(before[-1], rung[item])
    after = np.zeros_like(counts)
    after[0] = 1.0
    found = np.empty(len(items))
    for turn in range(len(wanted) - 1, -1, -1):
        item = wanted[turn]
        density = scaled[item] * np.exp(-scaled[item])
        for row in np.flatnonzero(items == item):
            slot = slots[row]
            rang = np.einsum("jq,jq->q", before[turn][: slot + 1], after[slot::-1])
            found[row] = np.dot(density, rang)
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

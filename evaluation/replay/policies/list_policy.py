"""What every policy is: it draws lists of a request's candidates, and says how likely any item stands in any slot."""

from __future__ import annotations

import abc
from dataclasses import dataclass

import numpy as np

from evaluation.metrics.rows import Array
from evaluation.replay.policies.slates import LoggedSlates
from features.errors import InputError

_PAIRS = 1 << 22  # of candidates and slots that an expectation is computed of at a time


@dataclass(frozen=True)
class Choice:
    """A list that was drawn for one request.

    Attributes:
      order: [k] int64, what is shown: places among the request's candidates, the first slot first.
      propensities: [k] float64 in (0, 1], the marginal probability that the policy shows this item in this slot,
        whatever stands in the others: what item-position estimators (IIPS) need.
      conditionals: [k] float64 in (0, 1], the probability of this item in this slot given those of the slots before;
        their product is the probability of the whole list.
      policy: what drew it, with its parameters: rows of different policies are no one logger's.
    """

    order: np.ndarray
    propensities: np.ndarray
    conditionals: np.ndarray
    policy: str


class ListPolicy(abc.ABC):
    """Ranks all candidates of a request by their logits; of equal logits the earlier candidate stands first.

    The same object serves lists (`choose`) and judges lists that another policy showed (`marginals`, `conditionals`).
    Listed in `POLICIES` of the registry.

    Attributes:
      name: as the table has it.
      title: how reports call it.
      needs_draws: whether `choose` asks for the logits of the ranker's other last layers; none here does.
    """

    name: str
    title: str
    needs_draws: bool = False

    @property
    @abc.abstractmethod
    def policy(self) -> str:
        """The name with its parameters, as exposure logs have it."""

    @abc.abstractmethod
    def draw(self, logits: Array, k: int, rng: np.random.Generator) -> Array:
        """Draws the list of one request.

        Args:
          logits: [n], finite.
          k: slots; of fewer candidates, all are shown.
          rng: what is random of it.

        Returns:
          [min(k, n)] places among the candidates, the first slot first.
        """

    @abc.abstractmethod
    def probabilities(self, slates: LoggedSlates, candidate: Array, slot: Array) -> Array:
        """The marginal probability of candidates in slots, whatever stands in the others.

        Args:
          slates: the requests.
          candidate: [M] indices into `slates.logits`.
          slot: [M] from 0.

        Returns:
          [M] in [0, 1].
        """

    @abc.abstractmethod
    def conditionals(self, slates: LoggedSlates) -> Array:
        """The probability of each logged item in its slot given the items above it, [N].

        Its product down a request's rows is the probability of these slots as logged: 0 from the first item on that
        the policy could not have shown there. Below such an item the numbers mean nothing, but are finite.

        Raises:
          InputError: for a request whose logged slots are not 0, 1, 2, …
        """

    def marginals(self, slates: LoggedSlates) -> Array:
        """The probability of each logged item in its slot, [N]; 0 of an item that is no candidate."""
        found, known = np.zeros(len(slates.slot)), slates.place >= 0
        found[known] = self.probabilities(slates, slates.logged[known], slates.slot[known])
        return found

    def placements(self, slates: LoggedSlates, length: int) -> Array:
        """The probability of each logged item in each of `length` slots, [N, length]; 0 of one that is no candidate."""
        found, known = np.zeros((len(slates.slot), length)), slates.place >= 0
        slots = np.tile(np.arange(length), int(known.sum()))
        pairs = self.probabilities(slates, np.repeat(slates.logged[known], length), slots)
        found[known] = pairs.reshape(-1, length)
        return found

    def expected(self, slates: LoggedSlates, values: Array) -> Array:
        """What the policy's item in each logged slot is worth in expectation, [N]; 0 where it shows none.

        Args:
          slates: the requests.
          values: [C] of the candidates, e.g. a model's probability of the label.
        """
        sizes = slates.sizes[slates.row_request]
        found, first = np.zeros(len(sizes)), 0
        while first < len(sizes):
            fit = int(np.searchsorted(np.cumsum(sizes[first:]), _PAIRS, side="right"))
            rows = np.arange(first, min(len(sizes), first + max(1, fit)))
            row = np.repeat(rows, sizes[rows])
            begin = slates.offsets[slates.row_request[rows]]
            ends = np.cumsum(sizes[rows])
            candidate = np.arange(len(row)) + np.repeat(begin - (ends - sizes[rows]), sizes[rows])
            chance = self.probabilities(slates, candidate, slates.slot[row])
            found[rows] = np.bincount(row - first, chance * values[candidate], len(rows))
            first = int(rows[-1]) + 1
        return found

    def choose(self, logits: Array, k: int, rng: np.random.Generator, deviations: Array | None = None) -> Choice:
        """Draws the list of one request, with its propensities.

        Args:
          logits: [n] of the candidates.
          k: slots; of fewer candidates, all are shown.
          rng: what is random of it.
          deviations: not used: see `needs_draws`.

        Raises:
          InputError: if a logit is not finite, or `k` is not positive.
        """
        logits = checked(logits, k)
        order = self.draw(logits, k, rng)
        slates = LoggedSlates.of_list(logits, order)
        tiny = np.finfo(np.float64).tiny  # what was drawn is possible, however seldom
        marginals, conditionals = (
            np.clip(each, tiny, 1.0) for each in (self.marginals(slates), self.conditionals(slates))
        )
        return Choice(order, marginals, conditionals, self.policy)


def ranked(logits: Array) -> Array:
    """Returns the places of logits [n] from the highest down; of equal ones the earlier stands first."""
    return np.argsort(-logits, kind="stable")


def checked(logits: Array, k: int) -> Array:
    """Returns logits as [n] float64. Raises `InputError` if they are not finite or `k` is not positive."""
    if k < 1:
        raise InputError(f"`k` must be positive. Received: {k}.")
    found = np.asarray(logits, np.float64)
    if found.ndim != 1 or not np.isfinite(found).all():
        raise InputError(
            f"`logits` must be [n] finite numbers. Received: shape {found.shape}, "
            f"{int((~np.isfinite(found)).sum())} not finite."
        )
    return found


def number_in(name: str, value: float, low: float, high: float = np.inf, closed_below: bool = False) -> float:
    """Returns a parameter of a policy. Raises `InputError` if it is not in (low, high], or [low, high]."""
    if not ((low <= value if closed_below else low < value) and value <= high and np.isfinite(value)):
        bracket = "[" if closed_below else "("
        raise InputError(f"{name} must lie in {bracket}{low:g}, {high:g}]. Received: {value:g}.")
    return value

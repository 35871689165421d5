"""Requests with what a policy may show and what a logger showed, ragged: no dense axis of items."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from evaluation.metrics.rows import Array
from features.errors import InputError


@dataclass(frozen=True)
class LoggedSlates:
    """R requests, their C candidates and the N rows that were logged of them.

    Attributes:
      offsets: [R + 1] int64: request i has the candidates `offsets[i]` to `offsets[i + 1]`.
      logits: [C] float64 of the candidates.
      row_offsets: [R + 1] int64: request i has the logged rows `row_offsets[i]` to `row_offsets[i + 1]`, its slots
        rising.
      place: [N] int64 place of the logged item among the candidates of its request, -1 where it is none of them.
      slot: [N] int64 slots, from 0.

    Raises:
      InputError: if a logit is not finite, offsets do not end where the arrays do, or a place is none of its request.
    """

    offsets: Array
    logits: Array
    row_offsets: Array
    place: Array
    slot: Array

    def __post_init__(self) -> None:
        wrong = ~np.isfinite(self.logits)
        if wrong.any():
            raise InputError(
                f"a policy needs finite logits. Received: {self.logits[wrong][0]} ({wrong.sum()} of them)."
            )
        for name, offsets, count in (
            ("offsets", self.offsets, len(self.logits)),
            ("row_offsets", self.row_offsets, len(self.place)),
        ):
            if offsets[0] != 0 or offsets[-1] != count or (np.diff(offsets) < 0).any():
                raise InputError(f"`{name}` must rise from 0 to {count}. Received: {offsets[0]} to {offsets[-1]}.")
        if not len(self.offsets) == len(self.row_offsets) or len(self.place) != len(self.slot):
            raise InputError(
                "candidates and logged rows must be of the same requests, places and slots of the same rows."
            )
        if (self.place >= self.sizes[self.row_request]).any():
            raise InputError("a logged item's place lies beyond its request's candidates.")

    @classmethod
    def of_list(cls, logits: Array, order: Array) -> LoggedSlates:
        """One request with its list: `order` [k] are the places of what it shows, the first slot first."""
        ends = np.array([0, len(logits)]), np.array([0, len(order)])
        return cls(ends[0], np.asarray(logits, np.float64), ends[1], np.asarray(order), np.arange(len(order)))

    @cached_property
    def sizes(self) -> Array:
        """[R] numbers of candidates."""
        return np.diff(self.offsets)

    @cached_property
    def request_of(self) -> Array:
        """[C] the request of each candidate."""
        return np.repeat(np.arange(len(self.sizes)), self.sizes)

    @cached_property
    def row_request(self) -> Array:
        """[N] the request of each logged row."""
        return np.repeat(np.arange(len(self.row_offsets) - 1), np.diff(self.row_offsets))

    @cached_property
    def logged(self) -> Array:
        """[N] the logged item as an index into `logits`, -1 where it is no candidate."""
        return np.where(self.place >= 0, self.offsets[self.row_request] + self.place, -1)

    @cached_property
    def best_first(self) -> Array:
        """[C] indices into `logits`, request by request, best first; of equal logits the earlier first."""
        return np.lexsort((-self.logits, self.request_of))  # lexsort is stable

    @cached_property
    def rank(self) -> Array:
        """[C] the rank of each candidate in its request, from 0."""
        found = np.empty(len(self.logits), np.int64)
        found[self.best_first] = np.arange(len(self.logits)) - self.offsets[self.request_of]
        return found

    @cached_property
    def logged_rank(self) -> Array:
        """[N] the rank of each logged item, -1 where it is no candidate."""
        found, known = np.full(len(self.place), -1), self.place >= 0
        found[known] = self.rank[self.logged[known]]
        return found

    @cached_property
    def first(self) -> Array:
        """[N] the first row of each logged row's request."""
        return self.row_offsets[self.row_request]

    def check_lists(self) -> None:
        """Raises `InputError` for a request whose logged slots are not 0, 1, 2, …: nothing is known of the others."""
        wrong = self.slot != np.arange(len(self.slot)) - self.first
        if wrong.any():
            raise InputError(
                "the items above a slot must be in the log to say what is likely below them: a request's slots must be "
                f"0, 1, 2, … Received: slot {self.slot[wrong][0]} in its place ({int(wrong.sum())} rows)."
            )

    def product_down(self, values: Array) -> Array:
        """[N] the product of values [N] from the first row of a request down to each."""
        with np.errstate(divide="ignore"):
            logs = np.log(np.where(values > 0, values, 1.0))
        total, zeros = np.cumsum(logs), np.cumsum(values <= 0)
        before = np.append(0.0, total)[self.first], np.append(0, zeros)[self.first]
        return np.where(zeros - before[1] > 0, 0.0, np.exp(total - before[0]))

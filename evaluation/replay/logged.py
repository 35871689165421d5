"""What a logger showed and what came of it, with how likely each policy would have shown the same."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Literal

import numpy as np

from evaluation.metrics.rows import Array
from features.errors import InputError

#: Optional columns of a policy, as `LoggedRewards` describes them.
OPTIONAL = ("q_logged", "q_expected", "cascade_weights", "cluster_weights", "balanced_weights", "placements")


PropensityKind = Literal["marginal", "conditional"]
"""Of an item in its slot whatever stands in the others, or given the items above it."""

_NOT_COLUMNS = ("excluded", "stratum_names")


@dataclass(frozen=True)
class LoggedRewards:
    """Logged impressions, one a row: rows of a request together, requests by rising code, its slots rising.

    Attributes:
      user: [N] int64 keys of the users, who err independently of each other.
      request: [N] int64 keys of the requests; a request has one user.
      slot: [N] int64 places in the list, from 0.
      reward: [N] float64 what the impression earned.
      propensity: [N] float64 in (0, 1]: the logger's probability of this item in this slot, whatever stands in the
        others (a marginal; of a logger that fills slots one after the other it is not the conditional one).
      weights: policy → [N] float64, its probability of this item in this slot over the logger's.
      q_logged: policy → [N] a model's expected reward of what was shown, for the direct method and the doubly robust.
      q_expected: policy → [N] its expected reward of what the policy would show in this slot.
      cascade_weights: policy → [N] the probability of slots 0 to this one as logged, policy over logger; at a
        request's last row it is that of the whole list.
      cluster_weights: policy → [N] the policy's probability of the item's cluster over the logger's
        (`evaluation.replay.weights.cluster_weights`).
      balanced_weights: policy → [N] weights that a classifier made of which rows are the policy's and which the
        logger's.
      placements: policy → [N, L] its probability of the item in each slot.
      logger_placements: [N, L] the logger's probability of the item in each slot.
      behavior: [N] int codes of how the user is taken to read the list: 0 each slot by itself, 1 downwards, 2 as a
        whole.
      propensity_kind: `marginal`, or `conditional` of a logger that filled its lists from the top and logged each
        slot's probability given those above it. Then `propensity` is that, and `weights` are those of the slots down
        to the row, whose mean is 1 too: what is estimated by impression stays right, and what needs a slot's own
        marginal weight refuses (`Estimator.needs_marginals`).
      candidates: [N] how many items the logger could have shown in the row's slot.
      strata: kind → [N] int64 keys of parts of the log that diagnostics look at one by one, such as its days.
      stratum_names: kind → key → how reports call it; keys without a name are their own.
      examination: [L] how likely each slot is looked at, up to a factor (`evaluation.replay.weights.examination`).
      excluded: fault → rows that were left out for it, of logs that were read with `exclude`.

    Raises:
      InputError: for columns of unequal lengths, rows in another order, a request of two users or with a slot twice,
        propensities outside (0, 1], weights or rewards that are not finite, negative weights.
    """

    user: Array
    request: Array
    slot: Array
    reward: Array
    propensity: Array
    weights: Mapping[str, Array]
    q_logged: Mapping[str, Array] = field(default_factory=dict)
    q_expected: Mapping[str, Array] = field(default_factory=dict)
    cascade_weights: Mapping[str, Array] = field(default_factory=dict)
    cluster_weights: Mapping[str, Array] = field(default_factory=dict)
    balanced_weights: Mapping[str, Array] = field(default_factory=dict)
    placements: Mapping[str, Array] = field(default_factory=dict)
    logger_placements: Array | None = None
    behavior: Array | None = None
    propensity_kind: PropensityKind = "marginal"
    candidates: Array | None = None
    strata: Mapping[str, Array] = field(default_factory=dict)
    stratum_names: Mapping[str, Mapping[int, str]] = field(default_factory=dict)
    examination: Array | None = None
    excluded: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, column in self.columns().items():
            if len(column) != len(self.user):
                raise InputError(f"`{name}` must have {len(self.user)} rows, as `user` has. Received: {len(column)}.")
            if column.dtype.kind == "f" and not np.isfinite(column).all():
                raise InputError(f"`{name}` must be finite. Received: {column[~np.isfinite(column)][0]}.")
        self._check_order()
        _refuse("`propensity` must lie in (0, 1]", self.propensity, (self.propensity <= 0) | (self.propensity > 1))
        for name, column in self.columns().items():
            if "weights/" in name or "placements" in name:
                _refuse(f"`{name}` must not be negative", column, column < 0)

    def _check_order(self) -> None:
        _refuse("`slot` must count from 0", self.slot, self.slot < 0)
        step, together = np.diff(self.request), ~self.first_of_request[1:]
        _refuse("rows must stand by rising `request`", self.request[1:], step < 0)
        twice = together & (np.diff(self.slot) <= 0)
        _refuse("each request must have each slot once, rising; one that has not", self.request[1:], twice)
        two = together & (self.user[1:] != self.user[:-1])
        _refuse("each request must have one user; one that has not", self.request[1:], two)

    def __len__(self) -> int:
        return len(self.user)

    @property
    def policies(self) -> tuple[str, ...]:
        """Names."""
        return tuple(self.weights)

    @property
    def first_of_request(self) -> Array:
        """[N] whether a row is the first of its request."""
        first = np.ones(len(self.request), bool)
        first[1:] = self.request[1:] != self.request[:-1]
        return first

    def columns(self) -> dict[str, Array]:
        """All columns that are there, by name; those of policies as `name/policy`."""
        found: dict[str, Array] = {}
        for each in fields(self):
            value = getattr(self, each.name)
            if isinstance(value, np.ndarray) and each.name != "examination":
                found[each.name] = value
            elif isinstance(value, Mapping) and each.name not in _NOT_COLUMNS:
                found |= {f"{each.name}/{policy}": column for policy, column in value.items()}
        return found

    def take(self, rows: Array) -> LoggedRewards:
        """The log of some rows ([N] bool), in their order; `excluded` stays."""
        changed: dict[str, object] = {}
        for each in fields(self):
            value = getattr(self, each.name)
            if isinstance(value, np.ndarray) and each.name != "examination":
                changed[each.name] = value[rows]
            elif isinstance(value, Mapping) and each.name not in _NOT_COLUMNS:
                changed[each.name] = {policy: column[rows] for policy, column in value.items()}
        return replace(self, **changed)  # type: ignore[arg-type]

    def shared(self, name: str, what: str) -> Array:
        """`logger_placements`, `behavior` or `examination`; `what` says for what it is needed.

        Raises:
          InputError: where the log does not have it.
        """
        found: Array | None = getattr(self, name)
        if found is None:
            raise InputError(f"{what} needs `{name}`, which the log does not have.")
        return found

    def needs(self, column: str, policy: str, what: str) -> Array:
        """A column of a policy, one of `OPTIONAL`.

        Args:
          column: its name.
          policy: whose.
          what: for what it is needed, as an error says it.

        Raises:
          InputError: where the log does not have it.
        """
        found: Array | None = getattr(self, column).get(policy)
        if found is None:
            raise InputError(f"{what} needs `{column}` of policy `{policy}`, which the log does not have.")
        return found


def _refuse(rule: str, values: Array, bad: Array) -> None:
    if bad.any():
        raise InputError(f"{rule}. Received: {values[bad][0]} ({int(bad.sum())} rows).")

"""Weights of lists and of clusters, and how slots are looked at: what estimators need beside a slot's own weight."""

from __future__ import annotations

import numpy as np

from evaluation.metrics.metric import divide
from evaluation.metrics.rows import Array
from evaluation.replay.logged import LoggedRewards


def cascade_weights(request: Array, conditional: Array) -> Array:
    """The weight of the slots from the first down to each.

    Args:
      request: [N], rows of a request together, its slots rising.
      conditional: [N] the weight of each slot given those above it; of loggers and policies that fill slots
        independently that of the slot alone.

    Returns:
      [N] the product down to each row.
    """
    first = np.ones(len(request), bool)
    first[1:] = request[1:] != request[:-1]
    starts = np.flatnonzero(first)
    place = np.arange(len(request)) - np.repeat(starts, np.diff(starts, append=len(request)))
    found = np.array(conditional, np.float64)
    by_place = np.argsort(place, kind="stable")
    edges = np.searchsorted(place[by_place], np.arange(1, place.max(initial=0) + 2))
    for begin, end in zip(edges, edges[1:], strict=False):
        rows = by_place[begin:end]
        found[rows] *= found[rows - 1]
    return found


def last_of_request(logged: LoggedRewards) -> Array:
    """[N] whether a row is the last of its request."""
    return np.append(logged.first_of_request[1:], True)[: len(logged)]


def whole_list(logged: LoggedRewards, policy: str, what: str) -> Array:
    """The weight of a request's whole list, at each of its rows [N]; `what` needs it."""
    down = logged.needs("cascade_weights", policy, what)
    starts = np.flatnonzero(logged.first_of_request)
    return np.repeat(down[last_of_request(logged)], np.diff(starts, append=len(logged)))


def cluster_weights(request: Array, cluster: Array, shown: Array, target: Array, logger: Array) -> Array:
    """The weight of the shown item's cluster: Σ π(a) / Σ b(a) over the candidates a of its cluster in the request.

    Args:
      request: [C] of each candidate.
      cluster: [C] int codes from 0, e.g. of a clustering of the item tower's vectors.
      shown: [C] bool, which candidates the logger showed.
      target, logger: [C] propensities.

    Returns:
      [N] for each shown candidate, in order.
    """
    order = np.lexsort((cluster, request))
    new = np.ones(len(order), bool)
    new[1:] = (np.diff(request[order]) != 0) | (np.diff(cluster[order]) != 0)
    group = np.empty(len(order), np.int64)
    group[order] = np.cumsum(new) - 1
    wanted, logged = np.bincount(group, target), np.bincount(group, logger)
    return divide(wanted, logged)[group[shown]]


def examination(logged: LoggedRewards) -> Array:
    """How likely each slot is looked at, slot 0's being 1, estimated from a random logger's own swaps.

    Rows of items that could stand in slot 0 and in slot l are compared, weighted so that both slots' sums have the
    same expectation but for θ (Agarwal et al., WSDM 2019, with harmonic weights, which are at most 1):

        θ_l / θ_0 = Σ_{rows in l} r b_0 / (b_0 + b_l)  /  Σ_{rows in 0} r b_l / (b_0 + b_l).

    Returns:
      [L]; NaN of a slot that shares no rewarded item with slot 0.

    Raises:
      InputError: where the log does not have `logger_placements`.
    """
    placed = logged.shared("logger_placements", "examination")
    top, found = logged.slot == 0, np.ones(placed.shape[1])
    for slot in range(1, placed.shape[1]):
        there, both = logged.slot == slot, placed[:, 0] + placed[:, slot]
        below = (logged.reward * divide(placed[:, 0], both))[there].sum()
        above = (logged.reward * divide(placed[:, slot], both))[top].sum()
        found[slot] = below / above if above and below else np.nan
    return found

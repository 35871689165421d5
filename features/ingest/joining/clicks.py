"""Attribution: which impression each click counts for, and what becomes of the clicks that count for none."""

from __future__ import annotations

import dataclasses

import numpy as np

from features.log_contract import Reason


@dataclasses.dataclass(frozen=True)
class Attribution:
    """Where the clicks of a shard went.

    Attributes:
      labels: [L, n] float32: 1 where the impression has a click of the label.
      times: [n] int64: the time of the first click of label 0; 0 where there is none.
      dead: {reason: [C] bool}, disjoint.
      immature, late, duplicates: how many clicks.
      kept: clicks that count.
    """

    labels: np.ndarray
    times: np.ndarray
    dead: dict[Reason, np.ndarray]
    immature: int
    late: int
    duplicates: int
    kept: int


def attribute_clicks(
    *,
    keys: np.ndarray,
    times: np.ndarray,
    immature: np.ndarray,
    click_keys: np.ndarray,
    click_times: np.ndarray,
    click_labels: np.ndarray,
    click_conflicts: np.ndarray,
    num_labels: int,
    window_ms: int,
) -> Attribution:
    """Joins clicks to impressions: the first click of a label within [0, window] of the impression counts.

    Args:
      keys: [n] int64, unique: (request, item) of each impression.
      times: [n] int64: of the impressions.
      immature: [n] bool: impressions whose labels are not yet known.
      click_keys: [C] int64: (request, item) of each click; -1: an item that no impression has.
      click_times: [C] int64.
      click_labels: [C] int, below num_labels.
      click_conflicts: [C] bool: clicks of requests that have two users.
      num_labels: how many labels there are.
      window_ms: the attribution window.
    """
    labels = np.zeros((num_labels, len(keys)), np.float32)
    first_times = np.zeros(len(keys), np.int64)
    order = np.argsort(keys, kind="stable")
    place = np.searchsorted(keys, click_keys, sorter=order)
    row = np.append(order, -1)[place]
    found = (row >= 0) & (np.append(keys, -2)[row] == click_keys)
    orphan = ~found & ~click_conflicts
    open_clicks = found & ~click_conflicts
    too_young = open_clicks & np.append(immature, False)[row]
    open_clicks &= ~too_young
    delay = click_times - np.append(times, 0)[row]
    early = open_clicks & (delay < 0)
    late = open_clicks & (delay > window_ms)
    inside = np.flatnonzero(open_clicks & ~early & ~late)
    # Stable: clicks of the same time stay in the order of the table.
    inside = inside[np.argsort(click_times[inside], kind="stable")]
    slots = click_labels[inside].astype(np.int64) * len(keys) + row[inside]
    _, first = np.unique(slots, return_index=True)
    counted = inside[first]
    labels[click_labels[counted], row[counted]] = 1
    main = counted[click_labels[counted] == 0]
    first_times[row[main]] = click_times[main]
    dead = {
        Reason.REQUEST_CONFLICT: click_conflicts,
        Reason.UNKNOWN_IMPRESSION: orphan,
        Reason.CLICK_BEFORE_IMPRESSION: early,
    }
    return Attribution(
        labels, first_times, dead, int(too_young.sum()), int(late.sum()), len(inside) - len(counted), len(counted)
    )

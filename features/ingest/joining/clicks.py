"""Attribution: which impression each click counts for, and what becomes of the clicks that count for none."""

from __future__ import annotations

import dataclasses

import numpy as np

from features.log_contract import Reason


@dataclasses.dataclass(frozen=True)
class Attribution:
    """Where the clicks of a shard went.

    Attributes:
      counted: [L, n] int64: of each label the click that counts for the impression; -1: none.
      dead: {reason: [C] bool}, disjoint.
      immature, settled, late, duplicates: [C] bool, clicks that count for nothing.
      kept: [C] bool, clicks that count.
    """

    counted: np.ndarray
    dead: dict[Reason, np.ndarray]
    immature: np.ndarray
    settled: np.ndarray
    late: np.ndarray
    duplicates: np.ndarray
    kept: np.ndarray


def attribute_clicks(
    *,
    keys: np.ndarray,
    times: np.ndarray,
    immature: np.ndarray,
    settled: np.ndarray,
    click_keys: np.ndarray,
    click_times: np.ndarray,
    click_labels: np.ndarray,
    windows: np.ndarray,
) -> Attribution:
    """Joins clicks to impressions: the first click of a label within [0, its window] of the impression counts.

    Args:
      keys: [n] int64, unique: (request, item) of each impression.
      times: [n] int64: of the impressions.
      immature: [n] bool: impressions whose labels are not yet known.
      settled: [n] bool: impressions that an earlier span has trained on.
      click_keys: [C] int64: (request, item) of each click; -1: an item that no impression has.
      click_times: [C] int64.
      click_labels: [C] int, below L.
      windows: [L] int64: the attribution window of each label, in milliseconds.
    """
    labels = click_labels.astype(np.int64)
    counted = np.full((len(windows), len(keys)), -1, np.int64)
    order = np.argsort(keys, kind="stable")
    place = np.searchsorted(keys, click_keys, sorter=order)
    row = np.append(order, -1)[place]
    found = (row >= 0) & (np.append(keys, -2)[row] == click_keys)
    too_young = found & np.append(immature, False)[row]
    too_old = found & np.append(settled, False)[row]
    open_clicks = found & ~too_young & ~too_old
    delay = click_times - np.append(times, 0)[row]
    early = open_clicks & (delay < 0)
    late = open_clicks & (delay > windows[labels])
    inside = np.flatnonzero(open_clicks & ~early & ~late)
    # Stable: clicks of the same time stay in the order of the table.
    inside = inside[np.argsort(click_times[inside], kind="stable")]
    _, first = np.unique(labels[inside] * len(keys) + row[inside], return_index=True)
    clicks = inside[first]
    counted[labels[clicks], row[clicks]] = clicks
    dead = {Reason.UNKNOWN_IMPRESSION: ~found, Reason.CLICK_BEFORE_IMPRESSION: early}
    kept = np.zeros(len(labels), bool)
    kept[clicks] = True
    repeated = open_clicks & ~early & ~late & ~kept
    return Attribution(counted, dead, too_young, too_old, late, repeated, kept)

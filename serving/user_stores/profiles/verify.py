"""Checking profiles one after the other."""

from __future__ import annotations

from features.histories.windows import TIMESTAMP
from serving.user_stores.behavior_window import BehaviorWindow
from serving.user_stores.environment import SharedEnvironment
from serving.user_stores.profiles.record import ProfileLayout
from serving.user_stores.record_pages import Verification, read_records
from serving.user_stores.user_keys import RecordError, user_of


def verify_profiles(environment: SharedEnvironment, layout: ProfileLayout) -> Verification:
    """Reads every profile and checks it. Raises `StoreError` if LMDB cannot read on."""
    found = Verification()
    for key, record, text in read_records(environment):
        found.users += 1
        found.num_bytes += len(record)
        user: object = key
        try:
            user = user_of(key, text)
            features, window = layout.decode(record)
        except (RecordError, ValueError, KeyError, TypeError) as error:
            found.add_fault(user, str(error) or type(error).__name__)
            continue
        found.behaviors += len(window)
        if unknown := set(features) - set(layout.features):
            found.add_fault(user, f"it holds features of another spec: {', '.join(sorted(unknown))}")
        for what in _faults(window, layout):
            found.add_fault(user, what)
    return found


def _faults(window: BehaviorWindow, layout: ProfileLayout) -> list[str]:
    found = []
    if set(window.columns) != set(layout.columns) or len({len(values) for values in window.columns.values()}) > 1:
        return ["its behaviours are not of the store's columns, or of different lengths"]
    times = window.columns[TIMESTAMP]
    if len(times) > layout.length:
        found.append(f"it holds {len(times)} behaviours, more than {layout.length}")
    if any(earlier > later for earlier, later in zip(times, times[1:], strict=False)):
        found.append("its behaviours are not in the order of time")
    return found

"""Which version of a model is loaded or unloaded next, so that one is there to answer while versions change.

TensorFlow Serving's AvailabilityPreservingPolicy (core/availability_preserving_policy.cc).
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum
from typing import Literal, NamedTuple


class Phase(Enum):
    """Where a managed version stands."""

    NEW = "new"
    LOADING = "loading"
    READY = "ready"
    UNLOADING = "unloading"
    FAILED = "failed"


class Managed(NamedTuple):
    """A version as the policy sees it: its number, whether it is wanted, and where it stands."""

    version: int
    aspired: bool
    phase: Phase


class Action(NamedTuple):
    """What to do with a version."""

    kind: Literal["load", "unload"]
    version: int


def next_action(versions: Iterable[Managed]) -> Action | None:
    """Returns what to do next with a model's versions; None if there is nothing.

    The lowest ready version that is no longer wanted is unloaded once a wanted one is ready, or none is wanted, or two
    such are ready; otherwise the highest wanted version that is not loaded yet is loaded.
    """
    found = list(versions)
    ready = [each for each in found if each.phase is Phase.READY]
    unwanted = [each.version for each in ready if not each.aspired]
    wanted_ready = len(ready) > len(unwanted)
    if unwanted and (wanted_ready or not any(each.aspired for each in found) or len(unwanted) > 1):
        return Action("unload", min(unwanted))
    fresh = [each.version for each in found if each.aspired and each.phase is Phase.NEW]
    return Action("load", max(fresh)) if fresh else None

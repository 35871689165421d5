"""How long before a request a behaviour was, in buckets: what models know of its time.

The same behaviour says more the younger it is, and what a minute changes in the first hour takes weeks to change after
a year: bounds grow like powers. `models/sdim/recency.py` is the same in TensorFlow.
"""

from __future__ import annotations

import numpy as np

from features.log_contract import MAX_TIMESTAMP, MIN_TIMESTAMP

_MINUTE, _HOUR, _DAY = 60_000, 3_600_000, 86_400_000

#: Milliseconds. Bucket 1 is below the first, the last bucket from the last one on.
GAP_BOUNDS = (
    _MINUTE,
    _HOUR,
    6 * _HOUR,
    _DAY,
    3 * _DAY,
    7 * _DAY,
    14 * _DAY,
    30 * _DAY,
    90 * _DAY,
    365 * _DAY,
)

#: Bucket 0 is a gap that is not known.
NUM_GAP_BUCKETS = len(GAP_BOUNDS) + 2


def gap_buckets(request_times: np.ndarray | int, behavior_times: np.ndarray) -> np.ndarray:
    """Returns the bucket of the time between behaviours and the request that they are read for.

    Args:
      request_times: int64 UTC milliseconds, of a shape that broadcasts to that of `behavior_times`.
      behavior_times: int64 UTC milliseconds, of any shape.

    Returns:
      int32 of the shape of `behavior_times`, in 0..NUM_GAP_BUCKETS - 1. 0 where one of the two is not a time that the
      log contract takes; a behaviour after its request counts as just before it.
    """
    requests, behaviors = np.broadcast_arrays(np.asarray(request_times, np.int64), behavior_times)
    known = _is_time(requests) & _is_time(behaviors)
    gaps = np.where(known, requests, 0) - np.where(known, behaviors, 0)
    return np.where(known, 1 + np.searchsorted(GAP_BOUNDS, gaps, side="right"), 0).astype(np.int32)


def _is_time(times: np.ndarray) -> np.ndarray:
    return (times >= MIN_TIMESTAMP) & (times <= MAX_TIMESTAMP)

"""Buckets of the time between a behaviour and its request."""

import numpy as np
import pytest

from features.histories.time_gaps import GAP_BOUNDS, NUM_GAP_BUCKETS, gap_buckets
from features.spec import MISSING_INT64

NOW = 1_700_000_000_000
SECOND, HOUR, DAY = 1_000, 3_600_000, 86_400_000


@pytest.mark.parametrize(
    "gap, bucket",
    [
        (0, 1),
        (59 * SECOND, 1),
        (60 * SECOND, 2),
        (HOUR - 1, 2),
        (HOUR, 3),
        (DAY - 1, 4),
        (DAY, 5),
        (7 * DAY, 7),
        (89 * DAY, 9),
        (364 * DAY, 10),
        (365 * DAY, 11),
        (9_000 * DAY, 11),
        (-5 * DAY, 1),
    ],
)
def test_a_bucket_begins_at_its_bound(gap, bucket):
    assert gap_buckets(NOW, np.array([NOW - gap])).tolist() == [bucket]


def test_what_is_no_time_is_not_known():
    """A missing mark, seconds since 1970, a time before it, and differences that no int64 holds."""
    wrong = np.array([MISSING_INT64, 0, NOW // 1000, -1, 2**63 - 1])
    assert not gap_buckets(NOW, wrong).any()
    assert not gap_buckets(wrong, np.full(5, NOW)).any()
    found = gap_buckets(np.array([[NOW], [MISSING_INT64]]), np.array([[NOW - DAY, 0], [NOW, NOW]]))
    assert found.tolist() == [[5, 0], [0, 0]] and found.dtype == np.int32


def test_every_bucket_is_reached():
    gaps = gap_buckets(NOW, np.array([0, *(NOW - bound for bound in (0, *GAP_BOUNDS))]))
    assert gaps.tolist() == list(range(NUM_GAP_BUCKETS))

"""The end of the log, and what is dated beyond it: one wrong date moves neither label maturity nor the splits."""

from __future__ import annotations

import datetime

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.ingest.config import SplitConfig
from features.ingest.joining.end_of_log import DAY_MS, LogTimes
from tests.builders.ingest_case import HOUR, ITEMS, USERS, Case, T, clicks, impressions

IN_2096 = 3_990_000_000_000


def naive_end(times: list[int], window: int) -> int | None:
    """As the log contract says it, time by time."""
    times = sorted(times)
    if not times:
        return None
    tail = max(1, len(times) // 100) if len(times) >= 10 else 0
    last = len(times) - 1 - tail
    allowed = max(DAY_MS, window, (times[last] - times[tail]) // 50)
    while last + 1 < len(times) and times[last + 1] - times[last] <= allowed:
        last += 1
    return times[last]


@given(
    st.lists(st.integers(T, T + 20 * DAY_MS) | st.integers(T, T + 3 * HOUR) | st.just(IN_2096), max_size=40),
    st.sampled_from([HOUR, 3 * DAY_MS]),
    st.integers(0, 40),
)
def test_the_end_is_the_naive_one_however_the_log_was_read(times, window, at):
    whole = LogTimes.of(np.array(times, np.int64))
    parts = LogTimes.of(np.array(times[at:], np.int64)).merge(LogTimes.of(np.array(times[:at], np.int64)))
    assert parts.end(window) == whole.end(window) == naive_end(times, window)
    assert int(whole.counts.sum()) == len(times)


def test_a_long_log_may_pause_for_a_fiftieth_of_its_span():
    days = np.arange(400)
    times = T + DAY_MS * np.concatenate([np.repeat(days, 3), [406]])
    assert LogTimes.of(times).end(HOUR) == T + 406 * DAY_MS
    assert LogTimes.of(np.append(times[:-1], T + 408 * DAY_MS)).end(HOUR) == T + 399 * DAY_MS


def test_memory_is_bounded_by_the_time_that_a_log_covers():
    rng = np.random.default_rng(0)
    times = rng.integers(T, T + 30 * DAY_MS, 300_000)
    found = LogTimes.of(times)
    assert len(found.bins) <= 30 * DAY_MS // 2**20 + 2
    assert found.end(HOUR) == times.max()


@pytest.fixture(scope="module")
def odd(tmp_path_factory) -> Case:
    """200 requests, a minute apart, two impressions dated 2096, and clicks far away that belong to nothing."""
    rows = [(f"r{i}", T + i * 60_000, "ann", 1 + i % 3) for i in range(200)]
    rows += [("r50", IN_2096, "bob", 4), ("alone", IN_2096, "ann", 1)]
    clicked = [("r1", 2, T + 60_000), ("alone", 1, IN_2096 + 1), ("r2", 3, IN_2096), ("none", 1, IN_2096 + 9)]
    tables = {"impressions": impressions(rows), "clicks": clicks(clicked), "items": ITEMS, "users": USERS}
    return Case(
        tmp_path_factory.mktemp("odd"),
        tables,
        attribution_window_hours=0.5,
        split=SplitConfig(eval_fraction=0.1, test_fraction=0.1),
    )


def test_what_lies_beyond_the_end_moves_nothing(odd):
    counts = odd.counts
    assert counts.end_of_log == T + 199 * 60_000
    assert counts.mature_until == T + 169 * 60_000
    assert counts.tables["impressions"].reasons == {"in_the_future": 2}
    assert counts.tables["clicks"].reasons == {"in_the_future": 3}
    assert counts.tables["impressions"].immature == 30
    assert counts.requests == {"train": 136, "eval": 17, "test": 17}
    assert (counts.eval_start, counts.test_start) == (T + 136 * 60_000, T + 153 * 60_000)
    assert any("2 rows are dated beyond the end of the log" in warning for warning in counts.warnings)


def test_a_request_whose_other_row_is_in_the_future_is_no_conflict(odd):
    """Row by row the future comes first: the request keeps its other rows, and its user."""
    assert odd.requests()["r50"]["user_id"] == "ann"


def test_maturity_is_exact_to_the_millisecond(tmp_path):
    rows = [
        ("old", T, "ann", 1),
        ("same", T + 1, "ann", 1),
        ("young", T + 2, "ann", 1),
        ("last", T + 1 + HOUR, "ann", 1),
    ]
    tables = {"impressions": impressions(rows), "clicks": clicks([]), "items": ITEMS, "users": USERS}
    case = Case(tmp_path, tables)
    assert set(case.requests()) == {"old", "same"}
    assert (case.counts.mature_until, case.counts.tables["impressions"].immature) == (T + 1, 2)


def test_the_end_may_be_declared(tmp_path):
    rows = [(f"r{i}", T + i, "ann", 1) for i in range(5)]
    tables = {"impressions": impressions(rows), "clicks": clicks([("r1", 1, T + 9)]), "items": ITEMS, "users": USERS}
    end = datetime.datetime.fromtimestamp((T + 2) / 1000, datetime.timezone.utc).isoformat(timespec="milliseconds")
    case = Case(tmp_path, tables, end_of_log=end, label_maturity=False)
    assert case.counts.end_of_log == T + 2
    assert set(case.requests()) == {"r0", "r1", "r2"}
    assert case.counts.tables["impressions"].reasons == {"in_the_future": 2}
    (letter, _) = (each for each in case.letters() if each["reason"] == "in_the_future")
    assert letter["line"] == 4 and f"later than {T + 2}" in letter["detail"]


def test_splits_by_date(tmp_path):
    rows = [(f"r{i}", T + i * HOUR, "ann", 1) for i in range(10)]
    tables = {"impressions": impressions(rows, click=[1] * 10), "items": ITEMS, "users": USERS}
    dates = SplitConfig(train_until=T + 6 * HOUR, eval_until=T + 8 * HOUR)
    case = Case(tmp_path, tables, split=dates)
    assert {name: len(case.requests(name)) for name in ("train", "eval", "test")} == {"train": 6, "eval": 2, "test": 2}
    assert (case.counts.eval_start, case.counts.test_start) == (T + 6 * HOUR, T + 8 * HOUR)
    two = Case(tmp_path, tables, out="two", split=SplitConfig(train_until=T + 6 * HOUR))
    assert two.counts.requests == {"train": 6, "eval": 4} and two.counts.test_start is None
    assert not (two.examples / "Split-test").exists()

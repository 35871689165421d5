"""Properties of LogIngest: exact accounts, histories against a naive reference, nothing from the future."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from features.ingest.joining.behavior_log import ShardBehaviors
from features.ingest.joining.clicks import attribute_clicks
from features.ingest.joining.split import TimeHistogram
from features.log_contract import Reason
from tests.builders.ingest_case import (
    HOUR,
    ITEMS,
    USERS,
    Case,
    T,
    clicks,
    impressions,
)

times = st.integers(T, T + 6 * HOUR)
impression_rows = st.lists(
    st.tuples(
        st.sampled_from(["a", "b", "c", "d", "é", "", None]),
        st.one_of(times, st.sampled_from([0, None])),
        st.sampled_from(["ann", "bob", None]),
        st.integers(1, 3),
    ),
    min_size=1,
    max_size=40,
)
click_rows = st.lists(st.tuples(st.sampled_from(["a", "b", "c", "x", None]), st.integers(1, 4), times), max_size=40)


@settings(max_examples=8, deadline=None)
@given(impression_rows, click_rows)
def test_every_row_is_accounted_for(rows, clicked):
    table = impressions(rows)
    for i, name, kind in ((0, "request_id", "string"), (1, "timestamp", "int64"), (2, "user_id", "string")):
        table = table.set_column(i, name, table[name].cast(kind))
    with tempfile.TemporaryDirectory() as directory:
        case = Case(Path(directory), {"impressions": table, "clicks": clicks(clicked), "items": ITEMS, "users": USERS})
        case.counts.check_balance()
        assert case.counts.tables["impressions"].rows_in == len(rows)
        assert case.counts.tables["clicks"].rows_in == len(clicked)
        assert len(case.letters()) == sum(t.dead_letters for t in case.counts.tables.values())
        requests = case.requests()
        good = [r for r in rows if r[0] and r[1] and r[2]]
        owners = {request: {r[2] for r in good if r[0] == request} for request in {r[0] for r in good}}
        ends = [r[1] for r in good]
        starts = {request: min(r[1] for r in good if r[0] == request) for request in owners}
        expected = {
            request for request, users in owners.items() if len(users) == 1 and starts[request] <= max(ends) - HOUR
        }
        assert set(requests) == expected
        for name, request in requests.items():
            assert sorted(request["item_id"]) == sorted({r[3] for r in good if r[0] == name})
            for item, label in zip(request["item_id"], request["click"], strict=True):
                shown = min(r[1] for r in good if r[0] == name and r[3] == item)
                assert label == any(c[:2] == (name, item) and 0 <= c[2] - shown <= HOUR for c in clicked)


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.integers(-4, 4)), max_size=30),
    st.lists(st.tuples(st.sampled_from("abcz"), st.integers(-6, 6)), min_size=1, max_size=30),
)
def test_history_end_is_the_naive_count(behaviors, requests):
    users, when = [b[0] for b in behaviors], np.array([b[1] for b in behaviors], np.int64)
    log = ShardBehaviors.build(pa.array(users, pa.string()), when, np.arange(len(users)))
    index = log.user_index(pa.array([r[0] for r in requests]))
    ends = log.history_end(index, np.array([r[1] for r in requests], np.int64))
    assert ends.tolist() == [sum(b[0] == user and b[1] < time for b in behaviors) for user, time in requests]
    assert log.user_ids.to_pylist() == sorted(set(users))
    for user, row in zip(log.user_ids.to_pylist(), log.lists(pa.array(log.timestamps)).to_pylist(), strict=True):
        assert row == sorted(b[1] for b in behaviors if b[0] == user)


@given(st.lists(st.tuples(st.integers(-1, 4), st.integers(0, 9), st.integers(0, 1)), max_size=30))
def test_attribution_is_the_naive_one(rows):
    keys, shown, windows = np.array([2, 0, 1, 4]), np.array([3, 4, 5, 2]), np.array([3, 1])
    column = [np.array([row[i] for row in rows], kind) for i, kind in enumerate((np.int64, np.int64, np.int8))]
    found = attribute_clicks(
        keys=keys,
        times=shown,
        immature=np.array([False, False, True, False]),
        settled=np.array([False, False, False, True]),
        click_keys=column[0],
        click_times=column[1],
        click_labels=column[2],
        windows=windows,
    )
    for n, (key, time) in enumerate(zip(keys[:2], shown[:2], strict=True)):
        for label in (0, 1):
            inside = [i for i, r in enumerate(rows) if r[0] == key and r[2] == label]
            inside = [i for i in inside if 0 <= rows[i][1] - time <= windows[label]]
            assert found.counted[label, n] == min(inside, key=lambda i: (rows[i][1], i), default=-1)
    dead = sum(int(mask.sum()) for mask in found.dead.values())
    gone = (found.kept, found.duplicates, found.late, found.immature, found.settled)
    assert sum(int(mask.sum()) for mask in gone) + dead == len(rows)
    assert found.settled.sum() == sum(r[0] == 4 for r in rows)
    assert found.dead[Reason.UNKNOWN_IMPRESSION].sum() == sum(r[0] in (-1, 3) for r in rows)


def test_nothing_comes_from_the_future(tmp_path):
    """What is logged after an instant, scrambled or not, changes no request before it."""
    rng = np.random.default_rng(0)
    size = 600
    when = np.sort(rng.integers(T, T + 48 * HOUR, size))
    rows = [(f"r{i}", int(t), rng.choice(["ann", "bob", "cid"]), int(rng.integers(1, 4))) for i, t in enumerate(when)]
    clicked = [(r[0], r[3], r[1] + int(rng.integers(0, HOUR))) for r in rows if rng.random() < 0.5]
    cut = T + 30 * HOUR
    known = [r for r in rows if r[1] < cut]
    later = [(f"x{i}", int(t), "ann", 2) for i, t in enumerate(rng.integers(cut, cut + 40 * HOUR, 500))]
    scrambled = [(r[0], r[3], r[1] + 1) for r in later] + [c for c in clicked if c[2] < cut]
    base = Case(tmp_path, {"impressions": impressions(rows), "clicks": clicks(clicked), "items": ITEMS, "users": USERS})
    other = Case(
        tmp_path / "other",
        {"impressions": impressions(known + later), "clicks": clicks(scrambled), "items": ITEMS, "users": USERS},
    )
    ours, theirs = base.requests(), other.requests()
    compared, histories = 0, 0
    for name, request in ours.items():
        if request["timestamp"] + HOUR < cut:  # Their clicks are all in both logs.
            assert base.history(request) == other.history(theirs[name])
            assert {k: v for k, v in request.items() if k not in ("user_index", "shelf")} == {
                k: v for k, v in theirs[name].items() if k not in ("user_index", "shelf")
            }
            compared, histories = compared + 1, histories + request["history_end"]
    assert compared > 300 and histories > 9_000


def test_a_user_with_a_million_behaviors(tmp_path):
    size = 1_000_000
    behaviors = pa.table(
        {
            "user_id": pa.array(["ann"]).take(pa.array(np.zeros(size + 1, np.int64))),
            "item_id": np.arange(size + 1) % 4 + 1,
            "timestamp": T + np.arange(size + 1)[::-1],
        }
    )
    table = impressions([("r1", T, "ann", 1), ("r2", T + size // 2, "ann", 2), ("r3", T + size + 9, "ann", 3)])
    tables = {"impressions": table, "clicks": clicks([]), "items": ITEMS, "users": USERS, "behaviors": behaviors}
    case = Case(tmp_path, tables, label_maturity=False)
    requests = case.requests()
    assert [requests[f"r{i}"]["history_end"] for i in (1, 2, 3)] == [0, size // 2, size + 1]
    (ann,) = case.users().values()
    assert len(ann["timestamp"]) == size + 1 and ann["timestamp"][:3] == [T, T + 1, T + 2]
    assert ann["item_id"][:2] == [size % 4 + 1, (size - 1) % 4 + 1]


@given(st.lists(st.integers(0, 5000), min_size=1, max_size=300), st.floats(0, 1), st.integers(1, 299))
def test_histogram_cuts(values, fraction, at):
    whole = TimeHistogram.of(np.array(values))
    split = TimeHistogram.of(np.array(values[:at])).merge(TimeHistogram.of(np.array(values[at:], np.int64)))
    assert split.bins.tolist() == whole.bins.tolist() and split.counts.tolist() == whole.counts.tolist()
    cut = whole.cut(fraction)
    assert sum(v < cut for v in values) <= np.ceil(len(values) * fraction) <= sum(v <= cut for v in values)
    small = TimeHistogram.of(np.array(values), max_bins=16)
    assert len(small.bins) <= 16 and small.counts.sum() == len(values)

"""Twelve days of a log by day: every impression is in one span, with its labels and the past of its time."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from features.ingest.counts import IngestCounts, RowAccountError
from features.ingest.spans.accounts import load_accounts, withdrawn
from features.ingest.spans.config import DAY, start_of
from tests.features.ingest.spans.days_of_log import HOUR, DaysOfLog, bytes_of, impressions_of

pytestmark = pytest.mark.slow
DAYS = 12


@pytest.fixture(scope="module")
def log(tmp_path_factory) -> DaysOfLog:
    return DaysOfLog(tmp_path_factory.mktemp("days"), DAYS)


@pytest.fixture(scope="module")
def runs(log):
    """The twelve days, each run alone."""
    return [log.run(day) for day in log.days]


def test_every_impression_is_in_one_span_with_its_label(log, runs):
    found = Counter(each[:2] for run in runs for each in impressions_of(run))
    until = start_of(log.days[-1] + DAY) - 1 - 6 * HOUR
    due = {(row["request_id"], row["item_id"]) for row in log.events["impressions"] if row["timestamp"] <= until}
    assert set(found) == due
    assert set(found.values()) == {1}
    clicked = {(row["request_id"], row["item_id"]) for row in log.events["clicks"]}
    labels = {each[:2]: each[2] for run in runs for each in impressions_of(run)}
    assert labels == {pair: float(pair in clicked) for pair in due}


def test_the_accounts_of_all_days_add_up(log, runs):
    accounts = [load_accounts(run / "examples")[-1] for run in runs]
    assert [each.span for each in accounts] == log.days
    assert withdrawn(accounts) == dict.fromkeys(log.days[1:], 0)
    assert sum(each.read for each in accounts) == len(log.events["impressions"])
    left = sum(each.kept + each.duplicates + each.dead_letters + each.late for each in accounts)
    assert left + accounts[-1].held_back == len(log.events["impressions"])
    assert accounts[0].carried_in == 0
    for before, after in zip(accounts, accounts[1:], strict=False):
        assert after.carried_in == before.held_back > 0
    lost = accounts[3].model_copy(update={"kept": accounts[3].kept + 1})
    with pytest.raises(RowAccountError, match="held back"):
        withdrawn([accounts[2], lost])


def test_no_feature_comes_from_the_future(log, runs):
    """A snapshot holds the state at the end of its day: impressions are joined with that of the day before."""
    rows = [each for run in runs for each in impressions_of(run)]
    times, known = (np.array([-1 if row[i] is None else row[i] for row in rows], np.int64) for i in (3, 4))
    days = times // (24 * HOUR) * 24 * HOUR
    first = days == start_of(log.days[0])
    assert (known[first] == -1).all()
    assert (known[~first] == days[~first] - 24 * HOUR).all()


def test_a_window_is_the_union_of_its_days(log, runs):
    window = log.run(log.days[6], window=4, out="window")
    alone = [each for run in runs[3:7] for each in impressions_of(run)]
    assert sorted(impressions_of(window)) == sorted(alone)
    assert len(load_accounts(window / "examples")) == 4
    counts = IngestCounts.load(window / "examples")
    assert counts.tables["impressions"].kept == len(alone)


def test_days_that_were_done_are_not_done_again(log, runs):
    before = {path: path.stat().st_mtime_ns for path in (log.folder / "days").rglob("*")}
    log.run(log.days[6], window=4, out="again")
    assert {path: path.stat().st_mtime_ns for path in (log.folder / "days").rglob("*")} == before


def test_the_same_inputs_give_the_same_bytes(log, runs):
    again = log.run(log.days[2], out="fresh", store="fresh_days")
    assert bytes_of(again) == bytes_of(runs[2])


def test_the_past_of_a_request_is_that_of_its_time(log, runs):
    """Histories reach over days, and hold what was clicked before the request."""
    from features.arrow import read_parquet

    clicks = {(row["request_id"], row["item_id"]): row["timestamp"] for row in log.events["clicks"]}
    of_user: dict[str, list[tuple[int, int]]] = {}
    for row in log.events["impressions"]:
        time = clicks.get((row["request_id"], row["item_id"]))
        if time is not None:
            of_user.setdefault(row["user_id"], []).append((time, row["item_id"]))
    seen = 0
    for shard in range(2):
        name = f"{shard:05d}-of-00002.parquet"
        past = read_parquet(runs[8] / "behaviors" / f"behaviors-{name}").to_pylist()
        for file in (runs[8] / "examples").glob(f"Split-*/requests-{name}"):
            for row in read_parquet(file).to_pylist():
                own = past[row["user_index"]]
                history = list(zip(own["timestamp"], own["item_id"], strict=True))[: row["history_end"]]
                expected = sorted(each for each in of_user[row["user_id"]] if each[0] < row["timestamp"])
                assert sorted(history) == expected
                seen += len(history)
    assert seen > 100

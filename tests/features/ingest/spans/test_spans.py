"""A log by day: what comes late, twice or corrected, and what is not there."""

from __future__ import annotations

import shutil
from collections import Counter

import pytest

from features.ingest.spans.accounts import load_accounts, withdrawn
from features.ingest.spans.config import DAY, start_of
from features.ingest.spans.day_folders import SpanNotReadyError
from tests.features.ingest.spans.days_of_log import HOUR, DaysOfLog, impressions_of

DAYS = 4


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> tuple[DaysOfLog, list, list]:
    """A log as it should be, and of each day alone its impressions and its account."""
    log = DaysOfLog(tmp_path_factory.mktemp("days"), DAYS, requests=8)
    runs = [log.run(day) for day in log.days]
    return log, [sorted(impressions_of(run)) for run in runs], [account_of(run) for run in runs]


@pytest.fixture()
def log(whole):
    """The log, to be changed: it is put back, with its times, so that no day's work is done for nothing."""
    log, logs, kept = whole[0], whole[0].folder / "logs", whole[0].folder / "kept"
    shutil.copytree(logs, kept)
    yield log
    shutil.rmtree(logs)
    shutil.move(kept, logs)


def account_of(run):
    return load_accounts(run / "examples")[-1]


def test_a_late_day(log, whole):
    day = log.days[2]
    folder, aside = log.path("impressions", day).parents[1], log.folder / "aside"
    shutil.move(folder, aside)
    with pytest.raises(SpanNotReadyError, match="2026-11-03"):
        log.run(day)
    found = log.run(log.days[3], window=3)  # goes on without it, and takes what waited for its labels
    assert [each.read > 0 for each in load_accounts(found / "examples")] == [True, False, True]
    assert load_accounts(found / "examples")[1].kept == whole[2][1].held_back
    shutil.move(aside, folder)
    assert sorted(impressions_of(log.run(day))) == whole[1][2]
    assert sorted(impressions_of(log.run(log.days[3]))) == whole[1][3]


def test_rows_that_come_again_on_the_next_day(log, whole):
    log.write("impressions", log.days[2], log.read("impressions", log.days[2]) + log.read("impressions", log.days[1]))
    runs = [log.run(day) for day in log.days[2:]]
    assert [sorted(impressions_of(run)) for run in runs] == whole[1][2:]
    accounts = [*whole[2][:2], *map(account_of, runs)]
    assert accounts[2].duplicates + accounts[2].late == accounts[1].read
    assert set(withdrawn(accounts).values()) == {0}


def test_a_day_that_is_written_twice_and_holds_bad_rows(log, whole):
    rows = log.read("impressions", log.days[1])
    skewed = rows[0] | {"request_id": "tomorrow", "timestamp": rows[0]["timestamp"] + 24 * HOUR}
    log.write("impressions", log.days[1], [*rows, *rows, *(row | {"user_id": ""} for row in rows[:2]), skewed])
    runs = [log.run(day) for day in log.days[1:3]]
    assert [sorted(impressions_of(run)) for run in runs] == whole[1][1:3]
    assert [account_of(run).duplicates for run in runs] == [whole[2][1].read, 0]
    assert [account_of(run).dead_letters for run in runs] == [3, 0]


def test_a_corrected_day_changes_the_spans_that_read_it_alone(log, whole):
    log.write("clicks", log.days[1], log.read("clicks", log.days[1])[1:])
    after = [account_of(log.run(day)).key for day in log.days[:2]]
    assert [one == before.key for one, before in zip(after, whole[2], strict=False)] == [True, False]


def test_impressions_without_clicks_are_not_taken_for_not_clicked(log):
    log.path("clicks", log.days[1]).unlink()
    with pytest.raises(SpanNotReadyError, match="no clicks"):
        log.run(log.days[2])


@pytest.mark.parametrize(("window", "lateness"), [(30.0, 0.0), (1.0, 26.0)])
def test_other_windows(tmp_path, window, lateness):
    """Longer than a day, and rows that lie in a later folder than they happened."""
    settings = {"attribution_window_hours": window, "spans": {"lateness_hours": lateness}}
    log = DaysOfLog(tmp_path, 3, requests=4, delay_hours=min(window, 5.0), **settings)
    if lateness:
        moved = log.read("impressions", log.days[0])[-3:]
        log.write("impressions", log.days[0], log.read("impressions", log.days[0])[:-3])
        log.write("impressions", log.days[1], log.read("impressions", log.days[1]) + moved)
    window_run = log.run(log.days[-1], window=3)
    until = start_of(log.days[-1] + DAY) - 1 - round((window + lateness) * HOUR)
    due = {(row["request_id"], row["item_id"]) for row in log.events["impressions"] if row["timestamp"] <= until}
    assert Counter(each[:2] for each in impressions_of(window_run)) == Counter(due)
    assert set(withdrawn(load_accounts(window_run / "examples")).values()) == {0}


def test_split_by_span_judges_each_day_before_it_trains(whole):
    log = whole[0]
    split = {"by": "span"}
    config, log.config = log.config, log.config.model_copy(update={"split": type(log.config.split)(**split)})
    try:
        runs = [log.run(day, window=2, out="by_span") for day in log.days[1:]]
    finally:
        log.config = config
    trained = Counter(each[:2] for run in runs for each in impressions_of(run, "train"))
    judged = Counter(each[:2] for run in runs for split in ("eval", "test") for each in impressions_of(run, split))
    assert set(trained.values()) == set(judged.values()) == {1}
    last = {each[:2] for split in ("eval", "test") for each in impressions_of(runs[-1], split)}
    assert set(judged) - last <= set(trained)
    assert account_of(runs[-1]).splits["train"] == 0 < account_of(runs[-1]).splits["eval"]

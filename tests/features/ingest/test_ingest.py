"""LogIngest on small logs whose answers are known."""

from __future__ import annotations

import json

import pyarrow as pa
import pytest

from features.ingest.counts import IngestCounts, RowAccountError
from features.ingest.ingest_logs import SplitConfig
from features.log_contract import BadRowsError, LogContractError
from tests.builders.ingest_case import (
    HOUR,
    ITEMS,
    SPEC,
    USERS,
    Case,
    T,
    clicks,
    impressions,
)

MIXED = {
    "impressions": impressions(
        [
            ("r1", T, "ann", 1),
            ("r1", T, "ann", 2),
            ("r1", T, "ann", 2),  # duplicate
            ("r2", T + 60_000, "ann", 3),
            ("r3", T + 120_000, "bob", 9),  # no such item
            ("r4", T + 10 * HOUR, "zoe", 1),  # immature; no such user
            ("r5", T, "ann", 1),  # conflict
            ("r5", T, "bob", 1),
            (None, T, "ann", 1),
            ("r6", 1_700_000_000, "ann", 1),  # seconds
            ("r7", T, "", 1),
        ],
        propensity=[0.5] * 10 + [2.0],
    ),
    "clicks": clicks(
        [
            ("r1", 2, T + 30_000),
            ("r1", 2, T + 40_000),  # duplicate
            ("r1", 1, T + HOUR + 1),  # late
            ("r2", 3, T + 60_000 + HOUR),  # the last instant that counts
            ("r3", 9, T),  # before its impression
            ("r1", 4, T),  # no such impression
            ("nowhere", 1, T),
            ("r4", 1, T + 10 * HOUR),  # immature
            ("r5", 1, T),  # conflict
        ]
    ),
    "items": pa.concat_tables([ITEMS, ITEMS.slice(0, 1)]),
    "users": USERS,
}


@pytest.fixture(scope="module")
def mixed(tmp_path_factory) -> Case:
    return Case(tmp_path_factory.mktemp("mixed"), MIXED)


def test_accounts(mixed):
    tables = mixed.counts.tables
    impression, click = tables["impressions"], tables["clicks"]
    assert (impression.rows_in, impression.kept, impression.duplicates, impression.immature) == (11, 4, 1, 1)
    assert impression.reasons == {
        "null_request_id": 1,
        "bad_timestamp": 1,
        "null_user_id": 1,
        "request_conflict": 2,
    }
    assert (click.rows_in, click.kept, click.duplicates, click.late, click.immature) == (9, 2, 1, 1, 1)
    assert click.reasons == {
        "click_before_impression": 1,
        "unknown_impression": 1,
        "unknown_request": 1,
        "request_conflict": 1,
    }
    assert (tables["items"].kept, tables["items"].duplicates) == (4, 1)
    assert (mixed.counts.unknown_items, mixed.counts.unknown_users) == (1, 0)
    assert mixed.counts.end_of_log == T + 10 * HOUR
    assert mixed.counts.mature_until == T + 9 * HOUR
    assert IngestCounts.load(mixed.examples) == mixed.counts


def test_requests(mixed):
    requests = mixed.requests()
    assert set(requests) == {"r1", "r2", "r3"}
    first = requests["r1"]
    assert first["item_id"] == [1, 2] and first["click"] == [0.0, 1.0] and first["position"] == [0, 1]
    assert first["price"] == [1.5, None] and first["tags"] == [["x", "y"], None] and first["shelf"] == ["s0", "s1"]
    assert first["city"] == "Oslo" and first["hour"] == 7 and first["propensity"] == [0.5, 0.5]
    assert requests["r3"]["price"] == [None] and requests["r3"]["city"] is None


def test_histories(mixed):
    requests = mixed.requests()
    assert mixed.history(requests["r1"]) == []
    assert mixed.history(requests["r2"]) == [(T + 30_000, 2)]
    assert requests["r3"]["user_index"] == -1
    (ann,) = mixed.users().values()
    assert ann["timestamp"] == [T + 30_000, T + 60_000 + HOUR] and ann["tags"] == [None, ["z"]]


def test_dead_letters_hold_the_row_and_the_reason(mixed):
    letters = mixed.letters()
    assert len(letters) == sum(table.dead_letters for table in mixed.counts.tables.values())
    (seconds,) = [letter for letter in letters if letter["reason"] == "bad_timestamp"]
    assert json.loads(seconds["row"])["request_id"] == "r6"
    assert "`timestamp`=1700000000" in seconds["detail"]
    assert {letter["source"].rsplit("/", 2)[1] for letter in letters} == {"impressions", "clicks"}


@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_formats_give_the_same_examples(mixed, tmp_path, suffix):
    case = Case(tmp_path, MIXED, suffix=suffix)
    assert case.requests() == mixed.requests()
    assert case.users() == mixed.users()
    assert case.counts == mixed.counts
    assert [(x["table"], x["reason"]) for x in case.letters()] == [(x["table"], x["reason"]) for x in mixed.letters()]


def test_the_number_of_shards_changes_nothing(mixed, tmp_path):
    case = Case(tmp_path, MIXED, num_shards=7)
    mine, theirs = case.requests(), mixed.requests()
    for row in (*mine.values(), *theirs.values()):
        del row["shard"], row["user_index"]
    assert mine == theirs and case.counts.tables == mixed.counts.tables
    assert len(list(case.examples.glob("Split-train/*.parquet"))) == len(list(case.behaviors.iterdir())) == 7


def test_labels_in_impressions_need_no_maturity(tmp_path):
    rows = [("r1", T, "ann", 1), ("r1", T, "ann", 2), ("r2", T + HOUR, "ann", 3), ("r3", T + HOUR, "ann", 1)]
    table = impressions(rows, click=[1, 0, None, 7], order=[0.0, 0.25, 0.0, 0.0])
    case = Case(tmp_path, {"impressions": table, "items": ITEMS, "users": USERS}, labels=("order",))
    requests = case.requests()
    assert set(requests) == {"r1"}
    assert requests["r1"]["click"] == [1.0, 0.0] and requests["r1"]["order"] == [0.0, 0.25]
    assert case.counts.tables["impressions"].reasons == {"bad_label": 2}
    assert case.users()[requests["r1"]["shard"], 0]["timestamp"] == [T]
    assert requests["r1"]["history_end"] == 0, "a request's own positives are not in its history"


def test_several_labels(tmp_path):
    rows = [("r1", 1, T + 1), ("r1", 1, T + 2), ("r1", 1, T + 3), ("r1", 1, T + 4)]
    tables = MIXED | {
        "impressions": impressions([("r1", T, "ann", 1)]),
        "clicks": clicks(rows, label=["click", "order", "share", None]),
    }
    case = Case(tmp_path, tables, labels=("order",), label_maturity=False)
    assert case.requests()["r1"]["click"] == case.requests()["r1"]["order"] == [1.0]
    counts = case.counts.tables["clicks"]
    assert (counts.kept, counts.ignored, counts.reasons) == (2, 1, {"bad_label": 1})
    assert case.counts.behaviors == 1, "only the spec's label makes behaviours"


def test_given_behaviors_and_positions(tmp_path):
    behaviors = pa.table(
        {
            "user_id": ["ann", "ann", "bob", None],
            "item_id": [3, 4, 1, 1],
            "timestamp": [T, T - 5, T - 1, T],
            "action": ["view", "cart", "view", "view"],
        }
    )
    table = impressions([("r1", T, "ann", 1), ("r1", T, "ann", 2), ("r2", T, "cid", 1)], position=[4, 1, -1])
    tables = {"impressions": table, "clicks": clicks([]), "items": ITEMS, "users": USERS, "behaviors": behaviors}
    case = Case(tmp_path, tables, label_maturity=False)
    request = case.requests()["r1"]
    assert request["item_id"] == [2, 1] and request["position"] == [1, 4] and request["shelf"] == ["s1", "s0"]
    assert case.history(request) == [(T - 5, 4)]
    assert case.users()[request["shard"], request["user_index"]]["action"] == ["cart", "view"]
    assert case.counts.tables["impressions"].reasons == {"bad_position": 1}
    assert case.counts.tables["behaviors"].reasons == {"null_user_id": 1}


def test_split_by_time_is_ordered_and_stored(tmp_path):
    rows = [(f"r{i}", T + i, f"u{i % 3}", 1) for i in range(100)]
    split = SplitConfig(eval_fraction=0.2, test_fraction=0.1)
    tables = {"impressions": impressions(rows, click=[0] * 100), "items": ITEMS, "users": USERS}
    case = Case(tmp_path, tables, split=split)
    assert case.counts.requests == {"train": 70, "eval": 20, "test": 10}
    assert (case.counts.eval_start, case.counts.test_start) == (T + 70, T + 90)
    assert {r["timestamp"] - T for r in case.requests("test").values()} == set(range(90, 100))


def test_split_at_random_and_by_column(tmp_path):
    rows = [(f"r{i // 2}", T, "ann", 1 + i % 2) for i in range(2000)]
    names = ["train", "test"] * 999 + ["test", "dev"]
    table = impressions(rows, click=[0] * 2000, part=names)
    tables = {"impressions": table, "items": ITEMS, "users": USERS}
    random = Case(tmp_path, tables, split=SplitConfig(by="random", eval_fraction=0.1, test_fraction=0.3))
    again = Case(
        tmp_path, tables, out="b", split=SplitConfig(by="random", eval_fraction=0.1, test_fraction=0.3, seed=1)
    )
    sizes = random.counts.requests
    assert abs(sizes["eval"] - 100) < 40 and abs(sizes["test"] - 300) < 60 and sum(sizes.values()) == 1000
    assert set(random.requests("test")) != set(again.requests("test"))
    column = Case(tmp_path, tables, out="c", split=SplitConfig(by="column", column="part"))
    assert column.counts.requests == {"train": 999, "eval": 0, "test": 1}
    assert column.counts.tables["impressions"].reasons == {"bad_split": 1}
    assert not (column.examples / "Split-eval").exists()


def test_too_many_bad_rows_fail_the_run_after_they_were_written(tmp_path):
    with pytest.raises(BadRowsError, match=r"5 of 11 rows of `impressions` are bad.*request_conflict: 2"):
        Case(tmp_path, MIXED, max_bad_row_fraction=0.4)
    assert list((tmp_path / "out" / "dead").glob("dead_letters-*.parquet"))


def test_missing_columns_and_tables_are_named(tmp_path):
    table = impressions([("r1", T, "ann", 1)]).rename_columns(["request_id", "time", "user_id", "item_id", "hour", "x"])
    with pytest.raises(LogContractError, match="no column `timestamp`.*It has: request_id, time"):
        Case(tmp_path, {"impressions": table, "items": ITEMS, "users": USERS})
    with pytest.raises(LogContractError, match="feature `price` comes from the table `items`, which is not given"):
        Case(tmp_path, {"impressions": MIXED["impressions"], "users": USERS})
    with pytest.raises(LogContractError, match=r"no .parquet, .csv, .tsv or .jsonl file"):
        Case(tmp_path, {"impressions": MIXED["impressions"], "items": ITEMS, "users": USERS}, suffix="txt")


def test_a_log_of_bad_rows_only(tmp_path):
    tables = MIXED | {"impressions": impressions([("r1", 0, "ann", 1)]), "clicks": clicks([])}
    case = Case(tmp_path, tables)
    assert case.requests() == {} and case.counts.tables["impressions"].dead_letters == 1


def test_balance_is_checked(mixed):
    tables = mixed.counts.tables
    lost = tables["clicks"].model_copy(update={"kept": tables["clicks"].kept - 1})
    with pytest.raises(RowAccountError, match="`clicks`: 9 rows in, 8 accounted for"):
        mixed.counts.model_copy(update={"tables": tables | {"clicks": lost}}).check_balance()


def test_spec_without_history_or_items(tmp_path):
    spec = SPEC.model_copy(update={"features": SPEC.features[2:5], "history": None})
    case = Case(tmp_path, {"impressions": MIXED["impressions"], "clicks": MIXED["clicks"]}, spec=spec)
    assert set(case.requests()["r1"]) >= {"item_id", "hour", "shelf", "click"}
    assert case.counts.unknown_items == 0

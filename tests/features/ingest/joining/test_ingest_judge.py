"""LogIngest judges itself: what cannot be trained on fails here, with the figures and the fix."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from features.ingest.config import IngestConfig, Limits, SplitConfig
from features.ingest.counts import IngestCounts, TableCounts
from features.ingest.ingest_logs import run_ingest
from features.ingest.judge import judge_log, warnings_of
from features.log_contract import BadRowsError, UntrainableLogError
from tests.builders.ingest_case import HOUR, ITEMS, SPEC, USERS, Case, T, clicks, impressions

GOOD = IngestCounts(
    tables={
        "impressions": TableCounts(rows_in=100, kept=90, duplicates=5, dead_letters=2, immature=3),
        "clicks": TableCounts(rows_in=20, kept=15, late=5),
    },
    requests={"train": 40, "eval": 5},
    impressions={"train": 80, "eval": 10},
    positives={"click": {"train": 12, "eval": 3}},
    missing={"price": 89, "city": 44, "hour": 0},
    unknown_items=40,
    unknown_users=40,
    num_shards=4,
)


def judge(tmp_path, counts: IngestCounts, **config) -> None:
    config = IngestConfig.model_validate({"tables": {"impressions": "i", "clicks": "c"}} | config)
    judge_log(config, SPEC, counts, tmp_path, tmp_path)


def changed(table: str | None = None, **fields) -> IngestCounts:
    if table is None:
        return GOOD.model_copy(update=fields)
    return GOOD.model_copy(update={"tables": GOOD.tables | {table: GOOD.tables[table].model_copy(update=fields)}})


FAULTS = [
    (changed("impressions", kept=0), "no impression was kept of 100: 2 dead letters, 3 immature, 5 duplicates"),
    (changed(requests={"train": 0, "eval": 45}), "the train split is empty"),
    (changed(requests={"train": 45, "eval": 0}), "the split `eval` is empty, and training stops by it"),
    (changed(requests={"train": 40, "eval": 5, "test": 0}), "`test` is empty, and models are judged by it"),
    (changed(positives={"click": {"train": 0, "eval": 3}}), "no impression of the train split is positive in `click`"),
    (
        changed("impressions", duplicates=51),
        r"51 of 100 \(51.00%\) rows of `impressions` repeat.*`limits.duplicates`=0.5",
    ),
    (changed("clicks", duplicates=11), "11 of 20 .* rows of `clicks` repeat another"),
    (changed("clicks", ignored=20), "20 of 20 .* label that is not asked for.*asked for: `click`"),
    (changed("impressions", immature=91), "91 of 100 .* impressions are immature"),
    (changed(unknown_items=46), "46 of 90 .* impressions show an item without a row in `items`"),
    (changed(unknown_users=43), "43 of 45 .* requests are of a user without a row in `users`"),
    (changed(missing={"price": 90}), "feature `price` is missing in 90 of 90"),
    (changed(missing={"city": 45}), "feature `city` is missing in 45 of 45"),
    (changed("clicks", dead_letters=3, reasons={"bad_value": 3}), r"3 of 20 rows of `clicks` are bad \(15.00%"),
    (changed("clicks", bad_files={"c/x.csv": 9}), "none of the 9 rows of c/x.csv is good"),
]


def test_a_log_like_others_passes(tmp_path):
    judge(tmp_path, GOOD)


@pytest.mark.parametrize(("counts", "message"), FAULTS, ids=[message[:30] for _, message in FAULTS])
def test_each_fault_is_named_with_its_figures(tmp_path, counts, message):
    with pytest.raises(UntrainableLogError, match=message) as failure:
        judge(tmp_path, counts)
    assert "\n" not in str(failure.value), "nothing else is wrong"


def test_all_faults_are_told_at_once(tmp_path):
    both = GOOD.model_copy(update={"unknown_items": 90, "missing": {"price": 90}})
    with pytest.raises(UntrainableLogError, match=r"for 2 reasons:\n- 90 of 90 .*\n- feature `price`"):
        judge(tmp_path, both)
    bad = both.model_copy(update={"tables": FAULTS[-2][0].tables})
    with pytest.raises(BadRowsError, match=r"(?s)for 3 reasons:\n- 3 of 20 rows.*- feature `price`"):
        judge(tmp_path, bad)


def test_limits_can_be_moved(tmp_path):
    judge(tmp_path, FAULTS[-1][0], limits=Limits(bad_files=True))
    judge(tmp_path, changed(unknown_items=90), limits=Limits(unknown_items=1))
    judge(tmp_path, FAULTS[-2][0], max_bad_row_fraction=0.2)


def test_warnings_name_files_and_empty_splits():
    split = {"by": "column", "column": "part"}
    config = IngestConfig.model_validate({"tables": {"impressions": "i", "clicks": "c"}, "split": split})
    assert warnings_of(config, GOOD) == ()
    counts = changed("clicks", passed_over=("a.zip", "b", "c", "d"), differing_files=("e.csv",)).model_copy(
        update={"requests": {"train": 40, "eval": 5, "test": 0}, "positives": {"click": {"train": 1, "eval": 0}}}
    )
    passed, differing, eval_split, test_split = warnings_of(config, counts)
    assert "4 files were passed over: a.zip, b, c and 1 more" in passed and "e.csv" in differing
    assert "`eval` has no positive" in eval_split and "no row of `part` says `test`" in test_split


def test_a_misspelt_label_is_told_with_those_that_are_there(tmp_path):
    clicked = clicks([("r1", 1, T), ("r1", 2, T), ("r1", 1, T)], label=["Click", "Click", "order"])
    tables = {"impressions": impressions([("r1", T, "ann", 1), ("r1", T, "ann", 2)]), "clicks": clicked}
    tables |= {"items": ITEMS, "users": USERS}
    with pytest.raises(UntrainableLogError, match=r"positive in `click`.*`Click` \(2\), `order` \(1\)") as failure:
        Case(tmp_path, tables, judged=True, label_maturity=False)
    assert "Did you mean `Click`?" in str(failure.value)


def test_ids_that_do_not_meet_are_shown_from_both_sides(tmp_path):
    items = ITEMS.set_column(0, "item_id", [["i1", "i2", "i3", "i4"]])
    spec = SPEC.model_copy(update={"features": tuple(f for f in SPEC.features if f.name != "item_id"), "history": None})
    table = impressions([("r1", T, "ann", "1"), ("r2", T, "zoe", "2")], click=[1, 0])
    with pytest.raises(UntrainableLogError, match="Ids of impressions: `1`.*; of `items`: `i1`, `i2`, `i3`") as failure:
        Case(tmp_path, {"impressions": table, "items": items, "users": USERS}, spec=spec, judged=True)
    assert "feature `price` is missing in 2 of 2" in str(failure.value)


def test_a_file_of_bad_rows_fails_the_run_by_name_however_large_the_table(tmp_path):
    good = impressions([(f"r{i}", T + i, "ann", 1 + i % 3) for i in range(1000)], click=[i % 2 for i in range(1000)])
    seconds = impressions([("x", T // 1000, "ann", 1), ("y", None, "ann", 1), ("z", 7, "ann", 1)], click=[1, 1, 1])
    case = Case(tmp_path, {"impressions": good, "items": ITEMS, "users": USERS})
    extra = tmp_path / "parquet" / "impressions" / "part-1.parquet"
    pq.write_table(seconds.cast(good.schema), extra)
    folders = (case.examples, case.behaviors, case.dead)
    with pytest.raises(UntrainableLogError, match="none of the 3 rows of .*part-1.parquet is good. Row 1 .bad_timest"):
        run_ingest(case.config, SPEC, *folders)
    allowed = case.config.model_copy(update={"limits": Limits(bad_files=True)})
    counts = run_ingest(allowed, SPEC, *folders)
    assert counts.tables["impressions"].bad_files == {str(extra): 3}
    assert counts.tables["impressions"].kept == 1000


def test_a_log_whose_first_blocks_are_bad_ends_after_them(tmp_path):
    size = 300_000
    seconds = pa.array([T // 1000]).take(pa.array([0] * size))
    table = pa.table(
        {
            "request_id": pa.array(range(size)).cast(pa.string()),
            "timestamp": seconds,
            "user_id": ["u"] * size,
            "item_id": [1] * size,
            "hour": [1] * size,
            "shelf": ["s"] * size,
            "click": [0] * size,
        }
    )
    tables = {"impressions": table, "items": ITEMS, "users": USERS}
    with pytest.raises(BadRowsError, match=r"none of the first 131,072 rows of .* is good.*bad_timestamp: 131,072"):
        Case(tmp_path, tables, max_bad_row_fraction=0.5)


def test_an_empty_eval_split_is_found_before_a_trainer_does(tmp_path):
    rows = [("r1", T, "ann", 1), ("r2", T + HOUR, "ann", 2)]
    tables = {"impressions": impressions(rows, click=[1, 1]), "items": ITEMS, "users": USERS}
    with pytest.raises(UntrainableLogError, match="the split `eval` is empty"):
        Case(tmp_path, tables, judged=True, split=SplitConfig(train_until=T + 2 * HOUR))

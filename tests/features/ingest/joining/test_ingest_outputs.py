"""A used folder: the outcome of an ingestion is that of new folders, and nothing that is not ours is deleted."""

from __future__ import annotations

import pytest

from features.errors import OccupiedError
from features.ingest.config import SplitConfig
from features.ingest.counts import COUNTS_FILE
from features.ingest.ingest_logs import run_ingest
from features.log_contract import LogContractError
from tests.builders.ingest_case import ITEMS, SPEC, USERS, Case, T, impressions


def files_of(case: Case) -> dict[str, bytes]:
    root = case.examples.parent
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


@pytest.fixture
def used(tmp_path) -> Case:
    """Folders that hold more shards, an eval split, a catalogue and what a killed run left."""
    rows = [(f"r{i}", T + i, f"u{i}", 1) for i in range(20)]
    tables = {"impressions": impressions(rows, click=[1] * 20), "items": ITEMS, "users": USERS}
    case = Case(tmp_path, tables, num_shards=5, split=SplitConfig(eval_fraction=0.4, test_fraction=0))
    for path in (
        case.examples / "Split-train" / ".requests-00000-of-00005.parquet.x1.tmp",
        case.examples / "_items-0123.arrow",
        case.behaviors / ".behaviors-00001-of-00005.parquet.x2.tmp",
    ):
        path.write_bytes(b"half")
    return case


SMALL = SPEC.model_copy(update={"features": SPEC.features[2:4], "history": None})


def test_the_outcome_is_that_of_new_folders(used, tmp_path):
    tables = {"impressions": impressions([("r1", T, "ann", 1)], click=[1])}
    again = Case(tmp_path / "second", tables, spec=SMALL)
    run_ingest(again.config, SMALL, used.examples, used.behaviors, used.dead)
    assert files_of(used) == files_of(again)
    assert {path.name for path in used.examples.iterdir()} == {COUNTS_FILE, "Split-train"}


@pytest.mark.parametrize("name", ["Split-train/requests.csv", "Split-notes/part-0.parquet", "Split-eval/.keep"])
def test_what_is_not_ours_stops_the_run_before_anything_is_deleted(used, name):
    other = used.examples / name
    other.parent.mkdir(exist_ok=True)
    other.write_text("mine")
    before = files_of(used)
    with pytest.raises(OccupiedError, match=f"{name.rpartition('/')[2]} was not written by LogIngest"):
        run_ingest(used.config, SPEC, used.examples, used.behaviors, used.dead)
    assert files_of(used) == before


def test_a_log_that_cannot_be_read_deletes_nothing(used):
    before = files_of(used)
    tables = used.config.tables.model_copy(update={"items": None})
    with pytest.raises(LogContractError, match="set `tables.items`"):
        run_ingest(used.config.model_copy(update={"tables": tables}), SPEC, used.examples, used.behaviors, used.dead)
    assert files_of(used) == before

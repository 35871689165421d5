"""The log of exposures: whole parts, bounded memory, and what is lost is said."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from features.errors import InputError, RunError
from features.spec import FeatureSpec
from serving.experiments.exposure import COLUMNS, Exposure
from serving.experiments.exposure_log import ACCOUNT, ExposureLog

ROOT = Path(__file__).parents[3]
T = 1_700_000_000_000
SPEC = FeatureSpec.model_validate(
    {
        "name": "log",
        "features": [
            {"name": "hour", "table": "impressions", "dtype": "int64", "column": "hour_of_day"},
            {"name": "tags", "table": "impressions", "kind": "multi_categorical"},
            {"name": "shelf", "table": "impressions", "scope": "candidate"},
            {"name": "item_id", "table": "items", "dtype": "int64"},
        ],
    }
)


def exposure(number: int = 0, **values) -> Exposure:
    given = {"request_id": f"r{number}", "timestamp": T + number, "user": "u1", "items": [3, 9], "release": "v1"}
    return Exposure(**(given | values))


def parts(folder) -> list[Path]:
    return sorted(Path(folder).glob("*.parquet"))


def rows(folder) -> list[dict]:
    return [row for part in parts(folder) for row in pq.ParquetFile(part).read().to_pylist()]


def test_an_exposure_becomes_rows_of_the_log_contract(tmp_path):
    with ExposureLog(tmp_path, SPEC) as log:
        assert log.write(
            exposure(
                propensities=[0.5, 1.0], conditionals=[0.5, 0.25], policy="epsilon(…)", variants={"b": "y", "a": "x"},
                context={"hour": 21, "tags": ["new", "red"], "other": 1}, item_features=[{"shelf": "s"}, {}],
                forced=True,
            )
        )  # fmt: skip
        log.write(exposure(1, user=7, items=[4]))
    first, second, third = rows(tmp_path)
    assert first == {
        "request_id": "r0", "timestamp": T, "user_id": "u1", "item_id": 3, "position": 0, "propensity": 0.5,
        "conditional_propensity": 0.5, "policy": "epsilon(…)", "release": "v1", "variants": ["a=x", "b=y"],
        "forced": True, "hour_of_day": 21, "tags": ["new", "red"], "shelf": "s",
    }  # fmt: skip
    assert (second["item_id"], second["position"], second["shelf"], second["propensity"]) == (9, 1, None, 1.0)
    assert third["propensity"] is third["hour_of_day"] is None and third["user_id"] == "7"
    schema = pq.read_schema(parts(tmp_path)[0])
    assert schema.field("item_id").type == pa.int64() and set(COLUMNS) < set(schema.names)
    assert json.loads(schema.metadata[ACCOUNT])["logged"] == 2
    assert [path.name for path in tmp_path.iterdir()] == [parts(tmp_path)[0].name]


@pytest.mark.parametrize(
    "values, said",
    [
        ({"propensities": [0.5, 0.0]}, r"`propensities` must be 2 numbers in \(0, 1\]"),
        ({"propensities": [0.5]}, "`propensities` must be 2"),
        ({"conditionals": [float("nan"), 1]}, "`conditionals` must be 2"),
        ({"propensities": [0.5, 1.1]}, "`propensities`"),
        ({"items": [3, 3]}, "an item stands in it twice"),
        ({"timestamp": T // 1000}, "UTC milliseconds"),
        ({"request_id": ""}, "takes an id"),
        ({"item_features": [{}]}, "1 `item_features` for 2 items"),
    ],
)
def test_what_the_contract_would_refuse_is_refused(tmp_path, values, said):
    with ExposureLog(tmp_path) as log, pytest.raises(InputError, match=said):
        log.write(exposure(**values))


def test_nobody_is_counted_and_what_is_of_another_type_is_left_out_alone(tmp_path, caplog):
    with ExposureLog(tmp_path, SPEC) as log:
        assert not log.write(exposure(user=None)) and log.write(exposure(1, items=[]))
        assert log.write(exposure(2)) and log.write(exposure(3, context={"hour": "late"}))
    assert (log.anonymous, log.refused) == (1, 1)
    assert {row["request_id"] for row in rows(tmp_path)} == {"r2"}
    assert "request 'r3' is left out: column `hour_of_day`" in caplog.text


def test_a_feature_may_not_take_a_column_of_the_log(tmp_path):
    spec = SPEC.model_copy(update={"features": (SPEC.features[0].model_copy(update={"column": "policy"}),)})
    with pytest.raises(InputError, match="feature `hour` reads a column that the exposure log fills itself"):
        ExposureLog(tmp_path, spec)


def test_parts_are_published_by_size_and_by_age(tmp_path):
    with ExposureLog(tmp_path / "size", part_rows=10, part_seconds=3600) as log:
        for number in range(12):
            log.write(exposure(number))
            if number % 5 == 4:
                log.flush()
        assert len(parts(tmp_path / "size")) >= 2 and len(rows(tmp_path / "size")) == 20
    assert len(rows(tmp_path / "size")) == 24
    with ExposureLog(tmp_path / "age", part_seconds=0.05) as log:
        log.write(exposure())
        until = time.monotonic() + 20
        while not parts(tmp_path / "age") and time.monotonic() < until:
            time.sleep(0.01)
        assert len(rows(tmp_path / "age")) == 2
    with pytest.raises(RunError, match="closed"):
        log.write(exposure())


def test_a_disk_that_fails_bounds_the_memory_and_loses_nothing_that_was_taken(tmp_path, monkeypatch, caplog):
    write_table = pq.write_table

    def full(*args, **options):
        raise OSError("no space left on device")

    monkeypatch.setattr(pq, "write_table", full)
    log = ExposureLog(tmp_path, part_rows=4, max_rows=10)
    taken = [log.write(exposure(number)) for number in range(20)]
    assert taken == [True] * 5 + [False] * 15 and log.dropped == 15
    assert "15 exposures dropped" not in caplog.text and "8 exposures dropped" in caplog.text
    with pytest.raises(RunError, match="10 rows of the exposure log were not published"):
        log.flush(timeout_s=0.2)
    monkeypatch.setattr(pq, "write_table", write_table)
    log.close()
    assert [row["request_id"] for row in rows(tmp_path)[::2]] == [f"r{number}" for number in range(5)]
    monkeypatch.setattr(pq, "write_table", full)
    log = ExposureLog(tmp_path / "lost")
    log.write(exposure())
    with pytest.raises(RunError, match="2 rows of the exposure log in .* are lost: no space left"):
        log.close()
    (lost,) = (tmp_path / "lost").glob("_lost-*.json")
    assert json.loads(lost.read_text())["at_most_rows"] == 2
    assert not list((tmp_path / "lost").glob("_writer-*"))


WRITE = """
import sys, time
from tests.serving.experiments.test_exposure_log import exposure
from serving.experiments.exposure_log import ExposureLog

log = ExposureLog(sys.argv[1], part_rows=100, part_seconds=3600)
for number in range(230):
    log.write(exposure(number))
    if number == 199:
        log.flush()
print("written", flush=True)
time.sleep(600)
"""


def test_a_lost_process_loses_its_tail_alone_and_the_next_says_so(tmp_path, caplog):
    with ExposureLog(tmp_path) as running:  # of a process that runs nothing is said
        process = subprocess.Popen([sys.executable, "-c", WRITE, tmp_path], stdout=subprocess.PIPE, cwd=ROOT)
        assert process.stdout.readline() == b"written\n"
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        assert running.lost == []
    found = rows(tmp_path)
    assert [row["request_id"] for row in found[::2]] == [f"r{number}" for number in range(200)]
    with ExposureLog(tmp_path) as log:
        (lost,) = log.lost
        assert lost.after == T + 199 and lost.at_most_rows == 200_000
        assert f"what it showed after {T + 199} (UTC ms) is lost" in caplog.text
        log.write(exposure(1000))
    with ExposureLog(tmp_path) as log:
        assert log.lost == []  # said once
    assert len(rows(tmp_path)) == 402
    assert sorted(path.name[:6] for path in tmp_path.iterdir() if path.suffix == ".json") == ["_lost-"]


def test_another_spec_has_parts_of_its_own(tmp_path):
    bare = FeatureSpec.model_validate({"name": "bare", "features": [{"name": "item_id", "table": "items"}]})
    with ExposureLog(tmp_path, SPEC) as log:
        log.write(exposure(context={"hour": 1}))
        log.use(SPEC.model_copy())
        log.write(exposure(1, context={"hour": 2}))
        log.use(bare)
        log.write(exposure(2, items=["x"]))
    first, second = (pq.read_table(part) for part in parts(tmp_path))
    assert first["hour_of_day"].to_pylist() == [1, 1, 2, 2] and first["item_id"].type == pa.int64()
    assert "hour_of_day" not in second.column_names and second["item_id"].to_pylist() == ["x"]


def test_several_processes_may_write_to_one_folder(tmp_path):
    with ExposureLog(tmp_path) as first, ExposureLog(tmp_path) as second:
        for number in range(10):
            (first, second)[number % 2].write(exposure(number))
    assert sorted(int(row["request_id"][1:]) for row in rows(tmp_path)) == np.repeat(np.arange(10), 2).tolist()
    assert len(parts(tmp_path)) == 2

"""A log summed by Beam: bit for bit that of the log in one piece, however its rows lie in shards and bundles."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from evaluation.replay.estimators.registry import make_estimator
from evaluation.replay.log_table import LogColumns
from evaluation.replay.summed_log import SummedLog
from features.errors import InputError, NotFoundError
from pipeline.replay.sum_logs import MergeSums, SumsCoder, sum_logs, sum_table

COLUMNS = LogColumns(
    policies={"new": "p_new", "live": "propensity"}, reward={"click": 1.0, "order": 9.99}, slot="position"
)
ESTIMATORS = [make_estimator(name) for name in ("snips", "clipped_ips@2", "sniips")]
DAY = {"day": "day"}


@pytest.fixture(scope="module")
def rows():
    rng, requests, slots = np.random.default_rng(3), 1200, 3
    request = np.repeat(np.arange(requests), slots)
    propensity = rng.uniform(0.05, 1, len(request))
    user = request % 211
    return pa.table(
        {
            "user_id": pa.array([f"u{each}" for each in user]),
            "request_id": request,
            "position": np.tile(np.arange(slots), requests),
            "propensity": propensity,
            "p_new": np.clip(propensity * rng.lognormal(0, 0.5, len(request)), 0, 1),
            "click": rng.random(len(request)) < 0.2,
            "order": rng.random(len(request)) < 0.03,
            "day": pa.array(np.datetime_as_string(np.datetime64("2026-03-01") + request % 5)),
            "unused": rng.random(len(request)),
        }
    )


def write_shards(rows, folder, count, seed):
    """Rows in any order, so that requests are torn apart; returns the files in any order."""
    rng = np.random.default_rng(seed)
    shuffled = rows.take(pa.array(rng.permutation(rows.num_rows)))
    edges = np.linspace(0, rows.num_rows, count + 1).astype(int)
    paths = []
    for number, (start, end) in enumerate(zip(edges, edges[1:], strict=False)):
        paths.append(str(folder / f"log-{number:05d}.parquet"))
        pq.write_table(shuffled.slice(start, end - start), paths[-1], row_group_size=300)
    return list(rng.permutation(paths))


@pytest.mark.parametrize("count, group_rows, seed", [(1, 1 << 19, 0), (5, 500, 1), (7, 150, 2)])
def test_beam_finds_the_same_bits_as_one_process(rows, tmp_path, monkeypatch, count, group_rows, seed):
    monkeypatch.setattr("pipeline.replay.sum_logs.GROUP_ROWS", group_rows)
    monkeypatch.setattr("pipeline.replay.sum_logs._BATCH_ROWS", 128)
    whole = sum_table(rows, COLUMNS, ESTIMATORS, DAY)
    found = sum_logs(write_shards(rows, tmp_path, count, seed), COLUMNS, tmp_path / "sums", ESTIMATORS, DAY)
    assert found.to_bytes() == whole.to_bytes() == SummedLog.read(tmp_path / "sums").to_bytes()
    for estimator in ESTIMATORS:
        ours, theirs = (estimator.influence(each.sums.policy("new")) for each in (found, whole))
        assert estimator.estimate(found.sums.policy("new")) == estimator.estimate(whole.sums.policy("new"))
        assert np.array_equal(ours, theirs)
    assert len(found.strata["day"].strata) == 5 and found.strata["slot"].strata.tolist() == [0, 1, 2]


def test_the_combine_merges_in_any_tree_to_the_same_bits(rows):
    request = np.asarray(rows["request_id"])
    parts = [sum_table(rows.filter(pa.array(request % 19 == k)), COLUMNS, ESTIMATORS).to_bytes() for k in range(19)]
    merge, coder = MergeSums(), SumsCoder()
    whole = sum_table(rows, COLUMNS, ESTIMATORS).to_bytes()
    for seed in range(3):
        rng = np.random.default_rng(seed)
        accumulators = [merge.create_accumulator() for _ in range(4)]
        for part in rng.permutation(np.array(parts, object)):
            at = int(rng.integers(3))
            accumulators[at] = coder.decode(coder.encode(merge.add_input(accumulators[at], part)))
        order = [accumulators[i] for i in rng.permutation(4)]  # one of them was given nothing
        merged = merge.merge_accumulators([merge.merge_accumulators(order[:2]), merge.merge_accumulators(order[2:])])
        assert merge.extract_output(merged) == whole
    assert merge.extract_output(merge.create_accumulator()) is None


def test_faults_end_the_job_or_are_counted_over_all_parts(rows, tmp_path):
    broken = rows.set_column(
        rows.column_names.index("propensity"),
        "propensity",
        pa.array(np.where(np.asarray(rows["request_id"]) % 400 == 7, 0.0, np.asarray(rows["propensity"]))),
    )
    files = write_shards(broken, tmp_path, 3, 0)
    with pytest.raises(Exception, match="the propensity does not lie in"):
        sum_logs(files, COLUMNS, tmp_path / "sums")
    assert not (tmp_path / "sums").exists()
    found = sum_logs(files, COLUMNS, tmp_path / "sums", exclude=True)
    assert found.excluded == {"the propensity does not lie in (0, 1]": 9}
    assert found.sums.by_user.total("requests") == 1197


def test_what_cannot_be_summed_is_refused(rows, tmp_path):
    with pytest.raises(NotFoundError, match="at least one Parquet file"):
        sum_logs([], COLUMNS, tmp_path / "sums")
    with pytest.raises(InputError, match="not a summed log"):
        SummedLog.from_bytes(b"PAR1")
    first = sum_table(rows, COLUMNS)
    with pytest.raises(InputError, match="same strata"):
        first.merge(sum_table(rows, COLUMNS, (), DAY))


def test_the_bytes_are_few(rows):
    """Limbs of 64 bits are mostly zeros; at most what as many doubles and keys would take."""
    sums = sum_table(rows, COLUMNS, ESTIMATORS)
    tables = [sums.sums.by_user, sums.sums.by_slot, sums.strata["slot"].table]
    doubles = sum(8 * len(table.user) * (2 + len(table.columns)) for table in tables)
    assert len(sums.to_bytes()) < 1.2 * doubles

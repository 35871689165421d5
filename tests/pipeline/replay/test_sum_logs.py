"""A log summed by Beam: bit for bit that of the log in one piece, however its rows lie in shards and bundles."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from evaluation.replay.log_table import LogColumns, logged_from_table
from evaluation.replay.replay import replay
from evaluation.replay.verdicts.replay_report import ReplayPlan, ReplaySums, report_of
from evaluation.replay.verdicts.sums_bytes import from_bytes, to_bytes
from features.errors import InputError, NotFoundError
from pipeline.replay.sum_logs import MergeSums, SumsCoder, sum_logs

COLUMNS = LogColumns(
    policies={"new": "p_new", "live": "propensity"},
    reward={"click": 1.0, "order": 9.99},
    time="timestamp",
    strata={"city": "city"},
)
PLAN = ReplayPlan(candidate="new", baseline="live", estimators=("snips", "clipped_ips@2", "sniips"))


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
            "timestamp": 1_772_323_200_000 + request % 5 * 86_400_000,
            "city": pa.array([f"city_{each % 4}" for each in user]),
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


def sums_of(rows) -> ReplaySums:
    return ReplaySums.of(logged_from_table(rows, COLUMNS), PLAN)


@pytest.mark.parametrize("count, group_rows, seed", [(1, 1 << 19, 0), (5, 500, 1), (7, 150, 2)])
def test_beam_finds_the_same_bits_as_one_process(rows, tmp_path, monkeypatch, count, group_rows, seed):
    monkeypatch.setattr("pipeline.replay.sum_logs.GROUP_ROWS", group_rows)
    monkeypatch.setattr("pipeline.replay.sum_logs._BATCH_ROWS", 128)
    found = sum_logs(write_shards(rows, tmp_path, count, seed), COLUMNS, PLAN, tmp_path / "sums")
    assert to_bytes(found) == to_bytes(sums_of(rows)) == (tmp_path / "sums").read_bytes()
    assert report_of(found, PLAN) == replay(rows, COLUMNS, PLAN)
    assert len(found.strata["day"].strata) == 5 and found.strata["slot"].strata.tolist() == [0, 1, 2]
    assert sorted(found.stratum_names["city"].values()) == ["city_0", "city_1", "city_2", "city_3"]


def test_the_combine_merges_in_any_tree_to_the_same_bits(rows):
    request = np.asarray(rows["request_id"])
    parts = [to_bytes(sums_of(rows.filter(pa.array(request % 19 == k)))) for k in range(19)]
    merge, coder, whole = MergeSums(), SumsCoder(), to_bytes(sums_of(rows))
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
    broken = np.where(np.asarray(rows["request_id"]) % 400 == 7, 0.0, np.asarray(rows["propensity"]))
    rows = rows.set_column(rows.column_names.index("propensity"), "propensity", pa.array(broken))
    files = write_shards(rows, tmp_path, 3, 0)
    with pytest.raises(Exception, match="the propensity does not lie in"):
        sum_logs(files, COLUMNS, PLAN, tmp_path / "sums")
    assert not (tmp_path / "sums").exists()
    found = sum_logs(files, COLUMNS, PLAN, tmp_path / "sums", exclude=True)
    assert found.excluded == {"the propensity does not lie in (0, 1]": 9}
    assert found.sums.by_user.total("requests") == 1197


def test_what_cannot_be_summed_is_refused(tmp_path):
    with pytest.raises(NotFoundError, match="at least one Parquet file"):
        sum_logs([], COLUMNS, PLAN, tmp_path / "sums")
    with pytest.raises(InputError, match="not the sums of a replay"):
        from_bytes(b"PAR1")


def test_the_bytes_are_few(rows):
    """Limbs of 64 bits are mostly zeros; three of them take little more than a double."""
    found = sums_of(rows)
    tables = [found.sums.by_user, found.sums.by_slot, *(each.table for each in found.strata.values())]
    doubles = sum(8 * len(table.user) * (2 + len(table.columns)) for table in tables)
    assert len(to_bytes(found)) < 1.6 * doubles

"""The large log of a benchmark: read in batches, it is the log that is read whole."""

import pyarrow.parquet as pq

from benchmarks.replay import replay_cost


def test_batches_of_a_log_make_the_replay_of_the_whole(tmp_path, monkeypatch):
    monkeypatch.setattr(replay_cost, "BATCH", 5_000)
    path = tmp_path / "log.parquet"
    replay_cost.make(path, 20_000)
    assert pq.read_metadata(path).num_row_groups == 4 and list(tmp_path.iterdir()) == [path]
    found = replay_cost.replayed(str(path))
    monkeypatch.setattr(replay_cost, "BATCH", 20_000)
    whole = replay_cost.replayed(str(path))
    assert found["users"] == whole["users"] <= 1_000 and found["outcomes"] == whole["outcomes"]
    assert set(found["outcomes"].values()) == {"cannot_tell"}

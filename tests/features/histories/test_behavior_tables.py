from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from features.histories import build_tables as behavior_tables
from features.histories.build_tables import ItemEncodings, build_tables, shard_tables
from features.histories.time_gaps import NUM_GAP_BUCKETS
from tests.builders.behavior_case import (
    HISTORY,
    START,
    UNKNOWN,
    TableEncoder,
    expected_table,
    histories,
    write_log,
)


class FileSink:
    """Keeps what it gets in files: a copy of it, pickled by Beam, does the writing."""

    def __init__(self, directory: Path):
        self.directory = directory
        directory.mkdir()

    def write_block(self, block):
        name = f"{len(list(self.directory.iterdir())):05d}"
        np.savez(self.directory / name, ids=block.user_ids.to_pylist(), sums=block.sums, counts=block.counts)

    def close(self):
        (self.directory / "closed").touch()

    def read(self) -> dict:
        assert (self.directory / "closed").exists()
        found = {}
        for path in self.directory.glob("*.npz"):
            with np.load(path) as block:
                for user, sums, counts in zip(block["ids"], block["sums"], block["counts"], strict=True):
                    assert str(user) not in found
                    found[str(user)] = (sums, counts)
        return found


def check(found, users):
    expected = {user: expected_table(items) for user, items in users.items()}
    expected = {user: table for user, table in expected.items() if table.counts.any()}
    assert sorted(found) == sorted(expected)
    for user, table in expected.items():
        assert np.array_equal(found[user][1], table.counts), user
        np.testing.assert_allclose(found[user][0], table.sums, rtol=1e-5, atol=1e-5, err_msg=user)
    return expected


def test_the_tables_of_all_users(tmp_path, monkeypatch):
    monkeypatch.setattr(behavior_tables, "_WRITE_USERS", 7)
    monkeypatch.setattr(behavior_tables, "_READ_USERS", (1, 11))
    users = histories(80)
    files = write_log(tmp_path / "log", users, shards=3, row_group_size=9)
    sink = FileSink(tmp_path / "tables")
    counts = build_tables(files, TableEncoder(), sink)
    expected = check(sink.read(), users)
    windows = [len(items[: max(0, len(items) - 3)][-10:]) for items in users.values()]
    added = sum(int(table.counts[0].sum()) for table in expected.values())
    assert counts["users"] == len(expected) and counts["users_without"] == 80 - len(expected) > 2
    assert counts["behaviors"] == added and counts["unknown_behaviors"] == sum(windows) - added > 0
    seen = {item for items in users.values() for item in items[: max(0, len(items) - 3)][-10:]} - {None}
    assert UNKNOWN in seen and counts["items"] == len(seen)


@pytest.mark.parametrize("hours", [0, 30, 100, 24 * 400])
def test_tables_are_as_of_a_time(tmp_path, hours):
    """Only what lies before it is in them, each behaviour with the age that it then has."""
    weights = np.random.default_rng(hours).uniform(0.5, 2.0, NUM_GAP_BUCKETS).astype(np.float32)
    users, as_of = histories(40), START + 3_600_000 * hours
    files = write_log(tmp_path / "log", users, shards=2, row_group_size=9)
    sink = FileSink(tmp_path / "tables")
    counts = build_tables(files, TableEncoder(weights), sink, as_of=as_of)
    found = sink.read() if counts["users"] else {}
    expected = {user: expected_table(items, as_of, weights) for user, items in users.items()}
    expected = {user: table for user, table in expected.items() if table.counts.any()}
    assert sorted(found) == sorted(expected) and bool(expected) == (hours > 20)
    for user, table in expected.items():
        assert np.array_equal(found[user][1], table.counts), user
        np.testing.assert_allclose(found[user][0], table.sums, rtol=1e-4, atol=1e-5, err_msg=user)


def test_each_item_is_encoded_once(tmp_path):
    users = histories(200)
    encoder = TableEncoder()
    items = ItemEncodings(encoder)
    found = {}
    for path in write_log(tmp_path, users, shards=2):
        for block in shard_tables(path, items, HISTORY):
            rows = zip(block.user_ids.to_pylist(), block.sums, block.counts, strict=True)
            found |= {user: (sums, counts) for user, sums, counts in rows}
    check(found, users)
    assert len(encoder.met) == len(set(encoder.met)) == len(items) == 30


def test_more_items_than_room(tmp_path, monkeypatch):
    monkeypatch.setattr(behavior_tables, "_ENCODE_ROWS", 100)
    users = {f"user {i}": [f"item {item}" for item in range(100 * i, 100 * i + 43)] for i in range(60)}
    items = ItemEncodings(TableEncoder())
    (path,) = write_log(tmp_path, users, shards=1)
    history = HISTORY.model_copy(update={"long_length": 40})
    found = {}
    for block in shard_tables(path, items, history):
        assert (block.counts[:, 0].sum(axis=1) >= 39).all()
        found |= dict(zip(block.user_ids.to_pylist(), block.sums, strict=True))
    assert len(items) == 2400
    long = {user: expected_of(row[:40]) for user, row in users.items()}
    assert all(np.allclose(found[user], table.sums, atol=1e-4) for user, table in long.items())


def expected_of(window):
    return sum_of([expected_table([item, *["item 1"] * 3]) for item in window])


def sum_of(tables):
    first = tables[0]
    for other in tables[1:]:
        first.sums[...] += other.sums
        first.counts[...] += other.counts
    return first


def test_integer_ids_and_features_of_numbers(tmp_path):
    class Numbers(TableEncoder):
        history = HISTORY.model_copy(update={"features": ("item_id",)})

        def encode(self, behaviors):
            ids = behaviors["item_id"].to_numpy().astype(np.float32)
            signatures = np.repeat((behaviors["item_id"].to_numpy() % 8)[:, np.newaxis], 16, axis=1)
            return np.repeat(ids[:, np.newaxis], 6, axis=1), signatures, ids > 0

    path = tmp_path / "behaviors-00000-of-00001.parquet"
    lists = pa.array([[8, 1, 8, 9, 5, 5, 5], [], [-3, -3, 1, 1, 1]], pa.list_(pa.int64()))
    pq.write_table(pa.table({"user_id": pa.array([10, 20, 30]), "item_id": lists}), path)
    (block,) = shard_tables(str(path), ItemEncodings(Numbers()), Numbers.history)
    assert block.user_ids.to_pylist() == [10] and (block.users_without, block.unknown_behaviors) == (2, 2)
    assert block.counts[0, 3].tolist() == [2, 2, 0, 0, 0, 0, 0, 0]
    assert block.sums[0, 3, :, 0].tolist() == [16, 10, 0, 0, 0, 0, 0, 0]


def test_a_log_without_the_feature_is_refused(tmp_path):
    (path,) = write_log(tmp_path, histories(5), shards=1)
    history = HISTORY.model_copy(update={"features": ("item_id", "brand")})
    with pytest.raises(ValueError, match="no column `brand`"):
        list(shard_tables(path, ItemEncodings(TableEncoder()), history))


def test_lists_of_other_lengths_are_refused(tmp_path):
    lists = {"item_id": [["item 1"] * 8], "tags": [[[1]] * 7]}
    path = str(tmp_path / "log.parquet")
    pq.write_table(pa.table({"user_id": ["a"], **lists}), path)
    with pytest.raises(ValueError, match="`tags`.*differ in length"):
        list(shard_tables(path, ItemEncodings(TableEncoder()), HISTORY))


@pytest.mark.parametrize("wrong, named", [("nan", "finite"), ("wide", r"\[\d+, 6\]"), ("bucket", "0..7")])
def test_a_ranker_that_breaks_its_word_is_refused(tmp_path, wrong, named):
    class Wrong(TableEncoder):
        def encode(self, behaviors):
            values, signatures, known = super().encode(behaviors)
            known[:] = True
            if wrong == "nan":
                values[0, 0] = np.nan
            if wrong == "wide":
                values = np.concatenate([values, values], axis=1)
            if wrong == "bucket":
                signatures[0, 0] = 8
            else:
                signatures[signatures < 0] = 0
            return values, signatures, known

    (path,) = write_log(tmp_path, histories(20), shards=1)
    with pytest.raises(ValueError, match=named):
        list(shard_tables(path, ItemEncodings(Wrong()), HISTORY))


def test_an_empty_shard(tmp_path):
    (path,) = write_log(tmp_path, {}, shards=1)
    assert list(shard_tables(path, ItemEncodings(TableEncoder()), HISTORY)) == []
    users = {"user 1": ["item 1"] * 3, "user 2": []}
    (path,) = write_log(tmp_path, users, shards=1)
    (block,) = shard_tables(path, ItemEncodings(TableEncoder()), HISTORY)
    assert (len(block.user_ids), block.users_without) == (0, 2)

"""Batches hold the rows of the shards, all of them, once, and in an order that only the seed decides."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from models.input_pipeline import InputConfig, count_candidates, list_shards, make_dataset

CONFIG = InputConfig(batch_size=16, buffer_shards=2)


def _rows(dataset) -> list[tuple]:
    """One tuple a candidate, of everything that the batches say of it."""
    rows = []
    for batch in dataset.as_numpy_iterator():
        features, requests = batch["features"], batch["request_index"]
        for i, request in enumerate(requests):
            rows.append(
                (
                    int(features["age"][request]),
                    tuple(features["interests"][int(request)].tolist()),
                    float(features["hour"][request]),
                    int(features["item_id"][i]),
                    tuple(features["title"][i].tolist()),
                    float(features["price"][i]),
                    float(batch["label"][i]),
                    int(batch["position"][i]),
                )
            )
    return rows


def _rows_of_files(directory, split) -> list[tuple]:
    rows = []
    for path in list_shards(directory, split):
        for row in pq.read_table(path).to_pylist():
            for i in range(len(row["item_id"])):
                rows.append(
                    (
                        row["age"],
                        tuple(row["interests"]),
                        row["hour"],
                        row["item_id"][i],
                        tuple(row["title"][i]),
                        row["price"][i],
                        row["_label_click"][i],
                        row["_position"][i],
                    )
                )
    return rows


def test_batches_hold_the_rows_of_the_files_in_order(small_log):
    directory, encoding = small_log
    dataset = make_dataset(directory, "eval", encoding, CONFIG)
    assert _rows(dataset) == _rows_of_files(directory, "eval")


def test_shuffling_permutes_whole_requests_and_loses_nothing(small_log):
    directory, encoding = small_log
    plain = _rows_of_files(directory, "train")
    shuffled = _rows(make_dataset(directory, "train", encoding, CONFIG, shuffle=True, seed=1))
    assert shuffled != plain
    assert sorted(shuffled) == sorted(plain)
    # Positions still count up inside each request: candidates stayed together and in order.
    assert all(b[-1] in (0, a[-1] + 1) for a, b in zip(shuffled, shuffled[1:], strict=False))


def test_order_depends_on_seed_and_epoch_alone(small_log):
    directory, encoding = small_log
    orders = [
        _rows(make_dataset(directory, "train", encoding, CONFIG, shuffle=True, seed=seed, epoch=epoch))
        for seed, epoch in [(1, 0), (1, 0), (1, 1), (2, 0)]
    ]
    assert orders[0] == orders[1]
    assert orders[0] != orders[2]
    assert orders[0] != orders[3]


def test_batches_end_at_request_boundaries_near_the_batch_size(small_log):
    directory, encoding = small_log
    sizes = []
    for batch in make_dataset(directory, "train", encoding, CONFIG):
        index = batch["request_index"].numpy()
        assert index[0] == 0 and (np.diff(index) >= 0).all() and (np.diff(index) <= 1).all()
        assert batch["features"]["age"].shape[0] == index[-1] + 1
        sizes.append(len(index))
    assert sum(sizes) == count_candidates(directory, "train")
    full = sizes[:-1]
    assert np.median(full) >= CONFIG.batch_size and max(full) < CONFIG.batch_size + 6


def test_histories_are_disjoint_windows_of_what_came_before(small_log):
    directory, encoding = small_log
    history = encoding.spec.history
    requests = pa.concat_tables([pq.read_table(path) for path in list_shards(directory, "train")]).to_pylist()
    users = [
        [row["item_id"] for row in pq.read_table(path).to_pylist()]
        for path in sorted((directory / "behaviors").glob("*.parquet"))
    ]
    dataset = make_dataset(directory, "train", encoding, CONFIG, histories=True)
    seen = 0
    for batch in dataset.as_numpy_iterator():
        windows = batch["history"]
        for i in range(len(windows["short_length"])):
            request = requests[seen]
            shard = seen // (len(requests) // len(users))
            before = users[shard][request["_user_index"]] if request["_user_index"] >= 0 else []
            before = before[: request["_history_end"]]
            short = before[-history.short_length :]
            long = before[: -history.short_length][-history.long_length :]
            for name, expected in (("short", short), ("long", long)):
                assert windows[f"{name}_length"][i] == len(expected)
                got = windows[name]["item_id"][i]
                assert got[len(got) - len(expected) :].tolist() == expected
                assert not got[: len(got) - len(expected)].any()
            seen += 1
    assert seen == len(requests)


def test_histories_survive_shuffling(small_log):
    """Pooled shards renumber users: a request must still meet its own behaviours."""
    directory, encoding = small_log

    def histories(shuffle):
        found = []
        for batch in make_dataset(directory, "train", encoding, CONFIG, shuffle=shuffle, histories=True):
            short, hours = batch["history"]["short"]["item_id"].numpy(), batch["features"]["hour"].numpy()
            found += [(float(hour), row.tobytes()) for hour, row in zip(hours, short, strict=True)]
        return found

    plain, shuffled = histories(False), histories(True)
    assert plain != shuffled
    assert sorted(plain) == sorted(shuffled)


def test_missing_split_is_named(small_log):
    directory, encoding = small_log
    with pytest.raises(FileNotFoundError, match="Split-test"):
        make_dataset(directory, "test", encoding, CONFIG)

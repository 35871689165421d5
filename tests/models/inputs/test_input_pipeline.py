"""Batches hold the rows of the shards, all of them, once, and in an order that only the seed decides."""

import shutil

import numpy as np
import pyarrow.parquet as pq
import pytest

from features.examples.shards import behaviors_file, list_shards
from features.spec import HistorySpec
from models.inputs.config import InputConfig
from models.inputs.history_windows import BehaviorShards
from models.inputs.input_pipeline import count_candidates, count_positives, make_dataset
from tests.builders.small_log import CATALOGUE_ITEMS

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


def _histories_in_files(directory, split):
    """By request: the item ids, items' categories and catalogue rows of the behaviours before it, all of them."""
    found = []
    for path in list_shards(directory, split):
        users = pq.read_table(directory / "behaviors" / behaviors_file(path)).to_pylist()
        for request in pq.read_table(path).to_pylist():
            user = users[request["_user_index"]] if request["_user_index"] >= 0 else None
            names = {"item_id": "item_id", "category": "category", "item_row": "_item_row"}
            found.append({n: user[c][: request["_history_end"]] if user else [] for n, c in names.items()})
    return found


def test_histories_are_disjoint_windows_of_what_came_before(small_log):
    directory, encoding = small_log
    spec = encoding.spec.history
    expected = iter(_histories_in_files(directory, "train"))
    widths = {"short": set(), "long": set()}
    for batch in make_dataset(directory, "train", encoding, CONFIG, histories=True).as_numpy_iterator():
        windows = batch["history"]
        for window, width in widths.items():
            assert windows[window]["item_id"].shape[1] == max(1, windows[f"{window}_length"].max())
            width.add(windows[window]["item_id"].shape[1])
        for i in range(len(windows["short_length"])):
            for name, before in next(expected).items():
                short = before[-spec.short_length :]
                long = before[: -spec.short_length][-spec.long_length :]
                for window, values in (("short", short), ("long", long)):
                    assert windows[f"{window}_length"][i] == len(values)
                    got = windows[window][name][i]
                    assert got[len(got) - len(values) :].tolist() == values
                    assert not got[: len(got) - len(values)].any()
    assert next(expected, None) is None
    assert max(widths["short"]) <= spec.short_length and max(widths["long"]) <= spec.long_length


def test_trimming_leaves_the_values_of_a_wide_batch(small_log):
    """A request alone is cut as wide as its own history: what is left are the last columns of the wide window."""
    directory, encoding = small_log
    wide = list(make_dataset(directory, "train", encoding, InputConfig(batch_size=10**6), histories=True))
    alone = make_dataset(directory, "train", encoding, InputConfig(batch_size=1), histories=True)
    rows = {w: [(b, i) for b in wide for i in range(len(b["history"][f"{w}_length"]))] for w in ("short", "long")}
    narrow = 0
    for n, batch in enumerate(alone):
        for window in ("short", "long"):
            whole, i = rows[window][n]
            for name, values in batch["history"][window].items():
                width = values.shape[1]
                padded = whole["history"][window][name][i].numpy()
                assert values.numpy()[0].tolist() == padded[len(padded) - width :].tolist()
                assert not padded[: len(padded) - width].any()
                narrow += width < len(padded)
    assert narrow > 0


@pytest.mark.parametrize("shuffle", [False, True])
def test_requests_have_one_number_if_and_only_if_they_have_one_user(small_log, shuffle):
    directory, encoding = small_log
    users = {}
    for path in list_shards(directory, "train"):
        shard = path  # the small log's users are users of one shard, as everywhere
        for row in pq.read_table(path).to_pylist():
            users[float(np.float32(row["hour"]))] = (shard, row["_user_id"]) if row["_user_index"] >= 0 else None
    crossed = 0
    dataset = make_dataset(directory, "train", encoding, CONFIG, histories=True, shuffle=shuffle)
    for batch in dataset.as_numpy_iterator():
        numbers = batch["user_index"].tolist()
        names = [users[float(hour)] for hour in batch["features"]["hour"]]
        for number, name in zip(numbers, names, strict=True):
            assert (number == -1) == (name is None)
            for other, other_name in zip(numbers, names, strict=True):
                assert (number == other) == (name == other_name)
        crossed += len({name[0] for name in names if name}) > 1
    assert not shuffle or crossed  # users of two shards met in a batch


def test_without_behaviours_windows_are_one_pad_wide():
    none = BehaviorShards(np.zeros(1, np.int64), {"item_id": np.zeros(0, np.int32)})
    windows = none.windows(np.array([-1, -1]), np.array([0, 0]), HistorySpec())
    for window in ("short", "long"):
        assert windows[window]["item_id"].tolist() == [[0], [0]]
        assert windows[f"{window}_length"].tolist() == [0, 0]


def test_candidates_have_their_catalogue_rows(small_log):
    directory, encoding = small_log
    in_files = [pq.read_table(path) for path in list_shards(directory, "train")]
    expected = [row for table in in_files for rows in table["_item_row"].to_pylist() for row in rows]
    ids = [item for table in in_files for items in table["_item_id"].to_pylist() for item in items]
    assert expected == [item + 1 if item < CATALOGUE_ITEMS else 0 for item in ids] and 0 in expected
    dataset = make_dataset(directory, "train", encoding, CONFIG, histories=True)
    assert np.concatenate([batch["item_row"] for batch in dataset]).tolist() == expected
    # Shuffled, a row still belongs to its item.
    pairs = set()
    for batch in make_dataset(directory, "train", encoding, CONFIG, shuffle=True, histories=True):
        pairs |= set(
            zip(batch["features"]["item_id"].numpy().tolist(), batch["item_row"].numpy().tolist(), strict=True)
        )
    rows = [row for _, row in pairs if row]
    assert len(rows) == len(set(rows)) > 20


def test_the_long_history_can_be_left_out(small_log):
    directory, encoding = small_log
    both = make_dataset(directory, "train", encoding, CONFIG, histories=True)
    short = make_dataset(directory, "train", encoding, CONFIG, histories=True, long_history=False)
    for with_long, without in zip(both, short, strict=True):
        assert set(without["history"]) == {"short", "short_length"}
        for name, values in without["history"]["short"].items():
            np.testing.assert_array_equal(values, with_long["history"]["short"][name])


def test_examples_without_catalogue_have_rows_of_zero_and_older_ones_are_refused(small_log, tmp_path):
    directory, encoding = small_log
    for path in [*directory.glob("Split-train/*.parquet"), *directory.glob("behaviors/*.parquet")]:
        target = tmp_path / path.relative_to(directory)
        target.parent.mkdir(exist_ok=True)
        pq.write_table(pq.read_table(path).drop(["_item_row"]), target)
    for batch in make_dataset(tmp_path, "train", encoding, CONFIG, histories=True):
        assert not batch["item_row"].numpy().any() and batch["item_row"].shape == batch["label"].shape
        assert not batch["history"]["long"]["item_row"].numpy().any()
    shutil.copytree(directory / "catalogue", tmp_path / "catalogue")
    assert len(list(make_dataset(tmp_path, "train", encoding, CONFIG))) > 1
    with pytest.raises(ValueError, match="no column `_item_row`.*Encode the examples again"):
        make_dataset(tmp_path, "train", encoding, CONFIG, histories=True)


def test_histories_survive_shuffling(small_log):
    """Pooled shards renumber users: a request must still meet its own behaviours."""
    directory, encoding = small_log

    def histories(shuffle):
        found = []
        for batch in make_dataset(directory, "train", encoding, CONFIG, shuffle=shuffle, histories=True):
            short, hours = batch["history"]["short"]["item_id"].numpy(), batch["features"]["hour"].numpy()
            found += [(float(hour), row[row > 0].tobytes()) for hour, row in zip(hours, short, strict=True)]
        return found

    plain, shuffled = histories(False), histories(True)
    assert plain != shuffled
    assert sorted(plain) == sorted(shuffled)


def test_missing_split_is_named(small_log):
    directory, encoding = small_log
    with pytest.raises(FileNotFoundError, match="Split-test"):
        make_dataset(directory, "test", encoding, CONFIG)


@pytest.mark.parametrize("shuffle", [False, True])
def test_positives_only_keeps_exactly_the_positives_of_the_catalogue(small_log, shuffle):
    directory, encoding = small_log

    def rows(**options):
        found = []
        for batch in make_dataset(directory, "train", encoding, CONFIG, histories=True, **options):
            hours, index = batch["features"]["hour"].numpy(), batch["request_index"].numpy()
            history, titles = batch["history"]["short_length"].numpy(), batch["features"]["title"].to_list()
            items, labels = batch["item_row"].numpy(), batch["label"].numpy()
            found += [
                (float(hours[r]), int(history[r]), int(item), tuple(title), float(label))
                for r, item, title, label in zip(index, items, titles, labels, strict=True)
            ]
            if options:  # no request stays without a candidate
                assert sorted(set(index.tolist())) == list(range(len(hours)))
                assert len(items) <= CONFIG.batch_size + 6
        return found

    expected = [row for row in rows() if row[-1] > 0 and row[2] > 0]
    kept = rows(positives_only=True, shuffle=shuffle)
    assert 0 < len(expected) < len(rows())
    assert (sorted(kept) if shuffle else kept) == (sorted(expected) if shuffle else expected)
    counts = count_positives(directory, "train", "click", CATALOGUE_ITEMS)
    np.testing.assert_array_equal(counts, np.bincount([row[2] for row in kept], minlength=CATALOGUE_ITEMS + 1)[1:])

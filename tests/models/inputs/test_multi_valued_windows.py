"""Windows of history features of several values: which ids stand where, and what becomes of them."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from features.spec import HistorySpec
from models.embedding import FeatureEmbedding
from models.inputs.config import InputConfig
from models.inputs.history_windows import BehaviorShards, in_rows, ragged_windows, trim_window
from models.inputs.input_pipeline import make_dataset
from tests.builders import small_log as small

SPEC = small.MULTI_VALUED.model_copy(
    update={"history": HistorySpec(features=("title", "item_id"), short_length=2, long_length=3)}
)
USERS = st.lists(st.lists(st.lists(st.integers(1, 9), max_size=4), max_size=9), max_size=4)


def shard_of(users, directory) -> BehaviorShards:
    """A shard of users given by the titles of their behaviours; items are counted through the log."""
    count = iter(range(1, 1000))
    table = pa.table(
        {
            "title": pa.array(users, pa.list_(pa.list_(pa.int32()))),
            "item_id": pa.array([[next(count) for _ in user] for user in users], pa.list_(pa.int32())),
            "_timestamp": pa.array([[0] * len(user) for user in users], pa.list_(pa.int64())),
        }
    )
    pq.write_table(table, directory / "shard.parquet")
    return BehaviorShards.read(directory / "shard.parquet", SPEC.history.features, item_rows=False)


@settings(max_examples=25, deadline=None)
@given(st.lists(USERS, min_size=1, max_size=3), st.data())
def test_windows_hold_the_lists_of_their_behaviours(tmp_path_factory, shards, data):
    directory = tmp_path_factory.mktemp("shards")
    log = BehaviorShards.concatenate([shard_of(users, directory) for users in shards])
    users = [user for shard in shards for user in shard]
    assert log.num_users == len(users)
    drawn = st.integers(-1, len(users) - 1)
    rows = np.array(data.draw(st.lists(drawn, min_size=1, max_size=5)))
    ends = np.array([data.draw(st.integers(0, len(users[row]))) if row >= 0 else 0 for row in rows])
    history = ragged_windows(tf.nest.map_structure(tf.constant, log.windows(rows, ends, SPEC.history)), SPEC)
    for number, (row, end) in enumerate(zip(rows, ends, strict=True)):
        before = users[row][:end] if row >= 0 else []
        for window, expected in (("short", before[-2:]), ("long", before[:-2][-3:])):
            title, items = history[window]["title"], history[window]["item_id"]
            assert history[f"{window}_length"][number] == len(expected)
            padding = int(items.shape[1]) - len(expected)
            assert title[number].to_list() == [[]] * padding + expected
            ids, present = trim_window(history, window)
            assert ids["title"][number].to_list()[ids["title"].uniform_row_length - len(expected) :] == expected
            assert present[number].numpy().tolist()[::-1][: len(expected)] == [True] * len(expected)


@pytest.mark.parametrize("longest", [None, 1, 2, 9])
def test_trimming_keeps_the_newest(longest):
    lists = [[[], [], [1], [2, 3]], [[], [4], [], [5]]]
    title = tf.ragged.constant(lists, inner_shape=(), dtype=tf.int32, row_splits_dtype=tf.int64)
    history = {"short": {"title": title}, "short_length": tf.constant([2, 3])}
    ids, present = trim_window(history, "short", longest)
    width = min(3, longest or 3)
    assert ids["title"].to_list() == [row[-width:] for row in lists]
    assert ids["title"].uniform_row_length == width and present.shape == (2, width)
    np.testing.assert_array_equal(present[1], [True] * width)
    np.testing.assert_array_equal(present[0], [False, True, True][-width:])


def test_no_requests_have_no_windows():
    none = tf.RaggedTensor.from_row_splits(tf.zeros([0], tf.int32), tf.zeros([1], tf.int64))
    title = in_rows(none, tf.constant(0, tf.int64), tf.constant(4, tf.int64))
    ids, present = trim_window({"short": {"title": title}, "short_length": tf.zeros([0], tf.int32)}, "short")
    assert ids["title"].nrows() == 0 and present.shape[0] == 0


@pytest.fixture(scope="module")
def log(tmp_path_factory):
    raw, encoded = tmp_path_factory.mktemp("raw"), tmp_path_factory.mktemp("encoded")
    small.write_raw_log(raw)
    return encoded, small.encode_log(raw, encoded, small.MULTI_VALUED)


def test_batches_hold_the_titles_of_the_log(log):
    """Cut, pooled from several shards, shuffled: a behaviour's title stays beside its item."""
    directory, encoding = log
    titles = {}
    for path in (directory / "behaviors").glob("*.parquet"):
        for user in pq.read_table(path).to_pylist():
            titles |= dict(zip(user["item_id"], user["title"], strict=True))
    seen = 0
    config = InputConfig(batch_size=16, buffer_shards=2)
    for batch in make_dataset(directory, "train", encoding, config, shuffle=True, histories=True):
        for window in ("short", "long"):
            items, title = (batch["history"][window][name] for name in ("item_id", "title"))
            for row, lists in zip(items.numpy().tolist(), title.to_list(), strict=True):
                assert lists == [titles[item] if item else [] for item in row]
                seen += sum(map(len, lists))
    assert seen > 200 and any(len(title) > 1 for title in titles.values()) and [] in titles.values()


def test_a_mean_and_its_gradient_by_definition(log):
    """d mean / d row = how often the row is among the list's values, over their number; padding has none."""
    _, encoding = log
    embedding = FeatureEmbedding(encoding)
    embedding.build(None)
    embedding.table.assign(tf.random.stateless_normal(embedding.table.shape, seed=(1, 2)))
    lists = [[[], [1, 3, 3], [2]], [[], [], [4, 2]]]
    title = tf.ragged.constant(lists, inner_shape=(), dtype=tf.int32, row_splits_dtype=tf.int64)
    title = in_rows(title.values, tf.constant(2, tf.int64), tf.constant(3, tf.int64))
    ids = {"title": title, "item_id": tf.constant([[0, 2, 3], [0, 0, 4]])}
    with tf.GradientTape() as tape:
        found = embedding.concatenated(("item_id", "title"), ids)
        total = tf.reduce_sum(found)
    table, (item, word) = embedding.table.numpy(), (embedding._offsets[name] for name in ("item_id", "title"))
    expected, gradient = np.zeros((2, 3, 16), np.float32), np.zeros_like(table)
    for place in np.ndindex(2, 3):
        item_id, values = int(ids["item_id"][place]), lists[place[0]][place[1]]
        if item_id:
            expected[place][:8] = table[item + item_id]
            gradient[item + item_id] += 1
        for value in values:
            expected[place][8:] += table[word + value] / len(values)
            gradient[word + value] += 1 / len(values)
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(tf.convert_to_tensor(tape.gradient(total, embedding.table)), gradient, rtol=1e-6)

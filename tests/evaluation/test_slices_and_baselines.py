import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from evaluation.baselines import count_items, lead_share, match_rows, oracle
from evaluation.slices import HISTORY_LABELS, MISSING, SliceConfig, find_slices
from features import storage
from features.spec import MISSING_INT64


def slices_of(table, *features, **config):
    found, omitted = find_slices(table, SliceConfig(features=features, **{"min_rows": 1} | config))
    return {s.value: s.rows.tolist() for s in found}, omitted


def test_history_lengths_fall_into_their_buckets():
    table = pa.table({"history_end": [0, 1, 4, 5, 19, 20, 49, 50, 199, 200, 5000]})
    found, omitted = slices_of(table, "history_length")
    assert list(found) == list(HISTORY_LABELS)
    assert list(found.values()) == [[0], [1, 2], [3, 4], [5, 6], [7, 8], [9, 10]]
    assert omitted == []


def test_categories_by_size_and_what_is_left_out():
    table = pa.table({"city": ["b", "a", "b", None, "", "b", "c", "a"]})
    found, omitted = slices_of(table, "city", min_rows=2)
    assert found == {"b": [0, 2, 5], "a": [1, 7], MISSING: [3, 4]}
    assert [(o.slices, o.rows) for o in omitted] == [(1, 1)]
    found, omitted = slices_of(table, "city", max_slices=1)
    assert list(found) == ["b"]
    assert omitted[0].rows == 5


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string()])
def test_strings_of_a_slice_of_a_table_are_those_rows(kind):
    names = pa.array([f"city {i % 3}" if i % 4 else "" for i in range(40)], kind)
    found, _ = slices_of(pa.table({"city": names}).slice(17), "city")
    expected = {}
    for row, name in enumerate(names.to_pylist()[17:]):
        expected.setdefault(name or MISSING, []).append(row)
    assert found == expected


def test_numbers_keep_their_order():
    found, _ = slices_of(pa.table({"hour": [10, 2, 10, MISSING_INT64, None]}), "hour")
    assert found == {"2": [1], "10": [0, 2], MISSING: [3, 4]}
    prices = np.arange(100, dtype=float)
    prices[7] = np.nan
    found, _ = slices_of(pa.table({"price": prices}), "price", num_buckets=4)
    assert [len(rows) for rows in found.values()] == [25, 24, 25, 25, 1]
    assert found[MISSING] == [7]


def test_lists_slice_by_each_value_once():
    table = pa.table({"tags": pa.array([["x", "y", "x"], [], None, ["y"]])})
    found, _ = slices_of(table, "tags")
    assert found == {"y": [0, 3], "x": [0], MISSING: [1, 2]}


def test_unknown_slice_feature():
    with pytest.raises(ValueError, match="`citi` is no column of the predictions. Did you mean `city`"):
        slices_of(pa.table({"city": ["a"]}), "citi")


@pytest.fixture
def examples(tmp_path):
    for split, shard, items, clicks in (
        ("train", 0, [["a", "b"], ["a"]], [[1, 0], [0]]),
        ("train", 1, [["b", "c"]], [[1, 1]]),
        ("eval", 0, [["a", "d"]], [[1, 1]]),
    ):
        (tmp_path / f"Split-{split}").mkdir(exist_ok=True)
        table = pa.table({"item_id": items, "click": pa.array(clicks, pa.list_(pa.float32()))})
        pq.write_table(table, tmp_path / f"Split-{split}" / f"requests-0000{shard}-of-00002.parquet")
    return tmp_path


def test_baselines_are_fitted_on_train_alone(examples):
    counts = count_items(examples, "click")
    found = dict(zip(counts.item_id.to_pylist(), zip(counts.impressions, counts.clicks, strict=True), strict=True))
    assert found == {"a": (2, 1), "b": (2, 1), "c": (1, 1)}
    items = pa.array(["c", "d", "a"])
    assert counts.popularity(items).score.tolist() == [1, 0, 1]
    assert counts.most_clicked(2).to_pydict() == {"item_id": ["a", "b"], "clicks": [1, 1]}
    rate = counts.click_rate(items, prior_strength=5)
    np.testing.assert_allclose(rate.score, [(1 + 5 * 0.6) / 6, 0.6, (1 + 5 * 0.6) / 7])
    assert rate.calibrated
    with pytest.raises(FileNotFoundError, match="Split-test"):
        count_items(examples, "click", "test")


def test_oracle_joins_by_request_and_item(tmp_path):
    predictions = pa.table({"request_id": ["r2", "r1", "r1"], "item_id": pa.array([5, 5, 6], pa.int64())})
    truth = pa.table(
        {
            "request_id": ["r1", "r1", "r2", "r9"],
            "item_id": pa.array([6, 5, 5, 5], pa.int32()),
            "click_probability": [0.1, 0.2, 0.3, 0.9],
        }
    )
    assert oracle(predictions, truth).score.tolist() == [0.3, 0.2, 0.1]
    pq.write_table(truth, tmp_path / "truth-0.parquet")
    storage.copy_tree(tmp_path, "memory://evaluation-truth")
    for folder in (tmp_path, "memory://evaluation-truth"):
        assert oracle(predictions, folder).score.tolist() == [0.3, 0.2, 0.1]
    with pytest.raises(ValueError, match="1 of 3 predicted rows are not in the truth"):
        oracle(predictions, truth.slice(0, 2))
    with pytest.raises(ValueError, match="must be unique in the truth"):
        oracle(predictions, pa.concat_tables([truth, truth]))


def test_match_rows_says_where_there_is_none():
    left, right = pa.table({"k": ["a", "z", "b"]}), pa.table({"k": ["b", "a"]})
    assert match_rows(left, right, "r").tolist() == [1, -1, 0]


def test_lead_share():
    assert lead_share(0.7, 0.6, 0.8) == pytest.approx(0.5)
    assert np.isnan(lead_share(0.7, 0.6, 0.6))

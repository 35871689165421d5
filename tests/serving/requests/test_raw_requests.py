import json

import numpy as np
import pyarrow as pa
import pytest

from features.spec import MISSING_INT64, FeatureSpec
from serving.requests.json_request import RequestError, row_from_request
from serving.requests.tensors import slate_tensors, tensors_from_table
from tests.builders.small_ranker import SPEC, json_request, random_requests

SMALL = FeatureSpec.model_validate(
    {
        "name": "small",
        "features": [
            {"name": "age", "table": "users"},
            {"name": "hour", "table": "impressions", "dtype": "int64"},
            {"name": "likes", "table": "users", "kind": "multi_categorical"},
            {"name": "price", "table": "items", "kind": "numeric"},
            {"name": "tags", "table": "items", "kind": "multi_categorical", "dtype": "int64"},
        ],
    }
)
TABLE = pa.table(
    {
        "item_id": pa.array([["a", "b"], [], ["c"]]),
        "age": pa.array(["é", None, ""]),
        "hour": pa.array([1, None, 3], pa.int64()),
        "likes": pa.array([["x", None], None, []], pa.list_(pa.string())),
        "price": pa.array([[1.5, None], [], None], pa.list_(pa.float64())),
        "tags": pa.array([[[1, 2, 3], None], [], [[None, 4]]], pa.list_(pa.list_(pa.int64()))),
    }
)
M = MISSING_INT64


def tensors_of(spec, request):
    return slate_tensors(spec, row_from_request(spec, request))


def test_rows_become_tensors_with_nulls_as_missing_marks():
    tensors = tensors_from_table(SMALL, TABLE)
    assert tensors["request_index"].tolist() == [0, 0, 2] and tensors["request_index"].dtype == np.int32
    assert tensors["age"].tolist() == ["é".encode(), b"", b""]
    assert tensors["hour"].tolist() == [1, M, 3] and tensors["hour"].dtype == np.int64
    assert tensors["likes"].tolist() == [[b"x", b""], [b"", b""], [b"", b""]]
    np.testing.assert_array_equal(tensors["price"], [1.5, np.nan, np.nan])
    assert tensors["tags"].tolist() == [[1, 2, 3], [M, M, M], [M, 4, M]]
    assert tensors["likes_num_values"].tolist() == [2, 0, 0] and tensors["tags_num_values"].tolist() == [3, 0, 2]


def test_rows_become_slates():
    tensors = slate_tensors(SMALL, TABLE)
    assert tensors["num_candidates"].tolist() == [2, 0, 1] and tensors["num_candidates"].dtype == np.int32
    assert tensors["price"].shape == (3, 2) and tensors["tags"].shape == (3, 2, 3)
    assert tensors["price"][0, 0] == 1.5 and np.isnan(tensors["price"][[0, 2], [1, 0]]).all()
    assert tensors["tags"][0].tolist() == [[1, 2, 3], [M, M, M]] and tensors["tags"][2, 0].tolist() == [M, 4, M]
    assert tensors["tags_num_values"].tolist() == [[3, 0], [0, 0], [2, 0]]
    assert tensors["age"].tolist() == ["é".encode(), b"", b""]
    alone = slate_tensors(SMALL, TABLE.slice(1, 1))
    assert alone["price"].shape == (1, 1) and alone["num_candidates"].tolist() == [0]
    assert slate_tensors(SMALL, TABLE, names={"age", "tags"}).keys() == {
        "age",
        "tags",
        "tags_num_values",
        "num_candidates",
    }


@pytest.mark.parametrize("chunks", [1, 2, 3])
def test_slices_and_chunks_of_a_table_give_the_same_rows(chunks):
    """Offsets of sliced lists start past zero; a slip there misaligns lists without an error."""
    table = random_requests(30, seed=3)
    whole = tensors_from_table(
        SPEC, pa.concat_tables([table.slice(at, 30 // chunks) for at in range(0, 30, 30 // chunks)])
    )
    part = tensors_from_table(SPEC, table.slice(7, 11))
    of_part = (whole["request_index"] >= 7) & (whole["request_index"] < 18)
    for feature in SPEC.features:
        expected = whole[feature.name][of_part] if feature.scope == "candidate" else whole[feature.name][7:18]
        received = part[feature.name]
        if feature.multi_valued:
            np.testing.assert_array_equal(received, expected[:, : received.shape[1]])
            assert (expected[:, received.shape[1] :] == (b"" if feature.dtype == "string" else M)).all()
        else:
            np.testing.assert_array_equal(received, expected)


def test_a_row_and_its_json_give_the_same_tensors():
    table = random_requests(20, seed=5)
    for number, row in enumerate(table.to_pylist()):
        from_row = slate_tensors(SPEC, table.slice(number, 1))
        from_json = tensors_of(SPEC, json.loads(json.dumps(json_request(row))))
        assert from_row.keys() == from_json.keys()
        for name, values in from_row.items():
            assert values.dtype == from_json[name].dtype
            np.testing.assert_array_equal(values, from_json[name], err_msg=name)


def test_a_json_request_becomes_its_raw_row():
    table = random_requests(20, seed=6)
    names = [*(feature.name for feature in SPEC.features), "user_id", "item_id"]
    for number, row in enumerate(table.to_pylist()):
        found = row_from_request(SPEC, json.loads(json.dumps(json_request(row))))
        assert found.num_rows == 1 and set(found.column_names) == set(names)
        for name in names:
            assert found[name].type == table[name].type
            assert found[name].to_pylist() == table[name].slice(number, 1).to_pylist()


@pytest.mark.parametrize("user_id", ["u7", 7, None])
def test_keys_that_are_no_features_stay_in_the_row(user_id):
    row = row_from_request(SMALL, {"user": {"user_id": user_id}, "candidates": [{"item_id": 2}, {}, {"item_id": 1}]})
    assert row["user_id"].to_pylist() == [user_id] and row["item_id"].to_pylist() == [[2, None, 1]]
    assert row.num_rows == 1 and row_from_request(SMALL, {}, candidates=False)["user_id"].to_pylist() == [None]


def test_absent_json_features_are_missing():
    tensors = tensors_of(SMALL, {"candidates": [{"item_id": "a"}, {"price": 2, "tags": [7, None]}]})
    assert tensors["age"].tolist() == [b""] and tensors["hour"].tolist() == [M]
    assert tensors["likes"].tolist() == [[b""]] and tensors["likes_num_values"].tolist() == [0]
    np.testing.assert_array_equal(tensors["price"], [[np.nan, 2.0]])
    assert tensors["tags"].tolist() == [[[M, M], [7, M]]] and tensors["tags_num_values"].tolist() == [[0, 2]]


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        ([], "must be a JSON object. Received: list"),
        ({}, "no `candidates`"),
        ({"candidats": []}, "`candidats` is not a part of a request. Did you mean `candidates`?"),
        ({"candidates": {"item_id": "a"}}, "`candidates` must be a list of objects. Received: dict"),
        ({"candidates": ["a"]}, r"`candidates\[0\]` must be an object"),
        ({"candidates": [{}, {"prize": 1}]}, r"`candidates\[1\]`: `prize` is not a feature.*Did you mean `price`?"),
        ({"candidates": [{"age": "x"}]}, "`age` is a feature of scope request: put it into `user` or `context`"),
        ({"user": {"price": 1}, "candidates": []}, "`price` is a feature of scope candidate"),
        ({"user": {"age": "x"}, "context": {"age": "x"}, "candidates": []}, "`age` stands in both"),
        ({"user": [], "candidates": []}, "`user` must be an object of features. Received: list"),
        ({"user": {"age": 3}, "candidates": []}, r"`age` must be a string. Received: 3 \(int\)"),
        ({"user": {"age": "\ud800"}, "candidates": []}, "`age` must be text that UTF-8 can hold"),
        ({"context": {"hour": True}, "candidates": []}, r"`hour` must be a 64-bit integer. Received: True \(bool\)"),
        ({"context": {"hour": 2**63}, "candidates": []}, "`hour` must be a 64-bit integer"),
        ({"context": {"hour": 1.0}, "candidates": []}, r"`hour` must be a 64-bit integer. Received: 1.0 \(float\)"),
        ({"user": {"likes": "x"}, "candidates": []}, "`likes` must be a list of string values"),
        ({"user": {"likes": ["x", 2]}, "candidates": []}, "`likes` must be a string. Received: 2"),
        ({"candidates": [{"price": "1"}]}, r"`candidates\[0\]`: `price` must be a number. Received: '1' \(str\)"),
        ({"candidates": [{"price": 10**400}]}, "`price` must be a number within float64's range"),
        (
            {"candidates": [{"price": 1}, {"price": True}]},
            r"`candidates\[1\]`: `price` must be a number. Received: True",
        ),
        ({"candidates": [{"tags": [1]}, {"tags": [2, 1.5]}]}, r"`candidates\[1\]`: `tags` must be a 64-bit integer"),
        ({"candidates": [{"tags": "12"}]}, "`tags` must be a list of int64 values. Received: '12'"),
        ({"candidates": [{"tags": json.loads("[" * 400 + "]" * 400)}]}, "`tags` must be a 64-bit integer"),
        (
            {"candidates": [{"item_id": "a"}, {"item_id": 3}]},
            r"`candidates\[1\]`: `item_id` must be a string. Received: 3",
        ),
        ({"user": {"user_id": 2.5}, "candidates": []}, r"`user_id` must be a string. Received: 2.5 \(float\)"),
        ({"user": {"user_id": True}, "candidates": []}, "`user_id` must be a string. Received: True"),
        ({"user": {"user_id": ["u"]}, "candidates": []}, r"`user_id` must be a string. Received: \['u'\]"),
        ({"user": {"user_id": 2**70}, "candidates": []}, "`user_id` must be a 64-bit integer"),
        ({"user": {"user_id": "\ud800"}, "candidates": []}, "`user_id` must be text that UTF-8 can hold"),
        ({"user": {"\ud800": 1}, "candidates": []}, r"`\\ud800` is not a feature"),
    ],
)
def test_json_errors_name_the_place_and_the_fix(request_, message):
    with pytest.raises(RequestError, match=message) as found:
        row_from_request(SMALL, request_)
    str(found.value).encode()  # can be printed


@pytest.mark.parametrize(
    ("column", "values", "message"),
    [
        ("hour", pa.array(["1", "2", "x"]), "feature `hour` must hold int64 values. Received: Arrow type string"),
        ("likes", pa.array(["1", "2", "3"]), "feature `likes` is multi-valued"),
        ("price", pa.array([1.0, 2.0, 3.0]), "`price` holds one value a candidate: it must be a list column"),
        ("price", pa.array([[1.0], [], [2.0]]), "Received: row 0 with 1 values for 2 candidates"),
        ("price", None, "no column `price`"),
    ],
)
def test_rows_that_do_not_fit_are_named(column, values, message):
    place = TABLE.column_names.index(column)
    table = TABLE.remove_column(place) if values is None else TABLE.set_column(place, column, values)
    with pytest.raises(ValueError, match=message):
        tensors_from_table(SMALL, table)

"""The example request of a run: made of an ingested row, it is a request of the model, whatever the spec."""

import pytest

from features.examples.raw_sample import json_request, read_requests
from features.spec import FeatureSpec
from serving.requests.json_request import row_from_request
from tests.builders.ingest_case import ITEMS, USERS, Case, T, clicks, impressions

KEYS = [
    {"name": "user_id", "table": "impressions"},
    {"name": "user_id", "table": "users"},
    {"name": "request_id", "table": "impressions"},
    {"name": "timestamp", "table": "impressions", "kind": "numeric", "dtype": "int64"},
    {"name": "buyer", "table": "impressions", "column": "user_id"},
    {"name": "item_id", "table": "impressions", "scope": "candidate", "dtype": "int64"},
]


@pytest.mark.parametrize("key", KEYS, ids=lambda key: f"{key['name']} of {key['table']}")
def test_an_example_is_a_request(tmp_path, key):
    features = [
        {"name": "city", "table": "users"},
        {"name": "hour", "table": "impressions", "dtype": "int64"},
        {"name": "price", "table": "items", "kind": "numeric"},
    ]
    spec = FeatureSpec.model_validate({"name": "keys", "features": [key, *features]})
    tables = {"impressions": impressions([("r1", T, "ann", 1), ("r1", T, "ann", 3)]), "clicks": clicks([])}
    case = Case(tmp_path, tables | {"items": ITEMS, "users": USERS}, spec=spec, label_maturity=False)
    (table,) = read_requests(case.examples, case.behaviors, spec, "train", 1)
    request = json_request(table.to_pylist()[0], spec)
    row = row_from_request(spec, request).to_pylist()[0]
    logged = table.to_pylist()[0]
    assert {name: row[name] for name in ("user_id", "item_id", "price", "city", "hour")} == {
        name: logged[name] for name in ("user_id", "item_id", "price", "city", "hour")
    }
    assert row[key["name"]] == logged[key["name"]]

"""Labels with a window and a value of their own, from the log to the encoded examples."""

from __future__ import annotations

import pyarrow as pa
import pytest

from features.arrow import read_parquet
from features.encoding.columns import encoded_column
from features.encoding.encode import encode_requests
from features.encoding.fit import fit_encoding
from features.examples.candidate_sets import catalogue_values
from tests.builders.ingest_case import HOUR, ITEMS, SPEC, USERS, Case, T, clicks, impressions

LABELS = (
    {"name": "click", "value": "price"},
    {"name": "bought", "column": "order", "window_hours": 3, "value": "price"},
    {"name": "share", "window_hours": 0.5},
)


@pytest.fixture(scope="module")
def case(tmp_path_factory) -> Case:
    rows = [("r1", T, "ann", 1), ("r1", T, "ann", 2), ("r2", T + 4 * HOUR, "bob", 3)]
    clicked = [
        ("r1", 1, T + HOUR, "click", 7.0),
        ("r1", 1, T + HOUR - 1, "click", 5.0),  # the first one counts
        ("r1", 1, T + 3 * HOUR, "order", 99.5),
        ("r1", 1, T + HOUR // 2 + 1, "share", 1.0),  # late, for its own window
        ("r1", 2, T + 3 * HOUR + 1, "order", 1.0),  # late
        ("r1", 2, T + HOUR + 1, "click", 1.0),  # late
        ("r1", 2, T + 3 * HOUR, "order", None),
        ("r1", 2, T, "view", 4.0),
    ]
    table = clicks([row[:3] for row in clicked], label=[r[3] for r in clicked], price=[r[4] for r in clicked])
    tables = {"impressions": impressions(rows), "clicks": table, "items": ITEMS, "users": USERS}
    return Case(tmp_path_factory.mktemp("labels"), tables, labels=LABELS)


def test_each_label_has_its_window_and_its_value(case):
    request = case.requests()["r1"]
    assert request["click"] == [1.0, 0.0] and request["click_value"] == [5.0, None]
    assert request["bought"] == [1.0, 1.0] and request["bought_value"] == [99.5, None]
    assert request["share"] == [0.0, 0.0] and "share_value" not in request
    account = case.counts.tables["clicks"]
    assert (account.kept, account.duplicates, account.late, account.ignored) == (3, 1, 3, 1)
    assert case.counts.ignored_labels == {"view": 1}


def test_maturity_waits_for_the_longest_window(case):
    assert case.counts.mature_until == T + HOUR
    assert set(case.requests()) == {"r1"}


def test_values_are_kept_beside_the_encoded_labels(case, tmp_path):
    encoding = fit_encoding(case.examples, SPEC, tmp_path)
    (raw,) = (table for table in map(read_parquet, case.examples.glob("Split-train/*.parquet")) if table.num_rows)
    encoded = encode_requests(encoding, raw)
    assert encoded["_value_bought"].to_pylist() == [[99.5, None]]
    assert encoded["_label_bought"].to_pylist() == [[1.0, 1.0]]
    assert "_label_click_value" not in encoded.column_names
    catalogue = pa.table({"_item_id": [4]})
    added = catalogue_values(encoded, catalogue, pa.array([1]).to_numpy(), SPEC, encoded=True)
    assert added["_value_click"].to_pylist() == [None] and added["_label_click"].to_pylist() == [0.0]


def test_a_label_may_end_as_values_do():
    assert encoded_column("true_value", ["true_value", "click"]) == "_label_true_value"
    assert encoded_column("click_value", ["click_value", "click"]) == "_value_click"

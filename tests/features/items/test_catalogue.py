import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.items.catalogue import (
    CATALOGUE_FILE,
    has_catalogue,
    item_row_lists,
    item_rows,
    read_catalogue,
)
from tests.builders.ingest_case import (
    ITEMS,
    SPEC,
    USERS,
    Case,
    T,
    clicks,
    impressions,
)

IDS = {
    "string": st.text(max_size=4),
    "int64": st.integers(-(2**63), 2**63 - 1),
}


@pytest.mark.parametrize("kind", IDS)
def test_rows_are_one_based_and_zero_is_unknown(kind):
    @given(st.lists(IDS[kind], unique=True, max_size=9), st.lists(st.none() | IDS[kind], max_size=20), st.data())
    def check(items, others, data):
        ids = others + (data.draw(st.lists(st.sampled_from(items))) if items else [])
        catalogue = pa.array(items, pa.string() if kind == "string" else pa.int64())
        rows = item_rows(catalogue, pa.array(ids, catalogue.type))
        assert rows.dtype == np.int32
        assert rows.tolist() == [items.index(item) + 1 if item in items else 0 for item in ids]
        chunked = pa.chunked_array([catalogue[:2], catalogue[2:]])
        np.testing.assert_array_equal(item_rows(chunked, pa.array(ids, catalogue.type)), rows)

    check()


def test_slices_of_lists_keep_their_rows():
    lists = pa.array([["a"], ["b", "nowhere"], [], ["c", None, "a"]])
    assert item_row_lists(pa.array(["a", "b", "c"]), lists[1:]).to_pylist() == [[2, 0], [], [3, 0, 1]]


def test_ids_of_another_type_are_refused():
    with pytest.raises(ValueError, match="`ids` must be int64, as the catalogue's are. Received: string"):
        item_rows(pa.array([1, 2]), pa.array(["1"]))


LOG = {
    "impressions": impressions([("r1", T, "ann", 1), ("r1", T, "ann", 9)]),
    "clicks": clicks([]),
    "users": USERS,
}


def test_ingestion_writes_each_item_once_sorted_with_its_features(tmp_path):
    shuffled = pa.concat_tables([ITEMS.take([2, 0]), ITEMS, ITEMS.slice(1, 1)])
    case = Case(tmp_path, LOG | {"items": shuffled}, label_maturity=False)
    assert read_catalogue(case.examples).equals(ITEMS)
    # Items that were never shown are in it, items that nobody described are not.
    assert {item for request in case.requests().values() for item in request["item_id"]} == {1, 9}


def test_string_ids_sort_as_bytes_and_copies_of_the_id_are_features(tmp_path):
    features = [
        {"name": "item_id", "table": "items"},
        {"name": "article", "table": "items", "column": "item_id"},
        {"name": "price", "table": "items", "kind": "numeric"},
    ]
    spec = type(SPEC).model_validate({"name": "strings", "features": features})
    items = pa.table({"item_id": ["b", "ä", "B", "10", "9"], "price": [1.0, 2.0, None, 4.0, 5.0]})
    log = {"impressions": impressions([("r1", T, "ann", "b")]), "clicks": LOG["clicks"]}
    case = Case(tmp_path, log | {"items": items}, spec=spec, label_maturity=False)
    ids = ["10", "9", "B", "b", "ä"]
    expected = {"item_id": ids, "article": ids, "price": [4.0, 5.0, None, 1.0, 2.0]}
    assert read_catalogue(case.examples).to_pydict() == expected


def test_no_items_table_no_catalogue(tmp_path):
    spec = SPEC.model_copy(update={"features": SPEC.features[2:5], "history": None})
    case = Case(tmp_path, {name: LOG[name] for name in ("impressions", "clicks")}, spec=spec, label_maturity=False)
    assert not has_catalogue(case.examples)
    with pytest.raises(FileNotFoundError, match=f"{CATALOGUE_FILE}: no catalogue"):
        read_catalogue(case.examples)


def test_a_reader_never_sees_half_a_catalogue(tmp_path):
    case = Case(tmp_path, LOG | {"items": ITEMS}, label_maturity=False)
    folder = (case.examples / CATALOGUE_FILE).parent
    assert [path.name for path in folder.iterdir()] == ["items.parquet"]
    assert pq.ParquetFile(case.examples / CATALOGUE_FILE).metadata.num_rows == ITEMS.num_rows

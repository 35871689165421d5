import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from features.encoding import encode as encoder
from features.encoding.encode import encode_examples
from features.encoding.feature_encoding import FeatureEncoding
from features.encoding.fit import fit_encoding
from features.items.catalogue import CATALOGUE_FILE, has_catalogue, read_catalogue
from features.spec import FeatureSpec

SPEC = FeatureSpec.model_validate(
    {
        "name": "test",
        "features": [
            {"name": "city", "table": "users"},
            {"name": "item_id", "table": "items"},
            {"name": "tags", "table": "items", "kind": "multi_categorical"},
            {"name": "interests", "table": "users", "kind": "multi_categorical"},
            {"name": "price", "table": "items", "kind": "numeric", "transform": "log_squared"},
            {"name": "size", "table": "items", "kind": "numeric", "transform": "bucketize", "dtype": "int64"},
        ],
        "history": {"features": ["item_id", "tags"]},
    }
)


def _requests(seed, rows):
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, 5, rows)
    offsets = pa.array(np.append(0, np.cumsum(sizes)).astype(np.int32))
    candidates = int(sizes.sum())

    def lists(values, kind=None):
        return pa.ListArray.from_arrays(offsets, pa.array(values, kind))

    items = [f"item {i}" if i else None for i in rng.integers(0, 9, candidates)]
    tags = [[f"t{i}" for i in rng.integers(0, 4, n)] if n < 4 else None for n in rng.integers(0, 5, candidates)]
    return pa.table(
        {
            "request_id": [f"r{seed}-{i}" for i in range(rows)],
            "timestamp": pa.array(np.sort(rng.integers(0, 10**12, rows))),
            "user_id": [f"u{i}" for i in rng.integers(0, 5, rows)],
            "history_end": pa.array(rng.integers(0, 50, rows)),
            "user_index": pa.array(rng.integers(-1, 5, rows).astype(np.int32)),
            "item_id": lists(items, pa.string()),
            "position": lists(np.arange(candidates).astype(np.int32)),
            "click": lists(rng.integers(0, 2, candidates).astype(np.float32)),
            "city": pa.array([["Bern", None, "東京"][i] for i in rng.integers(0, 3, rows)], pa.string()),
            "interests": pa.array(
                [[f"i{i}", None] if i else None for i in rng.integers(0, 3, rows)], pa.list_(pa.string())
            ),
            "tags": lists(tags, pa.list_(pa.string())),
            "price": lists([x if x > 0.1 else None for x in rng.lognormal(size=candidates)], pa.float64()),
            "size": lists(rng.integers(0, 100, candidates)),
        }
    )


def _behaviors():
    return pa.table(
        {
            "user_id": ["u0", "u1", "u2"],
            "timestamp": pa.array([[1, 2], [], [3]], pa.list_(pa.int64())),
            "item_id": pa.array([["item 1", "nowhere seen"], [], [None]], pa.list_(pa.string())),
            "tags": pa.array([[["t0", "t1"], None], [], [["?"]]], pa.list_(pa.list_(pa.string()))),
            "action": pa.array([["click", "buy"], [], ["click"]], pa.list_(pa.string())),
        }
    )


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.setattr(encoder, "_BATCH_REQUESTS", 7)  # several batches a file
    raw = {}
    for i, (split, rows) in enumerate([("train", 40), ("train", 25), ("eval", 10), ("test", 0)]):
        path = tmp_path / "raw" / f"Split-{split}" / f"requests-{i:05d}-of-00004.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        raw[path.relative_to(tmp_path / "raw")] = table = _requests(i, rows)
        pq.write_table(table, path)
    (tmp_path / "log").mkdir()
    pq.write_table(_behaviors(), tmp_path / "log" / "behaviors-00000-of-00001.parquet")
    fit_encoding(tmp_path / "raw", SPEC, tmp_path / "encoding")
    encode_examples(tmp_path / "raw", tmp_path / "log", tmp_path / "encoding", tmp_path / "out")
    return tmp_path, raw


def test_files_rows_and_keys_are_kept(run):
    tmp_path, raw = run
    for path, table in raw.items():
        encoded = pq.read_table(tmp_path / "out" / path)
        for key in ("request_id", "timestamp", "user_id", "history_end", "user_index", "item_id", "position"):
            assert encoded[f"_{key}"].to_pylist() == table[key].to_pylist()
        assert encoded["_label_click"].to_pylist() == table["click"].to_pylist()
        assert not {"request_id", "timestamp", "user_id", "click"} & set(encoded.column_names)
    assert not list((tmp_path / "out").glob("**/*.tmp"))


def test_features_are_encoded_in_the_contract_s_types(run):
    tmp_path, raw = run
    encoding = FeatureEncoding.load(tmp_path / "encoding")
    types = {
        "city": pa.int32(),
        "item_id": pa.list_(pa.int32()),
        "tags": pa.list_(pa.list_(pa.int32())),
        "interests": pa.list_(pa.int32()),
        "price": pa.list_(pa.float32()),
        "size": pa.list_(pa.int32()),
    }
    for path, table in raw.items():
        encoded = pq.read_table(tmp_path / "out" / path)
        for name, kind in types.items():
            assert encoded.schema.field(name).type == kind
            assert encoded[name].null_count == 0
            assert encoded[name].to_pylist() == encoding.encode(name, table[name]).to_pylist()


def test_behaviours_are_encoded_in_place(run):
    tmp_path, _ = run
    encoding = FeatureEncoding.load(tmp_path / "encoding")
    encoded = pq.read_table(tmp_path / "out" / "behaviors" / "behaviors-00000-of-00001.parquet")
    assert encoded.column_names == ["_user_id", "_timestamp", "item_id", "tags"]
    assert encoded["_user_id"].to_pylist() == ["u0", "u1", "u2"]
    assert encoded["_timestamp"].to_pylist() == [[1, 2], [], [3]]
    known = 2 + encoding.terms("item_id").to_pylist().index("item 1")
    assert encoded["item_id"].to_pylist() == [[known, 1], [], [0]]
    assert encoded.schema.field("item_id").type == pa.list_(pa.int32())
    t0, t1 = (2 + encoding.terms("tags").to_pylist().index(tag) for tag in ("t0", "t1"))
    assert encoded["tags"].to_pylist() == [[[t0, t1], []], [], [[1]]]


def test_a_log_without_items_table_has_no_catalogue_and_no_rows(run):
    tmp_path, raw = run
    assert not has_catalogue(tmp_path / "out")
    with pytest.raises(FileNotFoundError, match="no catalogue"):
        read_catalogue(tmp_path / "out")
    for path in (*raw, "behaviors/behaviors-00000-of-00001.parquet"):
        assert "_item_row" not in pq.read_table(tmp_path / "out" / path).column_names


def test_the_catalogue_is_encoded_in_order_and_rows_point_into_it(run):
    tmp_path, raw = run
    catalogue = pa.table(
        {
            "item_id": [f"item {i}" for i in range(1, 7)],
            "tags": pa.array([["t0"], None, [], ["t1", "?"], ["t2"], ["t3"]], pa.list_(pa.string())),
            "price": [1.5, None, 0.0, 3.0, 10.0, 7.0],
            "size": [5, 50, None, 99, 0, 1],
        }
    )
    path = tmp_path / "raw" / CATALOGUE_FILE
    path.parent.mkdir()
    pq.write_table(catalogue, path)
    encode_examples(tmp_path / "raw", tmp_path / "log", tmp_path / "encoding", tmp_path / "with")
    encoding = FeatureEncoding.load(tmp_path / "encoding")
    encoded = read_catalogue(tmp_path / "with")
    assert encoded["_item_id"].to_pylist() == catalogue["item_id"].to_pylist()
    assert encoded.column_names == ["_item_id", "item_id", "tags", "price", "size"]
    for name in encoded.column_names[1:]:
        assert encoded[name].to_pylist() == encoding.encode(name, catalogue[name]).to_pylist()
    row_of = {item: i for i, item in enumerate(catalogue["item_id"].to_pylist(), 1)}
    for name in (*raw, "behaviors/behaviors-00000-of-00001.parquet"):
        with_rows, without = pq.read_table(tmp_path / "with" / name), pq.read_table(tmp_path / "out" / name)
        assert with_rows.schema.field("_item_row").type == pa.list_(pa.int32())
        ids = (raw[name] if name in raw else _behaviors())["item_id"].to_pylist()
        assert with_rows["_item_row"].to_pylist() == [[row_of.get(item, 0) for item in items] for items in ids]
        assert with_rows.drop(["_item_row"]).select(without.column_names).equals(without)


def test_lists_of_unequal_length_are_refused(run):
    tmp_path, raw = run
    table = next(iter(raw.values()))
    bad = table.set_column(table.column_names.index("price"), "price", pa.array([[1.0]] * table.num_rows))
    with pytest.raises(ValueError, match="feature `price`: its lists and those of `item_id` differ"):
        encoder.encode_requests(FeatureEncoding.load(tmp_path / "encoding"), bad)


def test_a_failed_file_leaves_nothing_at_its_place(run):
    tmp_path, raw = run
    encoding = FeatureEncoding.load(tmp_path / "encoding")
    table = next(iter(raw.values()))
    prices = table["price"].to_pylist()
    prices[-1] = [*prices[-1], 1.0]  # the last batch is wrong
    pq.write_table(
        table.set_column(table.column_names.index("price"), "price", pa.array(prices)), tmp_path / "bad.parquet"
    )
    with pytest.raises(ValueError, match="differ in length"):
        encoder.encode_file(encoding, str(tmp_path / "bad.parquet"), str(tmp_path / "x" / "y.parquet"))
    assert not (tmp_path / "x" / "y.parquet").exists()


def test_no_examples_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="Split-"):
        encode_examples(tmp_path, None, tmp_path, tmp_path)

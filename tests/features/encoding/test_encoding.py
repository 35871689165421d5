import math

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.encoding import numeric
from features.encoding.feature_encoding import FeatureEncoding, Moments
from features.encoding.hashing import hash64
from features.spec import MISSING_INT64, FeatureSpec

SPEC = FeatureSpec.model_validate(
    {
        "name": "test",
        "features": [
            {"name": "city", "table": "users", "vocabulary": {"oov_buckets": 3}},
            {"name": "hour", "table": "impressions", "dtype": "int64"},
            {"name": "item_id", "table": "items", "hash_buckets": 100},
            {"name": "tags", "table": "items", "kind": "multi_categorical"},
            {"name": "price", "table": "items", "kind": "numeric"},
            {"name": "log_price", "table": "items", "kind": "numeric", "transform": "log_squared"},
            {"name": "floored", "table": "items", "kind": "numeric", "transform": "log_squared_floor"},
            {"name": "standard", "table": "items", "kind": "numeric", "transform": "standardize"},
            {"name": "scaled", "table": "items", "kind": "numeric", "transform": "min_max", "dtype": "int64"},
            {"name": "bucket", "table": "items", "kind": "numeric", "transform": "bucketize"},
        ],
    }
)


def _vocabulary(terms):
    return pa.table({"term": terms, "count": pa.array(range(len(terms), 0, -1), pa.int64())})


@pytest.fixture(scope="module")
def encoding():
    return FeatureEncoding(
        SPEC,
        {
            "city": _vocabulary(["Zürich", "東京", "a b"]),
            "hour": _vocabulary([12, -3, 0]),
            "tags": _vocabulary(["x", "y"]),
        },
        {feature.name: Moments() for feature in SPEC.features if feature.kind == "numeric"}
        | {
            "standard": Moments(count=4, mean=10.0, variance=16.0, minimum=1, maximum=20),
            "scaled": Moments(count=4, mean=3, variance=1, minimum=-5, maximum=15),
        },
        {"bucket": [1.0, 2.5, 10.0]},
    )


def test_terms_follow_the_out_of_vocabulary_ids(encoding):
    ids = encoding.encode("city", pa.array(["東京", "Zürich", None, "", "a b"]))
    assert ids.type == pa.int32()
    assert ids.to_pylist() == [5, 4, 0, 0, 6]
    assert encoding.vocabulary_size("city") == 1 + 3 + 3


def test_unknown_terms_are_hashed_into_their_buckets(encoding):
    unknown = pa.array([f"unknown {i}" for i in range(100)])
    ids = encoding.encode("city", unknown).to_numpy()
    assert ids.tolist() == (1 + hash64(unknown) % np.uint64(3)).tolist()
    assert set(ids) == {1, 2, 3}


def test_integers(encoding):
    assert encoding.encode("hour", pa.array([0, 12, -3, 99, None, MISSING_INT64])).to_pylist() == [4, 2, 3, 1, 0, 0]
    assert encoding.encode("hour", pa.array([0, 12, None], pa.int8())).to_pylist() == [4, 2, 0]


def test_hash_buckets(encoding):
    ids = encoding.encode("item_id", pa.array([["i1", None], ["i2"]]))
    expected = (1 + hash64(pa.array(["i1", "i2"])) % np.uint64(100)).tolist()
    assert ids.to_pylist() == [[expected[0], 0], [expected[1]]]
    assert encoding.vocabulary_size("item_id") == 101


def test_missing_values_leave_the_lists_of_multi_valued_features(encoding):
    values = pa.array([["x", None, "y"], None, [], [""], ["zzz", "x"]])
    assert encoding.encode("tags", values).to_pylist() == [[2, 3], [], [], [], [1, 2]]
    nested = pa.array([[["x"], None], [], [[None, "y"]]])
    assert encoding.encode("tags", nested).to_pylist() == [[[2], []], [], [[3]]]
    assert encoding.encode("tags", pa.nulls(2)).to_pylist() == [[], []]


def test_log_squared_table(encoding):
    x = pa.array([0.0, 1, 2, 3, 5, 10, 100, 1000])
    # AutoInt's code: int(math.log(x)**2) where x > 2.
    assert encoding.encode("floored", x).to_pylist() == [0, 1, 2, 1, 2, 5, 21, 47]
    exact = [math.log(value) ** 2 if value > 2 else value for value in x.to_pylist()]
    np.testing.assert_allclose(encoding.encode("log_price", x).to_numpy(), exact, rtol=1e-6)
    assert encoding.encode("floored", pa.array([-0.5, 1.9])).to_pylist() == [-1, 1]


@given(st.floats(2.0, 3e38, exclude_min=True))
def test_logarithm_is_exact_to_the_last_place(x):
    ours = float(numeric.natural_log(np.array([x]))[0])
    assert abs(ours - math.log(x)) <= math.ulp(math.log(x))


def test_standardize_min_max_and_buckets(encoding):
    assert encoding.encode("standard", pa.array([10.0, 14.0, 2.0, None])).to_pylist() == [0, 1, -2, 0]
    assert encoding.encode("scaled", pa.array([-5, 15, 5, None])).to_pylist() == [0, 1, 0.5, 0]
    values = pa.array([-1e308, 0.99, 1.0, 2.5, 9.9, 10.0, math.inf, None, math.nan])
    assert encoding.encode("bucket", values).to_pylist() == [1, 1, 2, 3, 3, 4, 4, 0, 0]
    assert encoding.vocabulary_size("bucket") == 5


def test_numbers_stay_finite_and_normal(encoding):
    largest = float(np.finfo(np.float32).max)
    values = pa.array([math.inf, -math.inf, 1e308, -1e308, 5e-324, 1e-40, -0.0, math.nan, None])
    encoded = encoding.encode("price", values).to_numpy()
    assert encoded.dtype == np.float32
    assert encoded.tolist() == [largest, -largest, largest, -largest, 0, 0, 0, 0, 0]
    assert not np.signbit(encoded[4:]).any()


def test_a_constant_feature_becomes_zero():
    assert numeric.center_and_scale("standardize", 5.0, 0.0, 5.0, 5.0) == (5.0, 0.0)
    assert numeric.center_and_scale("min_max", 5.0, 0.0, 5.0, 5.0) == (5.0, 0.0)


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.binary(), pa.large_binary()], ids=str)
def test_a_slice_of_strings_encodes_as_its_rows_do(encoding, kind):
    # Arrow 18 has an `if_else` that gives other strings for such a slice; Arrow 10 does not.
    whole = pa.array(["Zürich", "", "new", None, "東京", "", "a b"] * 5)
    ids = encoding.encode("city", whole).to_pylist()
    for start in range(len(whole)):
        assert encoding.encode("city", whole.cast(kind).slice(start)).to_pylist() == ids[start:]
        assert encoding.encode("city", whole.cast(kind).slice(start, 4)).to_pylist() == ids[start : start + 4]
        lists = pa.array([["x"], [], None] * 12).cast(pa.large_list(pa.large_string())).slice(start)
        assert encoding.encode("tags", lists).to_pylist() == ([[2], [], []] * 12)[start:]


_TERMS = st.none() | st.sampled_from(["", "Zürich", "東京", "x", "y", "new", "é"])
_NESTED = st.lists(st.none() | st.lists(st.none() | st.lists(_TERMS, max_size=3), max_size=3), max_size=5)


@given(_NESTED, st.integers(0, 3), st.integers(0, 3))
def test_slices_encode_as_their_rows_do(encoding, values, start, length):
    whole = pa.array(values, pa.list_(pa.list_(pa.string())))
    rows = encoding.encode("tags", whole).to_pylist()
    assert encoding.encode("tags", whole.slice(start, length)).to_pylist() == rows[start : start + length]
    ids = {"x": 2, "y": 3}
    expected = [[[ids.get(v, 1) for v in inner or [] if v] for inner in row or []] for row in values]
    assert rows == expected


@given(st.lists(_TERMS), st.integers(0, 3))
def test_dictionaries_encode_as_their_values_do(encoding, values, start):
    plain = pa.array(values, pa.string())
    expected = encoding.encode("city", plain).slice(start)
    assert encoding.encode("city", plain.dictionary_encode().slice(start)).equals(expected)
    assert encoding.encode("city", plain.cast(pa.large_string()).slice(start)).equals(expected)
    assert (
        encoding.encode("city", pa.chunked_array([plain, plain]).slice(start)).slice(0, len(expected)).equals(expected)
    )


def test_a_save_is_the_same_after_a_load(encoding, tmp_path):
    encoding.save(tmp_path)
    loaded = FeatureEncoding.load(tmp_path)
    assert loaded.spec == encoding.spec
    assert loaded.terms("city").equals(encoding.terms("city"))
    assert loaded.counts("city").tolist() == [3, 2, 1]
    assert loaded.moments("standard") == encoding.moments("standard")
    assert loaded.boundaries("bucket").tolist() == [1.0, 2.5, 10.0]
    values = pa.array(["東京", "unseen", None])
    assert loaded.encode("city", values).equals(encoding.encode("city", values))
    assert not list(tmp_path.glob("**/*.tmp"))


def test_wrong_values_are_named(encoding):
    with pytest.raises(ValueError, match="`tags` is multi-valued: its values must be lists. Received: string"):
        encoding.encode("tags", pa.array(["x"]))
    with pytest.raises(ValueError, match="`hour` must hold int64. Received: string"):
        encoding.encode("hour", pa.array(["noon"]))
    with pytest.raises(ValueError, match="`price` has no vocabulary"):
        encoding.terms("price")
    with pytest.raises(KeyError, match="Did you mean `city`"):
        encoding.encode("citty", pa.array(["x"]))
    with pytest.raises(ValueError, match="`city` has no vocabulary in the encoding"):
        FeatureEncoding(SPEC, {}, {}, {})


def test_loading_nothing_says_what_is_missing(tmp_path):
    with pytest.raises(FileNotFoundError, match="feature_encoding.json"):
        FeatureEncoding.load(tmp_path)


def test_large_integers_round_as_tensors_do(encoding):
    value = 2**60 + 1
    assert encoding.encode("scaled", pa.array([value])).to_pylist() == [np.float32((float(value) + 5.0) * (1 / 20))]
    assert pc.min(encoding.encode("scaled", pa.array([-(2**63) + 1]))).as_py() < -4e17

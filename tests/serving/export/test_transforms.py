"""The graph's encoding equals `FeatureEncoding.encode` to the bit: eager, traced, and reloaded in a new process."""

import math
import shutil
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.encoding import numeric
from features.encoding.feature_encoding import FeatureEncoding, Moments
from features.encoding.hashing import hash64
from features.spec import MISSING_INT64, FeatureSpec

pytest.importorskip("tensorflow")

TEXT = [f"term {i}" for i in range(50)] + [
    "Zürich",
    "東京",
    "👍🏽",
    "a\0",
    "e\u0301",
    "é",
    " ",
    "a" * 300,
    "line\nbreak",
    "cr\r",
]
TEXT_OTHER = ["unseen", "A\0", "TERM 1", "日本", "\U0010ffff", "b" * 5000]
INTEGERS = [0, 1, -1, 2**63 - 1, -(2**63) + 1, 12345, 2**53 + 1]
EXTREME = [0.0, -0.0, 2.0, math.nextafter(2.0, 3), 1e308, -1e308, 5e-324, -1e-310, 1e-40, math.inf, -math.inf]
EXTREME += [math.nan, 1e-30, 3.4e38, 1.1754943508222875e-38, math.nextafter(1.1754943508222875e-38, 0)]


def _features():
    for dtype in ("string", "int64"):
        for rule in ({"vocabulary": {"oov_buckets": 1}}, {"vocabulary": {"oov_buckets": 7}}, {"hash_buckets": 1000}):
            kind = f"{dtype}_{next(iter(rule))}{rule.get('vocabulary', {}).get('oov_buckets', '')}"
            yield {"name": kind, "table": "users", "dtype": dtype, **rule}
            yield {"name": f"multi_{kind}", "table": "users", "kind": "multi_categorical", "dtype": dtype, **rule}
    for dtype in ("float64", "int64"):
        for transform in ("none", "log_squared", "log_squared_floor", "standardize", "min_max", "bucketize"):
            name = f"{transform}_{dtype}"
            yield {"name": name, "table": "items", "kind": "numeric", "dtype": dtype, "transform": transform}


SPEC = FeatureSpec.model_validate({"name": "parity", "features": list(_features())})


def _encoding():
    moments = Moments(count=10, mean=3.123456789, variance=7.7, minimum=-12.3, maximum=45.6)
    vocabularies, boundaries = {}, {}
    for feature in SPEC.features:
        if feature.vocabulary is not None:
            terms = pa.array(TEXT if feature.dtype == "string" else INTEGERS)
            vocabularies[feature.name] = pa.table({"term": terms, "count": pa.array([1] * len(terms), pa.int64())})
        if feature.transform == "bucketize":
            boundaries[feature.name] = [-1.5, 0.0, 2.0, 1e300 if feature.dtype == "float64" else 1e15]
    all_moments = {feature.name: moments for feature in SPEC.features if feature.kind == "numeric"}
    return FeatureEncoding(SPEC, vocabularies, all_moments, boundaries)


ENCODING = _encoding()


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    from serving.export.transforms import RawFeatureEncoder

    return RawFeatureEncoder(ENCODING, str(tmp_path_factory.mktemp("assets")))


@pytest.fixture(scope="module")
def traced(encoder):
    import tensorflow as tf

    @tf.function(input_signature=[_signature()])
    def encode(features):
        encoded = encoder(features)
        flat = {name: value for name, value in encoded.items() if not SPEC[name].multi_valued}
        for name in encoded.keys() - flat.keys():
            flat[name], flat[f"{name}/lengths"] = encoded[name].flat_values, encoded[name].row_lengths()
        return flat

    return encode


def _signature():
    import tensorflow as tf

    return {
        feature.name: tf.TensorSpec([None, None] if feature.multi_valued else [None], tf.as_dtype(feature.dtype))
        for feature in SPEC.features
    }


def _tensors(text, integers, floats):
    """The same raw values as NumPy arrays for every feature; multi-valued: rows of three."""
    values = {
        "string": np.array([value.encode() for value in text], object),
        "int64": np.array(integers, np.int64),
        "float64": np.array(floats, np.float64),
    }
    tensors = {}
    for feature in SPEC.features:
        tensors[feature.name] = values[feature.dtype]
        if feature.multi_valued:
            tensors[feature.name] = tensors[feature.name][: len(text) // 3 * 3].reshape(-1, 3)
    return tensors


def _arrow(feature, tensor):
    """Raw tensors as the raw examples hold them: nulls instead of the missing marks."""
    flat = tensor.reshape(-1)
    if feature.dtype == "string":
        array = pa.array([value.decode() or None for value in flat], pa.string())
    elif feature.dtype == "int64":
        array = pa.array(flat, mask=flat == MISSING_INT64)
    else:
        array = pa.array(flat, from_pandas=True)
    if feature.multi_valued:
        array = pa.ListArray.from_arrays(pa.array(np.arange(0, tensor.size + 1, 3, dtype=np.int32)), array)
    return array


def _assert_equal(encoded, tensors):
    for feature in SPEC.features:
        expected = ENCODING.encode(feature.name, _arrow(feature, tensors[feature.name]))
        actual = np.asarray(encoded[feature.name])
        if feature.multi_valued:
            lengths = np.diff(expected.offsets.to_numpy())
            assert np.asarray(encoded[f"{feature.name}/lengths"]).tolist() == lengths.tolist(), feature.name
            expected = expected.flatten()
        expected = expected.to_numpy()
        assert actual.dtype == expected.dtype, feature.name
        # As bytes: 0.0 and -0.0 differ, equal NaNs would not.
        assert actual.tobytes() == expected.tobytes(), (feature.name, tensors[feature.name], actual, expected)


def _values():
    text = st.text(st.characters(blacklist_categories=("Cs",))) | st.sampled_from([*TEXT, *TEXT_OTHER, ""])
    integers = st.integers(-(2**63), 2**63 - 1) | st.sampled_from([*INTEGERS, MISSING_INT64])
    floats = st.floats() | st.floats(-100, 100) | st.sampled_from(EXTREME)
    return st.lists(st.tuples(text, integers, floats), max_size=20)


@settings(deadline=None, max_examples=100)
@given(_values())
def test_traced_parity(traced, rows):
    tensors = _tensors(*(zip(*rows, strict=True) if rows else ([], [], [])))
    _assert_equal(traced(tensors), tensors)


@settings(deadline=None, max_examples=30)
@given(_values())
def test_eager_parity(encoder, rows):
    tensors = _tensors(*(zip(*rows, strict=True) if rows else ([], [], [])))
    encoded = encoder(tensors)
    for feature in SPEC.features:
        if feature.multi_valued:
            ragged = encoded[feature.name]
            encoded[feature.name], encoded[f"{feature.name}/lengths"] = ragged.flat_values, ragged.row_lengths()
    _assert_equal(encoded, tensors)


def _many(rows):
    """Rows over every magnitude, with each special value among them."""
    rng = np.random.default_rng(0)
    floats = rng.normal(size=rows) * 10.0 ** rng.integers(-40, 40, rows)
    floats[: rows // 2] = np.exp(rng.uniform(0, 80, rows // 2))
    floats[: len(EXTREME)] = EXTREME
    integers = rng.integers(-(2**63), 2**63 - 1, rows) >> rng.integers(0, 63, rows)
    integers[: len(INTEGERS)] = INTEGERS
    integers[-1] = MISSING_INT64
    text = [*TEXT, *TEXT_OTHER, "", *(f"word {i}" for i in range(rows))][:rows]
    return _tensors(text, integers, floats)


def test_parity_on_many_rows(traced):
    tensors = _many(100_000)
    _assert_equal(traced(tensors), tensors)


_RELOAD = """
import sys
import serving
import numpy as np, tensorflow as tf
raw = np.load(sys.argv[2], allow_pickle=True)
encode = tf.saved_model.load(sys.argv[1]).encode
encoded = encode({name: raw[name] for name in raw.files})
np.savez(sys.argv[3], **{name: value.numpy() for name, value in encoded.items()})
"""


def test_parity_after_a_reload_in_a_new_process(encoder, traced, tmp_path):
    import tensorflow as tf

    module = tf.Module()
    module.encoder, module.encode = encoder, traced
    tf.saved_model.save(module, str(tmp_path / "model"))
    moved = (tmp_path / "model").rename(tmp_path / "moved")  # nothing may point back to where it was written
    tensors = _many(3_000)
    np.savez(tmp_path / "raw.npz", **tensors)
    subprocess.run([sys.executable, "-c", _RELOAD, moved, tmp_path / "raw.npz", tmp_path / "encoded.npz"], check=True)
    _assert_equal(dict(np.load(tmp_path / "encoded.npz")), tensors)


@settings(deadline=None, max_examples=100)
@given(st.lists(st.text(st.characters(blacklist_categories=("Cs",)))), st.lists(st.integers(-(2**63), 2**63 - 1)))
def test_hashes_are_equal(text, integers):
    import tensorflow as tf

    from serving.export.transforms import hash64 as tensorflow_hash64

    strings = tf.constant([value.encode() for value in text], tf.string)
    assert tensorflow_hash64(strings).numpy().tolist() == hash64(pa.array(text, pa.string())).tolist()
    numbers = tf.constant(integers, tf.int64)
    assert tensorflow_hash64(numbers).numpy().tolist() == hash64(pa.array(integers, pa.int64())).tolist()


def test_a_long_string_among_many_hashes_in_linear_memory():
    """1 MiB beside 50,000 short strings: a matrix of them would take 400 GB."""
    import tensorflow as tf

    from serving.export.transforms import hash64 as tensorflow_hash64

    text = ["x" * 2**20, *(f"word {i}" for i in range(50_000))]
    assert tensorflow_hash64(tf.constant(text)).numpy().tolist() == hash64(pa.array(text)).tolist()


def test_logarithms_agree_in_float64():
    """Before the cast to float32, which hides most differences in the last place, but not all."""
    import tensorflow as tf

    from serving.export.transforms import TensorFlowOps

    x = np.exp(np.random.default_rng(0).uniform(np.log(2), 88, 100_000))
    ours = numeric.natural_log(x)
    assert (
        tf.function(lambda x: numeric.natural_log(x, TensorFlowOps))(tf.constant(x)).numpy().tobytes() == ours.tobytes()
    )
    np.testing.assert_allclose(ours, np.log(x), rtol=3e-16)


def test_wrong_tensors_are_named(encoder):
    with pytest.raises(ValueError, match="`none_float64` must be float64. Received: float32"):
        encoder.encode("none_float64", np.zeros(2, np.float32))
    with pytest.raises(ValueError, match="its rank must be 2"):
        encoder.encode("multi_string_hash_buckets", np.array([b"x"], object))


def test_an_empty_vocabulary(tmp_path):
    from serving.export.transforms import RawFeatureEncoder

    spec = FeatureSpec.model_validate({"name": "t", "features": [{"name": "city", "table": "users"}]})
    empty = pa.table({"term": pa.array([], pa.string()), "count": pa.array([], pa.int64())})
    encoder = RawFeatureEncoder(FeatureEncoding(spec, {"city": empty}, {}, {}), str(tmp_path))
    assert encoder.encode("city", np.array([b"x", b""], object)).numpy().tolist() == [1, 0]


def test_vocabularies_lie_beside_the_graph(tmp_path):
    import tensorflow as tf

    from serving.export.transforms import ItemRows, RawFeatureEncoder

    terms = pa.array([f"a term of some length, number {number}" for number in range(20_000)])
    spec = FeatureSpec.model_validate({"name": "t", "features": [{"name": "city", "table": "users"}]})
    counted = pa.table({"term": terms, "count": np.ones(len(terms), np.int64)})
    (tmp_path / "assets").mkdir()
    module = tf.Module()
    module.encoder = RawFeatureEncoder(FeatureEncoding(spec, {"city": counted}, {}, {}), str(tmp_path / "assets"))
    module.rows = ItemRows(pa.array(range(7, 20_007)), str(tmp_path / "assets"))
    module.encode = tf.function(
        lambda city, item: (module.encoder.encode("city", city), module.rows(item)),
        input_signature=[tf.TensorSpec([None], tf.string), tf.TensorSpec([None], tf.int64)],
    )
    tf.saved_model.save(module, str(tmp_path / "made"))
    shutil.rmtree(tmp_path / "assets")
    (tmp_path / "made").rename(tmp_path / "moved")
    assert (tmp_path / "moved" / "saved_model.pb").stat().st_size < 100_000 < 20_000 * len(terms[0].as_py())
    loaded = tf.saved_model.load(str(tmp_path / "moved"))
    ids, rows = loaded.encode(
        tf.constant([terms[19_999].as_py(), terms[0].as_py(), "", "?"]), tf.range(5, 9, dtype=tf.int64)
    )
    assert ids.numpy().tolist() == [20_001, 2, 0, 1]
    assert rows.numpy().tolist() == [0, 0, 1, 2]

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.encoding import hashing
from features.encoding.hashing import hash64

MASK = (1 << 64) - 1

GOLDEN_STRINGS = [
    "0xe220a8397b1dcdaf",
    "0xcfcbbc26a92eae52",
    "0xdcf3aa47b91f209a",
    "0x881009d9ad5ae319",
    "0xf8104fedfe19efbc",
    "0x3a791d22b714e613",
    "0x8802092099f2d5c0",
    "0x6e756c6c6e756c6c",
]
GOLDEN_INTEGERS = [
    "0xe220a8397b1dcdaf",
    "0x910a2dec89025cc1",
    "0xe4d971771b652c20",
    "0x2a67d7552e039ea7",
    "0x481ec0a212a9f3db",
    "0x6e756c6c6e756c6c",
]


def _mix(value):
    value ^= value >> 30
    value = value * hashing.MIX_1 & MASK
    value ^= value >> 27
    value = value * hashing.MIX_2 & MASK
    return value ^ value >> 31


def _reference(value):
    """The definition, in Python's integers."""
    if value is None:
        return hashing.NULL_HASH
    if isinstance(value, int):
        return _mix(value + hashing.INCREMENT & MASK)
    data = value.encode()
    total = sum(byte * pow(hashing.MULTIPLIER, i, 1 << 64) for i, byte in enumerate(data))
    return _mix(total + (len(data) + 1) * hashing.INCREMENT & MASK)


def test_golden_values():
    # Written down once: a change of the hash would tear exported models from their encoded data.
    strings = hash64(pa.array(["", "a", "b", "ab", "Zürich", "東京", "a\0", None]))
    assert [hex(value) for value in strings] == GOLDEN_STRINGS
    integers = hash64(pa.array([0, 1, -1, 2**63 - 1, -(2**63), None]))
    assert [hex(value) for value in integers] == GOLDEN_INTEGERS


def test_integers_are_splitmix64():
    # The first output of SplitMix64 seeded with 0 and with 1234567 (published test vectors).
    assert hash64(pa.array([0, 1234567])).tolist() == [0xE220A8397B1DCDAF, 6457827717110365317]


@given(st.lists(st.none() | st.text()), st.integers(0, 5), st.integers(0, 5), st.sampled_from([1, 3, 1 << 18]))
def test_strings_match_the_definition_under_slicing_and_chunking(values, left, right, chunk):
    values = [value.encode(errors="ignore").decode() if value is not None else None for value in values]
    array = pa.array(values, pa.string())[left : max(len(values) - right, left)]
    before = hashing._CHUNK_BYTES
    hashing._CHUNK_BYTES = chunk
    try:
        hashes = hash64(array)
    finally:
        hashing._CHUNK_BYTES = before
    expected = [_reference(value) for value in array.to_pylist()]
    assert hashes.dtype == np.uint64
    assert hashes.tolist() == expected
    assert hash64(array.cast(pa.large_string())).tolist() == expected
    assert hash64(array.dictionary_encode()).tolist() == expected
    assert hash64(pa.chunked_array([array, array])).tolist() == expected * 2


@given(st.lists(st.none() | st.integers(-(2**63), 2**63 - 1)))
def test_integers_match_the_definition(values):
    assert hash64(pa.array(values, pa.int64())[1:]).tolist() == [_reference(value) for value in values[1:]]


def test_integers_hash_alike_whatever_their_width():
    values = [0, 5, -7, 127]
    expected = hash64(pa.array(values, pa.int64())).tolist()
    assert hash64(pa.array(values, pa.int8())).tolist() == expected
    assert hash64(pa.array([0, 5], pa.uint32())).tolist() == expected[:2]


def test_a_string_longer_than_a_chunk():
    text = "é" * 300_000
    assert hash64(pa.array(["x", text, "y"])).tolist() == [_reference(value) for value in ("x", text, "y")]


def test_empty_arrays():
    assert len(hash64(pa.array([], pa.string()))) == 0
    assert len(hash64(pa.array([], pa.int64()))) == 0
    assert hash64(pa.nulls(2)).tolist() == [hashing.NULL_HASH] * 2


def test_other_types_are_refused():
    with pytest.raises(TypeError, match="strings or integers. Received: double"):
        hash64(pa.array([1.0]))


@settings(deadline=None)
@given(st.sampled_from([2, 7, 64, 1000]), st.sampled_from(["user_{}", "{}", "{:08d}"]))
def test_buckets_are_even(buckets, pattern):
    """Chi-square of 200,000 sequential names: within 6 standard deviations of its mean."""
    names = pa.array([pattern.format(i) for i in range(200_000)])
    for values in (names, pa.array(np.arange(200_000))):
        counts = np.bincount((hash64(values) % np.uint64(buckets)).astype(np.int64), minlength=buckets)
        expected = 200_000 / buckets
        chi_square = ((counts - expected) ** 2 / expected).sum()
        assert abs(chi_square - (buckets - 1)) < 6 * np.sqrt(2 * (buckets - 1)) + 6
        assert len(np.unique(hash64(values))) == 200_000

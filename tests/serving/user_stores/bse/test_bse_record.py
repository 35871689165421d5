import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from features.histories.bucket_table import BucketTable
from serving.user_stores.bse.record import PRECISIONS, RecordLayout, _widen
from serving.user_stores.user_keys import RecordError, user_key, user_of
from tests.builders.bse_example import DIM, same, table_of

finite = st.floats(-(2.0**100), 2.0**100, width=32)


def tables(users):
    made = [table_of(user, length=200) for user in range(users)]
    return np.stack([t.sums for t in made]), np.stack([t.counts for t in made])


@pytest.mark.parametrize("precision, values, scales", [("fp32", 4, 0), ("fp16", 2, 4), ("int8", 1, 4)])
def test_size_of_a_record(precision, values, scales):
    layout = RecordLayout(16, 8, 48, precision)
    assert layout.num_bytes == 4 + 128 * 4 + 128 * scales + 128 * 48 * values
    sums, counts = np.zeros((3, 16, 8, 48), np.float32), np.zeros((3, 16, 8), np.int32)
    assert [len(record) for record in layout.encode(sums, counts)] == [layout.num_bytes] * 3
    assert layout.encode(sums[:0], counts[:0]) == []


def test_fp32_is_exact():
    sums, counts = tables(5)
    layout = RecordLayout(16, 8, DIM)
    for user, record in enumerate(layout.encode(sums, counts)):
        assert same(layout.decode(bytes(record)), BucketTable(sums[user], counts[user]))


@settings(max_examples=60, deadline=None)
@given(hnp.arrays(np.float32, (1, 2, 4, 3), elements=finite), st.sampled_from(["fp16", "int8"]))
def test_rounding_is_within_half_a_step_of_each_row(sums, precision):
    layout = RecordLayout(2, 4, 3, precision)
    decoded = layout.decode(bytes(layout.encode(sums, np.ones((1, 2, 4), np.int32))[0]))
    largest = np.abs(sums[0]).max(axis=-1, keepdims=True).astype(np.float64)
    step = {"fp16": 2.0**-11, "int8": 0.5 / 127}[precision]
    assert np.all(np.abs(decoded.sums.astype(np.float64) - sums[0]) <= largest * step * 1.001 + 2e-36)
    assert np.isfinite(decoded.sums).all() and not decoded.sums[largest[..., 0] == 0].any()


def test_halves_are_widened_to_the_bit():
    halves = np.arange(2**16, dtype=np.uint16).view(np.float16)
    halves = halves[np.isfinite(halves)]  # subnormal ones and both zeros among them
    widened = _widen(halves)
    np.testing.assert_array_equal(widened.view(np.int32), halves.astype(np.float32).view(np.int32))


@pytest.mark.parametrize("precision, cosine", [("fp16", 1 - 1e-6), ("int8", 1 - 1e-4)])
def test_rounding_hardly_turns_an_interest(precision, cosine):
    sums, counts = tables(1)
    layout = RecordLayout(16, 8, DIM, precision)
    decoded = layout.decode(bytes(layout.encode(sums, counts)[0]))
    queries = np.random.default_rng(0).integers(0, 8, (100, 16))
    one, other = BucketTable(sums[0], counts[0]).look_up(queries), decoded.look_up(queries)
    lengths = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
    assert np.all((one * other).sum(axis=1) > cosine * lengths)
    assert np.array_equal(decoded.counts, counts[0])


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_decoded_table_can_be_appended_to(precision):
    sums, counts = tables(1)
    layout = RecordLayout(16, 8, DIM, precision)
    table = layout.decode(bytes(layout.encode(sums, counts)[0]))
    table.append(np.ones(DIM), np.zeros(16, np.uint8))
    assert table.counts.sum() == counts.sum() + 16


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**9), st.integers(0, 7))
def test_one_flipped_bit_is_found(place, bit):
    layout = RecordLayout(16, 8, DIM, "int8")
    sums, counts = tables(1)
    record = bytearray(layout.encode(sums, counts)[0])
    record[place % len(record)] ^= 1 << bit
    with pytest.raises(RecordError, match="checksum"):
        layout.decode(record)


def test_records_of_another_size_are_refused():
    layout = RecordLayout(16, 8, DIM)
    with pytest.raises(RecordError, match="bytes"):
        layout.decode(b"\0" * (layout.num_bytes - 1))


@pytest.mark.parametrize(
    "sums, counts, named",
    [
        (np.zeros((1, 16, 8, 9)), np.zeros((1, 16, 8)), "shapes"),
        (np.zeros((1, 16, 8, 8)), np.zeros((2, 16, 8)), "shapes"),
        (np.full((1, 16, 8, 8), np.inf), np.zeros((1, 16, 8)), "finite"),
    ],
)
def test_wrong_tables_are_refused(sums, counts, named):
    with pytest.raises(ValueError, match=named):
        RecordLayout(16, 8, 8, "fp16").encode(sums.astype(np.float32), counts.astype(np.int32))


def test_unknown_precisions_are_refused():
    with pytest.raises(ValueError, match="fp32, fp16, int8"):
        RecordLayout(16, 8, 8, "fp8")


@settings(max_examples=200, deadline=None)
@given(st.lists(st.text() | st.integers(-(2**63), 2**63 - 1), unique=True, max_size=20))
def test_keys_tell_users_apart(users):
    keys = [user_key(user) for user in users]
    assert len({key for key, _ in keys}) == len(users)
    back = [user_of(key, text) for key, text in keys]
    assert back == users and [type(user) for user in back] == [type(user) for user in users]
    numbers = sorted(user for user in users if isinstance(user, int))
    assert sorted(key for key, _ in keys if key[:1] == b"i") == [user_key(user)[0] for user in numbers]


def test_digits_are_not_the_number():
    assert user_key("1")[0] != user_key(1)[0] and user_key(np.int64(1)) == user_key(1)


def test_a_long_id_is_known_by_its_digest():
    one, other = "ü" * 400, "ü" * 399 + "u"
    assert len(user_key("a" * 510)[0]) == 511 and user_key("a" * 510)[1] is None
    (key, text), (other_key, _) = user_key(one), user_key(other)
    assert len(key) == 65 and key != other_key and user_of(key, text) == one
    with pytest.raises(RecordError):
        user_of(key, None)


@pytest.mark.parametrize("user", [True, 1.0, None, b"a"])
def test_other_ids_are_refused(user):
    with pytest.raises(TypeError, match="`user`"):
        user_key(user)


def test_integers_beyond_64_bits_are_refused():
    with pytest.raises(OverflowError):
        user_key(2**63)

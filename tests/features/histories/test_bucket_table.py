import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.histories.bucket_table import BucketTable, bucket_sums
from features.items.simhash import SimHash, SimHashConfig


def history(length, dim=16, seed=0, config=None):
    """Behaviours of a user with a few interests: values, signatures and their hash."""
    generator = np.random.default_rng(seed)
    centres = generator.normal(size=(4, dim))
    values = centres[generator.integers(0, 4, length)] + 0.5 * generator.normal(size=(length, dim))
    values = values.astype(np.float32)
    hashing = SimHash(dim, config)
    return values, hashing.signatures(values), hashing


def by_loop(values, signatures, num_buckets):
    """The definition: each behaviour is added to its bucket of each group."""
    groups = signatures.shape[1]
    sums = np.zeros((groups, num_buckets, values.shape[1]), np.float64)
    counts = np.zeros((groups, num_buckets), np.int64)
    for group in range(groups):
        np.add.at(sums[group], signatures[:, group], values.astype(np.float64))
        np.add.at(counts[group], signatures[:, group], 1)
    return sums, counts


def attention(values, signatures, query):
    """SDIM's Eq. 11-12 written out: no table, each group's sum scaled to length 1, then the mean."""
    outputs = []
    for group in range(signatures.shape[1]):
        total = values[signatures[:, group] == query[group]].sum(axis=0)
        length = np.linalg.norm(total)
        outputs.append(total / length if length else total)
    return np.mean(outputs, axis=0)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 60), st.sampled_from([1, 2, 3, 5]), st.integers(0, 1000))
def test_one_product_is_the_sum_of_each_bucket(length, tau, seed):
    config = SimHashConfig(num_bits=4 * tau, bits_per_signature=tau, seed=seed)
    values, signatures, _ = history(length, seed=seed, config=config)
    table = BucketTable.build(values, signatures, config.num_buckets)
    sums, counts = by_loop(values, signatures, config.num_buckets)
    np.testing.assert_allclose(table.sums, sums, rtol=1e-5, atol=1e-5)
    assert np.array_equal(table.counts, counts) and table.counts.dtype == np.int32
    assert np.all(table.counts.sum(axis=1) == length)


def test_the_output_is_the_paper_s():
    values, signatures, hashing = history(300)
    queries = hashing.signatures(np.random.default_rng(9).normal(size=(40, 16)))
    expected = [attention(values.astype(np.float64), signatures, query) for query in queries]
    np.testing.assert_allclose(BucketTable.build(values, signatures, 8).look_up(queries), expected, atol=1e-6)


def test_by_hand():
    values = np.array([[3, 0], [0, 4], [0, 5]], np.float32)
    signatures = np.array([[0, 1], [0, 0], [1, 1]], np.uint8)
    table = BucketTable.build(values, signatures, 2)
    assert table.sums.tolist() == [[[3, 4], [0, 5]], [[0, 4], [3, 5]]]
    assert table.counts.tolist() == [[2, 1], [1, 2]]
    expected = [[(0.6 + 0) / 2, (0.8 + 1) / 2], [3 / 34**0.5 / 2, (1 + 5 / 34**0.5) / 2]]
    np.testing.assert_allclose(table.look_up(np.array([[0, 0], [1, 1]])), expected, rtol=1e-6)


def test_a_history_twice_over_gives_the_same_interest():
    values, signatures, hashing = history(200)
    once = BucketTable.build(values, signatures, 8)
    twice = BucketTable.build(np.tile(values, (2, 1)), np.tile(signatures, (2, 1)), 8)
    queries = hashing.signatures(values[:50])
    np.testing.assert_allclose(twice.look_up(queries), once.look_up(queries), atol=1e-6)
    assert np.array_equal(twice.counts, 2 * once.counts)


def test_pads_change_nothing():
    values, signatures, hashing = history(100)
    padding = np.random.default_rng(1).normal(size=(500, 16)).astype(np.float32)
    padding[7] = np.nan  # whatever stands there
    known = np.arange(600) >= 500
    padded = BucketTable.build(
        np.concatenate([padding, values]), np.concatenate([np.zeros((500, 16), np.uint8), signatures]), 8, known
    )
    table = BucketTable.build(values, signatures, 8)
    np.testing.assert_allclose(padded.sums, table.sums, atol=1e-5)
    assert np.array_equal(padded.counts, table.counts)
    # Zeros with a signature are not enough: they are counted.
    zeros = BucketTable.build(np.zeros((500, 16), np.float32), np.zeros((500, 16), np.uint8), 8)
    assert zeros.counts[0, 0] == 500


def test_an_empty_history_gives_exact_zeros():
    _, _, hashing = history(1)
    queries = hashing.signatures(np.random.default_rng(1).normal(size=(20, 16)))
    built = BucketTable.build(np.zeros((0, 16), np.float32), np.zeros((0, 16), np.uint8), 8)
    for table in (built, BucketTable.empty(16, 8, 16)):
        assert not table.look_up(queries).any() and not table.counts.any()
        assert table.look_up(queries).shape == (20, 16)


def test_a_candidate_opposite_to_the_history_finds_nothing():
    vector = np.random.default_rng(4).normal(size=(1, 16)).astype(np.float32)
    hashing = SimHash(16)
    table = BucketTable.build(np.repeat(vector, 30, axis=0), np.repeat(hashing.signatures(vector), 30, axis=0), 8)
    assert not table.look_up(hashing.signatures(-vector)).any()
    unit = vector / np.linalg.norm(vector)
    np.testing.assert_allclose(table.look_up(hashing.signatures(vector)), unit, atol=1e-6)


def test_values_that_cancel_give_finite_zeros():
    values = np.array([[1, -2], [-1, 2]], np.float32)
    table = BucketTable.build(values, np.zeros((2, 3), np.uint8), 8)
    assert table.counts[0, 0] == 2 and not table.look_up(np.zeros((1, 3), np.uint8)).any()


@pytest.mark.parametrize("size", [1e-30, 1e30])
def test_lengths_neither_vanish_nor_overflow(size):
    table = BucketTable(np.full((2, 2, 4), size, np.float32), np.ones((2, 2), np.int32))
    np.testing.assert_allclose(table.look_up(np.zeros((1, 2), np.uint8)), np.full((1, 4), 0.5), rtol=1e-6)


def test_appending_one_by_one_is_rebuilding():
    values, signatures, _ = history(400)
    table = BucketTable.build(values[:150], signatures[:150], 8)
    for value, signature in zip(values[150:], signatures[150:], strict=True):
        table.append(value, signature)
    rebuilt = BucketTable.build(values, signatures, 8)
    assert np.array_equal(table.sums, rebuilt.sums) and np.array_equal(table.counts, rebuilt.counts)
    queries = signatures[:50]
    assert np.array_equal(table.look_up(queries), rebuilt.look_up(queries))


def test_a_table_does_not_depend_on_what_came_and_went_in_which_order():
    values, signatures, _ = history(500)
    values *= np.float32(10.0) ** np.random.default_rng(7).integers(-6, 2, (500, 1)).astype(np.float32)
    kept = np.random.default_rng(8).permutation(500)[:200]
    table = BucketTable.build(values[::-1], signatures[::-1], 8)
    for place in np.random.default_rng(9).permutation(500):
        if place not in kept:
            table.expire(values[place], signatures[place])
    rebuilt = BucketTable.build(values[kept], signatures[kept], 8)
    assert np.array_equal(table.sums, rebuilt.sums) and np.array_equal(table.rest, rebuilt.rest)
    assert rebuilt.rest.any()


def test_expiring_undoes_appending():
    values, signatures, _ = history(60)
    table = BucketTable.build(values[:30], signatures[:30], 8)
    before = BucketTable(table.sums.copy(), table.counts.copy())
    for value, signature in zip(values[30:], signatures[30:], strict=True):
        table.append(value, signature)
    for value, signature in zip(values[30:][::-1], signatures[30:][::-1], strict=True):
        table.expire(value, signature)
    assert np.array_equal(table.counts, before.counts)
    np.testing.assert_allclose(table.sums, before.sums, atol=1e-5)
    for value, signature in zip(values[:30], signatures[:30], strict=True):
        table.expire(value, signature)
    # Rests of rounding would come back from normalisation with length 1.
    assert not table.sums.any() and not table.counts.any() and not table.look_up(signatures).any()


def test_what_is_not_there_cannot_expire():
    values, signatures, _ = history(20)
    table = BucketTable.build(values[:1], signatures[:1], 8)
    other = np.argmax((signatures != signatures[0]).any(axis=1))
    with pytest.raises(ValueError, match="not in the table"):
        table.expire(values[other], signatures[other])
    assert np.array_equal(table.counts, BucketTable.build(values[:1], signatures[:1], 8).counts)


def test_more_bits_attend_more_sharply():
    """The interest comes nearer to the nearest behaviours as tau grows, and tau = 0 would be mean pooling."""
    values, _, _ = history(400, dim=32)
    query = values[0] + 0.1 * np.random.default_rng(3).normal(size=32).astype(np.float32)
    nearness, entropies = [], []
    for tau in (1, 2, 3, 5, 8):
        config = SimHashConfig(num_bits=tau * 400, bits_per_signature=tau)
        hashing = SimHash(32, config)
        signatures = hashing.signatures(values)
        candidate = hashing.signatures(query[np.newaxis])
        output = BucketTable.build(values, signatures, config.num_buckets).look_up(candidate)[0]
        nearness.append(output @ query / np.linalg.norm(output) / np.linalg.norm(query))
        weights = (signatures == candidate).mean(axis=1)
        weights = weights[weights > 0] / weights.sum()
        entropies.append(-(weights * np.log(weights)).sum())
    assert np.all(np.diff(nearness) > 0) and np.all(np.diff(entropies) < 0)
    mean = values.mean(axis=0)
    assert nearness[0] > mean @ query / np.linalg.norm(mean) / np.linalg.norm(query)


@pytest.mark.parametrize("tau", [1, 3])
def test_the_direction_is_that_of_the_expected_attention(tau):
    """Eq. 14: weights (1 - theta / pi) ** tau. Of its direction only: a mean of unit vectors has another length."""
    generator = np.random.default_rng(6)
    values = generator.normal(size=(256, 32)).astype(np.float32)
    values /= np.linalg.norm(values, axis=1, keepdims=True)
    query = generator.normal(size=32).astype(np.float32)
    query /= np.linalg.norm(query)
    config = SimHashConfig(num_bits=tau * 2000, bits_per_signature=tau)
    hashing = SimHash(32, config)
    table = BucketTable.build(values, hashing.signatures(values), config.num_buckets)
    output = table.look_up(hashing.signatures(query[np.newaxis]))[0]
    weights = (1 - np.arccos(values @ query) / np.pi) ** tau
    expected = weights @ values / weights.sum()
    assert output @ expected / np.linalg.norm(output) / np.linalg.norm(expected) > 0.99


def test_signed_by_one_embedding_summed_from_another():
    """Signatures from a two-tower, values from the ranker: the dimensions need not agree."""
    generator = np.random.default_rng(8)
    signatures = SimHash(64).signatures(generator.normal(size=(50, 64)))
    table = BucketTable.build(generator.normal(size=(50, 10)), signatures, 8)
    assert table.look_up(signatures[:3]).shape == (3, 10) and table.dim == 10


@pytest.mark.parametrize(
    "values, signatures, named",
    [
        (np.zeros((2, 4)), np.zeros((3, 16), np.uint8), r"\[L, d\]"),
        (np.zeros((2, 4)), np.full((2, 16), 8, np.uint8), "0..7"),
        (np.zeros((2, 4)), np.full((2, 16), -1), "0..7"),
        (np.zeros((2, 4)), np.zeros((2, 16)), "integers"),
        (np.full((2, 4), np.nan), np.zeros((2, 16), np.uint8), "finite"),
    ],
)
def test_wrong_histories_are_refused(values, signatures, named):
    with pytest.raises(ValueError, match=named):
        BucketTable.build(values, signatures, 8)


def test_wrong_behaviours_and_candidates_are_refused():
    table = BucketTable.empty(16, 8, 4)
    with pytest.raises(ValueError, match=r"\[4\] and \[16\]"):
        table.append(np.zeros(5), np.zeros(16, np.uint8))
    with pytest.raises(ValueError, match="finite"):
        table.append(np.full(4, np.inf), np.zeros(16, np.uint8))
    with pytest.raises(ValueError, match="0..7"):
        table.append(np.zeros(4), np.full(16, 8, np.uint8))
    with pytest.raises(ValueError, match=r"\[N, 16\]"):
        table.look_up(np.zeros((2, 15), np.uint8))
    with pytest.raises(ValueError, match="0..7"):
        table.look_up(np.full((2, 16), 9, np.uint8))


def test_bucket_sums_of_wider_integers():
    values, signatures, _ = history(20)
    for dtype in (np.uint8, np.int32, np.int64):
        found = bucket_sums(values, signatures.astype(dtype), 8)
        np.testing.assert_allclose(found, bucket_sums(values, signatures, 8), atol=1e-6)

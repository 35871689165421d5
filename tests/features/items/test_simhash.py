import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pydantic import ValidationError

from features.items.simhash import MAX_DIM, SimHash, SimHashConfig

VECTORS = np.array([[1, 2, 3, 4], [-1, -2, -3, -4], [0, 0, 0, 0], [1, 0, 0, 0], [0.5, -0.25, 0.125, 1e-3]], np.float32)

# Written down once: other bits would tear stored tables and signatures from the models that read them.
GOLDEN = [
    [6, 3, 1, 7, 4, 6, 2, 7, 0, 1, 0, 7, 2, 0, 6, 2],
    [1, 4, 6, 0, 3, 1, 5, 0, 7, 6, 7, 0, 5, 7, 1, 5],
    [0] * 16,
    [4, 0, 4, 1, 5, 3, 5, 0, 7, 1, 4, 7, 4, 7, 6, 1],
    [4, 0, 4, 1, 4, 7, 5, 0, 5, 1, 4, 3, 4, 7, 6, 5],
]
GOLDEN_TAU_5 = [[14, 0], [17, 31], [0, 0], [18, 8], [10, 0]]
GOLDEN_ROW = [131838, -138522, 671532, 109996]
GOLDEN_128 = [6, 7, 1, 1, 3, 1, 4, 7, 1, 2, 5, 5, 2, 5, 1, 2]


def by_hand(vector, matrix, tau):
    """The definition in Python's integers, without any array arithmetic."""
    largest = max(abs(float(value)) for value in vector)
    whole = [round(float(value) / largest * 2**20) if largest else 0 for value in vector]
    bits = [sum(int(r) * x for r, x in zip(row, whole, strict=True)) > 0 for row in matrix]
    groups = [bits[start : start + tau] for start in range(0, len(bits), tau)]
    return [int("".join("1" if bit else "0" for bit in group), 2) for group in groups]


def test_golden_values():
    assert SimHash(4).matrix[0].tolist() == GOLDEN_ROW
    assert SimHash(4).signatures(VECTORS).tolist() == GOLDEN
    other = SimHashConfig(num_bits=10, bits_per_signature=5, seed=7)
    assert SimHash(4, other).signatures(VECTORS).tolist() == GOLDEN_TAU_5
    ramp = (np.arange(128) * 37 % 101 - 50).astype(np.float32)
    assert SimHash(128).signatures(ramp[np.newaxis]).tolist() == [GOLDEN_128]


def test_the_default_is_the_paper_s():
    config = SimHashConfig()
    assert (config.num_bits, config.bits_per_signature, config.num_groups, config.num_buckets) == (48, 3, 16, 8)
    assert config.num_groups * config.bits_per_signature == 48


@settings(max_examples=50, deadline=None)
@given(
    hnp.arrays(np.float32, 6, elements=st.floats(-(2.0**100), 2.0**100, width=32, allow_subnormal=False)),
    st.integers(0, 3),
)
def test_bits_follow_the_definition(vector, seed):
    hashing = SimHash(6, SimHashConfig(num_bits=12, bits_per_signature=4, seed=seed))
    assert hashing.signatures(vector[np.newaxis])[0].tolist() == by_hand(vector, hashing.matrix, 4)


def test_sums_are_exact_in_every_order():
    generator = np.random.default_rng(5)
    hashing = SimHash(MAX_DIM, SimHashConfig(num_bits=12))
    vectors = np.sign(hashing.matrix[:3]).astype(np.float32)  # the largest sums there are
    vectors = np.concatenate([vectors, generator.normal(size=(3, MAX_DIM)).astype(np.float32)])
    whole = np.rint(vectors.astype(np.float64) / np.abs(vectors).max(axis=1, keepdims=True) * 2**20)
    order = generator.permutation(MAX_DIM)
    exact = (whole.astype(np.int64)[:, :, np.newaxis] * hashing.matrix.T.astype(np.int64)).sum(axis=1)
    for one_order in (slice(None), slice(None, None, -1), order):
        assert np.array_equal(whole[:, one_order] @ hashing.matrix.T[one_order], exact)
    assert hashing.signatures(vectors).tolist() == [by_hand(vector, hashing.matrix, 3) for vector in vectors]


def test_length_does_not_matter_and_one_row_does_not_depend_on_the_others():
    vectors = np.random.default_rng(1).normal(size=(100, 32)).astype(np.float32)
    hashing = SimHash(32)
    together = hashing.signatures(vectors)
    assert np.array_equal(together, hashing.signatures(vectors * np.float32(2.0**-40)))
    assert np.array_equal(together, np.concatenate([hashing.signatures(vectors[i : i + 1]) for i in range(100)]))
    assert np.array_equal(together, hashing.signatures(np.asfortranarray(vectors)))


def test_chunks_join():
    vectors = np.random.default_rng(1).normal(size=(40_000, 2)).astype(np.float32)
    hashing = SimHash(2)
    assert np.array_equal(hashing.signatures(vectors)[30_000:], hashing.signatures(vectors[30_000:]))
    assert hashing.signatures(vectors[:0]).shape == (0, 16)


def test_an_opposite_vector_shares_no_bit():
    vectors = np.random.default_rng(2).normal(size=(50, 16)).astype(np.float32)
    hashing = SimHash(16)
    assert np.array_equal(hashing.signatures(-vectors), 7 - hashing.signatures(vectors))


def test_subnormal_entries_count_as_zero():
    tiny = np.full((1, 4), 1e-40, np.float32)
    assert not SimHash(4).signatures(tiny).any()
    beside = np.array([[1.0, 1e-40, 0, 0]], np.float32)
    assert np.array_equal(SimHash(4).signatures(beside), SimHash(4).signatures(VECTORS[3:4]))


@pytest.mark.parametrize("tau", [1, 2, 3, 5])
def test_collisions_of_random_pairs(tau):
    """Eq. 13: (1 - theta / pi) ** tau for one signature; not ** m."""
    groups = 4000
    generator = np.random.default_rng(tau)
    hashing = SimHash(64, SimHashConfig(num_bits=groups * tau, bits_per_signature=tau, seed=tau))
    first = generator.normal(size=(60, 64))
    # Angles of every size: the other vector of a pair is a blend of the first and of noise.
    blend = np.linspace(-2, 4, 60)[:, np.newaxis]
    second = generator.normal(size=(60, 64)) + blend * first
    cosine = (first * second).sum(axis=1) / np.linalg.norm(first, axis=1) / np.linalg.norm(second, axis=1)
    expected = (1 - np.arccos(cosine) / np.pi) ** tau
    signatures = [hashing.signatures(vectors.astype(np.float32)) for vectors in (first, second)]
    measured = (signatures[0] == signatures[1]).mean(axis=1)
    error = np.sqrt(expected * (1 - expected) / groups)
    assert expected.min() < 0.4**tau and expected.max() > 0.8**tau
    assert np.all(np.abs(measured - expected) < 4.5 * error)
    # One signature of all 48 bits would practically never collide.
    close = expected > 0.2
    assert close.sum() > 10 and np.all(measured[close] - expected[close] ** (48 / tau) > 20 * error[close])


def test_bits_of_isotropic_vectors_are_fair_and_of_other_seeds_independent():
    vectors = np.random.default_rng(3).normal(size=(20_000, 48)).astype(np.float32)
    one, other = (SimHash(48, SimHashConfig(seed=seed)).signatures(vectors) for seed in (0, 1))
    counts = np.stack([np.bincount(one[:, group], minlength=8) for group in range(16)])
    assert np.abs(counts / 20_000 - 1 / 8).max() < 0.06
    assert abs((one == other).mean() - 1 / 8) < 0.02
    assert not np.array_equal(SimHash(48).matrix, SimHash(48, SimHashConfig(seed=1)).matrix)


@pytest.mark.parametrize(
    "values, named",
    [
        ({"num_bits": 47}, "multiple"),
        ({"bits_per_signature": 9}, "bits_per_signature"),
        ({"bits_per_signature": 0}, "bits_per_signature"),
        ({"bits": 3}, "bits"),
    ],
)
def test_wrong_configurations_are_refused(values, named):
    with pytest.raises(ValidationError, match=named):
        SimHashConfig(**values)


@pytest.mark.parametrize(
    "vectors, named",
    [(np.zeros((2, 3)), r"\[n, 4\]"), (np.zeros(4), r"\[n, 4\]"), (np.full((1, 4), np.nan), "finite"),
     (np.full((1, 4), np.inf), "finite")],
)  # fmt: skip
def test_wrong_vectors_are_refused(vectors, named):
    with pytest.raises(ValueError, match=named):
        SimHash(4).signatures(vectors)


@pytest.mark.parametrize("dim", [0, MAX_DIM + 1])
def test_wrong_dimensions_are_refused(dim):
    with pytest.raises(ValueError, match="`dim`"):
        SimHash(dim)

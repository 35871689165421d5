"""SDIM in TensorFlow: the hash's bits, bucket sums and look-ups against NumPy, and the traps of toy versions."""

import numpy as np
import tensorflow as tf

from features.histories.bucket_table import BucketTable
from features.items.config import SimHashConfig
from features.items.simhash import SimHash
from models.sdim import buckets as sdim

SIMHASH = SimHash(16, SimHashConfig(seed=3))
GROUPS, BUCKETS = SIMHASH.config.num_groups, SIMHASH.config.num_buckets


def vectors(count, seed=0, dim=16):
    return np.random.default_rng(seed).normal(size=(count, dim)).astype(np.float32)


def awkward_vectors():
    """Where careless arithmetic flips bits: zeros, subnormals, huge and tiny scales, opposite and equal vectors."""
    base = vectors(200)
    edge = np.zeros((6, 16), np.float32)
    edge[1, 3], edge[2, 3], edge[3], edge[4], edge[5, 0] = 1e-40, -1e-44, 3e38, -1e-37, np.float32(1e-38)
    return np.concatenate([base, base * 1e-20, base * 1e30, -base, edge])


def one_request(history, signed, candidates, known=None):
    """Interests of candidates [N, G] in one history [L, d]."""
    known = np.ones(len(history), bool) if known is None else known
    sums = sdim.bucket_sums(history[np.newaxis], signed[np.newaxis], known[np.newaxis], BUCKETS)
    return sdim.look_up(sums, candidates, np.zeros(len(candidates), np.int32))


class Signer(tf.Module):
    @tf.function(input_signature=[tf.TensorSpec([None, 16], tf.float32)])
    def __call__(self, x):
        return {"signatures": sdim.signatures(SIMHASH, x)}


def test_the_same_bits_in_numpy_eager_graph_and_a_reloaded_saved_model(tmp_path):
    x = awkward_vectors()
    expected = SIMHASH.signatures(x).astype(np.int32)
    assert len(np.unique(expected)) == BUCKETS
    np.testing.assert_array_equal(sdim.signatures(SIMHASH, x), expected)
    np.testing.assert_array_equal(Signer()(x)["signatures"], expected)
    tf.saved_model.save(Signer(), str(tmp_path / "signer"))
    reloaded = tf.saved_model.load(str(tmp_path / "signer"))
    np.testing.assert_array_equal(reloaded(x)["signatures"], expected)


def test_signatures_keep_leading_axes():
    x = vectors(24).reshape(2, 3, 4, 16)
    flat = SIMHASH.signatures(x.reshape(-1, 16))
    np.testing.assert_array_equal(sdim.signatures(SIMHASH, x), flat.reshape(2, 3, 4, GROUPS))


def test_many_requests_read_their_own_tables_as_numpy_does():
    histories = [vectors(length, seed) for seed, length in enumerate((7, 1, 40))]
    longest = max(map(len, histories))
    padded = np.stack([np.pad(h, ((longest - len(h), 0), (0, 0))) for h in histories])
    known = np.stack([np.arange(longest) >= longest - len(h) for h in histories])
    request_index, candidates = np.array([0, 0, 0, 2, 2]), vectors(5, 9)  # request 1 has no candidate
    sums = sdim.bucket_sums(padded, sdim.signatures(SIMHASH, padded), known, BUCKETS)
    found = sdim.look_up(sums, sdim.signatures(SIMHASH, candidates), tf.constant(request_index, tf.int32)).numpy()
    for row, (request, candidate) in enumerate(zip(request_index, candidates, strict=True)):
        history = histories[request]
        table = BucketTable.build(history, SIMHASH.signatures(history), BUCKETS)
        np.testing.assert_allclose(found[row], table.look_up(SIMHASH.signatures(candidate[np.newaxis]))[0], atol=1e-6)


def test_look_up_is_the_paper_s_formula():
    history, candidates = vectors(60, 1), vectors(50, 2)
    of_history, of_candidates = SIMHASH.signatures(history), SIMHASH.signatures(candidates)
    expected = np.zeros((50, 16))
    for group in range(GROUPS):
        collides = of_candidates[:, group, np.newaxis] == of_history[:, group]
        total = collides @ history.astype(np.float64)
        norm = np.linalg.norm(total, axis=1, keepdims=True)
        expected += np.divide(total, norm, out=np.zeros_like(total), where=norm > 0) / GROUPS
    found = one_request(history, of_history.astype(np.int32), of_candidates.astype(np.int32))
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_sums_and_their_gradient_are_those_of_the_product_with_one_hot_signatures():
    values = tf.Variable(vectors(3 * 9).reshape(3, 9, 16))
    known = np.arange(9) >= np.array([[0], [4], [9]])
    signed = SIMHASH.signatures(values.numpy().reshape(-1, 16)).reshape(3, 9, GROUPS).astype(np.int32)
    signed[~known] = -1
    one_hot = (signed[..., np.newaxis] == np.arange(BUCKETS)) & known[..., np.newaxis, np.newaxis]
    upstream = vectors(3 * GROUPS * BUCKETS, 1).reshape(3, GROUPS, BUCKETS, 16)
    with tf.GradientTape() as tape:
        sums = sdim.bucket_sums(tf.convert_to_tensor(values), signed, known, BUCKETS)
        loss = tf.reduce_sum(sums * upstream)
    np.testing.assert_allclose(sums, np.einsum("blgk,bld->bgkd", one_hot, values.numpy()), atol=1e-5)
    np.testing.assert_allclose(tape.gradient(loss, values), np.einsum("blgk,bgkd->bld", one_hot, upstream), atol=1e-5)


def test_windows_and_batches_may_be_empty():
    """Repeated: what TensorFlow leaves uninitialised may happen to be zero."""
    history, candidates = tf.Variable(tf.ones([2, 3, 16])), np.zeros([2, GROUPS], np.int32)
    signed, known = np.zeros([2, 3, GROUPS], np.int32), np.ones([2, 3], bool)
    request_index = np.array([0, 1], np.int32)
    for _ in range(20):
        empty = sdim.bucket_sums(history[:, :0], signed[:, :0], known[:, :0], BUCKETS)
        np.testing.assert_array_equal(empty, np.zeros((2, GROUPS, BUCKETS, 16)))
        np.testing.assert_array_equal(sdim.look_up(empty, candidates, request_index), np.zeros((2, 16)))
        with tf.GradientTape() as tape:
            sums = sdim.bucket_sums(tf.convert_to_tensor(history), signed, known, BUCKETS)
            found = sdim.look_up(sums, candidates[:0], request_index[:0])
        assert found.shape == (0, 16)
        np.testing.assert_array_equal(tape.gradient(found, history), np.zeros((2, 3, 16)))


def test_a_history_twice_as_long_by_repetition_says_the_same():
    history, candidates = vectors(30, 1), sdim.signatures(SIMHASH, vectors(20, 2))
    signed = SIMHASH.signatures(history).astype(np.int32)
    once = one_request(history, signed, candidates)
    twice = one_request(np.tile(history, (2, 1)), np.tile(signed, (2, 1)), candidates)
    np.testing.assert_allclose(once, twice, atol=1e-6)
    assert np.linalg.norm(once, axis=1).max() > 0.1


def test_no_history_is_exactly_zero_with_finite_gradients():
    history = tf.Variable(vectors(5))
    signed, candidates = sdim.signatures(SIMHASH, history), sdim.signatures(SIMHASH, vectors(4, 1))
    with tf.GradientTape() as tape:
        sums = sdim.bucket_sums(history[tf.newaxis], signed[tf.newaxis], np.zeros((1, 5), bool), BUCKETS)
        interest = sdim.look_up(sums, candidates, np.zeros(4, np.int32))
        loss = tf.reduce_sum(interest)
    np.testing.assert_array_equal(interest, np.zeros((4, 16)))
    np.testing.assert_array_equal(tape.gradient(loss, history), np.zeros((5, 16)))


def test_an_opposite_candidate_meets_only_empty_buckets():
    history = vectors(1)
    interest = one_request(
        history, SIMHASH.signatures(history).astype(np.int32), sdim.signatures(SIMHASH, -history)
    ).numpy()
    np.testing.assert_array_equal(interest, np.zeros((1, 16)))


def test_the_same_item_collides_in_every_group():
    history = vectors(1)
    signed = SIMHASH.signatures(history).astype(np.int32)
    interest = one_request(history, signed, signed)
    np.testing.assert_allclose(interest, history / np.linalg.norm(history), atol=1e-6)


def test_a_candidate_without_signature_has_no_interest():
    history = vectors(10)
    signed = SIMHASH.signatures(history).astype(np.int32)
    np.testing.assert_array_equal(one_request(history, signed, np.full((2, GROUPS), -1, np.int32)), np.zeros((2, 16)))


def test_gradients_reach_colliding_behaviours_and_never_the_candidate():
    history, candidate = tf.Variable(vectors(12)), tf.Variable(vectors(1, 5))
    with tf.GradientTape() as tape:
        signed, of_candidate = sdim.signatures(SIMHASH, history), sdim.signatures(SIMHASH, candidate)
        sums = sdim.bucket_sums(history[tf.newaxis], signed[tf.newaxis], np.ones((1, 12), bool), BUCKETS)
        loss = tf.reduce_sum(sdim.look_up(sums, of_candidate, np.zeros(1, np.int32)) * vectors(1, 6))
    of_history, of_candidate_gradient = tape.gradient(loss, [history, candidate])
    collides = (signed.numpy() == of_candidate.numpy()).any(axis=1)
    assert of_candidate_gradient is None
    assert 0 < collides.sum() < 12
    np.testing.assert_array_equal(np.abs(of_history.numpy()).sum(axis=1) > 0, collides)

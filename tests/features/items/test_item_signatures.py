import json

import numpy as np
import pyarrow as pa
import pytest

from features.items.signatures import (
    ItemSignatures,
    in_a_cone,
    mean_cosine,
    sign_items,
)
from features.items.simhash import SimHash, SimHashConfig


def units(rows):
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def isotropic(n=3000, dim=32, seed=0):
    return units(np.random.default_rng(seed).normal(size=(n, dim)))


def cone(n=3000, dim=32, seed=0):
    """Embeddings as trained towers have them: a common direction, and each its own part beside."""
    generator = np.random.default_rng(seed)
    return units(20 * units(generator.normal(size=(1, dim))) + generator.normal(size=(n, dim)))


def ids(n):
    return pa.array(np.arange(n)[::-1].copy())


@pytest.mark.parametrize("tau", [1, 3, 5])
def test_a_cone_fills_few_buckets_until_it_is_centred(tau):
    config = SimHashConfig(num_bits=48 // tau * tau, bits_per_signature=tau)
    entropy = {c: sign_items(ids(3000), cone(), config, center=c).occupancy_entropy() for c in (False, True, "auto")}
    assert entropy[False] < 0.6 * tau
    assert entropy[True] > 0.95 * tau
    assert entropy["auto"] == entropy[True]


def test_without_a_cone_nothing_is_centred():
    signed = sign_items(ids(3000), isotropic())
    assert signed.center is None
    assert signed.occupancy_entropy() > 2.95
    assert np.array_equal(signed.signatures, SimHash(32).signatures(isotropic()))


@pytest.mark.parametrize("n", [2, 3, 5, 10, 50])
def test_few_items_are_not_taken_for_a_cone(n):
    embeddings = [isotropic(n, 64, seed) for seed in range(200)]
    assert np.mean([in_a_cone(rows, 3) for rows in embeddings]) < 0.2  # chance: two random rows may lie near
    if n < 5:
        # The mean row alone would take nearly all of them for a cone.
        assert np.mean([np.linalg.norm(rows.mean(axis=0)) > 0.35 for rows in embeddings]) > 0.9


def test_mean_cosine_is_that_of_all_pairs():
    rows = np.random.default_rng(1).normal(size=(40, 6)) + 0.5
    cosines = units(rows) @ units(rows).T
    expected = (cosines.sum() - np.trace(cosines)) / (40 * 39)
    assert mean_cosine(rows.astype(np.float32)) == pytest.approx(expected, abs=1e-6)
    assert mean_cosine(rows[:1].astype(np.float32)) == 0 and mean_cosine(np.zeros((5, 3), np.float32)) < 0


def test_the_threshold_is_what_the_text_says():
    """A quarter more collisions at tau = 3: a mean cosine of 0.12."""

    def pair(cosine):
        return np.array([[1, 0], [cosine, np.sqrt(1 - cosine**2)]], np.float32)

    assert in_a_cone(pair(0.13), 3) and not in_a_cone(pair(0.11), 3)
    assert in_a_cone(pair(0.08), 5) and not in_a_cone(pair(0.06), 5)
    assert not in_a_cone(pair(-1.0), 3)


def test_occupancy_entropy_by_hand():
    config = SimHashConfig(num_bits=4, bits_per_signature=2)

    def entropy(rows):
        return ItemSignatures(ids(len(rows)), np.array(rows, np.uint8), config, 8).occupancy_entropy()

    assert entropy([[0, 0], [1, 1], [2, 2], [3, 3]]) == 2
    assert entropy([[3, 1], [3, 1]]) == 0
    assert entropy([[0, 0], [0, 1], [1, 2], [1, 3]]) == 1.5
    assert ItemSignatures(ids(0), np.zeros((0, 2), np.uint8), config, 8).occupancy_entropy() == 0


@pytest.mark.parametrize("item_ids", [pa.array(["b", "a", "ü", ""]), pa.array([7, -1, 2**62, 0])])
@pytest.mark.parametrize("center", [True, False])
def test_saved_and_loaded_bit_by_bit(tmp_path, item_ids, center):
    signed = sign_items(item_ids, cone(4), SimHashConfig(seed=3), center=center)
    signed.save(tmp_path / "signatures")
    loaded = ItemSignatures.load(tmp_path / "signatures")
    assert loaded.item_ids.equals(item_ids) and loaded.config == signed.config and loaded.dim == 32
    assert np.array_equal(loaded.signatures, signed.signatures) and loaded.signatures.dtype == np.uint8
    assert (loaded.center is None) == (not center)
    if center:
        assert np.array_equal(loaded.center, signed.center) and loaded.center.dtype == np.float32
    unseen = cone(10, seed=0)
    assert np.array_equal(loaded.sign(unseen), signed.sign(unseen))
    assert np.array_equal(loaded.sign(cone(4)), signed.signatures)
    assert sorted(path.name for path in (tmp_path / "signatures").iterdir()) == ["signatures.parquet", "simhash.json"]


def test_an_empty_catalogue(tmp_path):
    signed = sign_items(pa.array([], pa.string()), np.zeros((0, 8), np.float32))
    signed.save(tmp_path)
    assert ItemSignatures.load(tmp_path).signatures.shape == (0, 16)
    assert signed.table().tolist() == [[0] * 16]


def test_the_table_has_a_row_for_no_item():
    signed = sign_items(ids(5), isotropic(5))
    assert signed.table().shape == (6, 16) and not signed.table()[0].any()
    assert np.array_equal(signed.table()[1:], signed.signatures)


def test_chunks_of_ids_are_joined():
    chunks = pa.chunked_array([["a", "b"], ["c"]])
    assert sign_items(chunks, isotropic(3)).item_ids.to_pylist() == ["a", "b", "c"]


@pytest.mark.parametrize(
    "embeddings, named", [(np.zeros((2, 4)), "one row for each of 3"), (np.full((3, 4), np.nan), "finite")]
)
def test_wrong_embeddings_are_refused(embeddings, named):
    with pytest.raises(ValueError, match=named):
        sign_items(ids(3), embeddings)


def test_signatures_of_another_hash_are_refused(tmp_path):
    sign_items(ids(3), isotropic(3)).save(tmp_path)
    written = json.loads((tmp_path / "simhash.json").read_text())
    for change in ({"num_bits": 24}, {"num_bits": 16, "bits_per_signature": 1}):
        written["config"] |= change
        (tmp_path / "simhash.json").write_text(json.dumps(written))
        with pytest.raises(ValueError, match="do not fit"):
            ItemSignatures.load(tmp_path)

"""Mutual information of item features: closed forms, the id's trap, the bias and its null, parts that add up."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.beam_runner import make_pipeline
from features.items.catalogue import CATALOGUE_FILE
from features.items.mutual_information import (
    Contingency,
    MutualInformation,
    estimate_mutual_information,
    item_codes,
    mutual_information_of,
)
from features.spec import FeatureSpec

SPEC = FeatureSpec.model_validate(
    {
        "name": "items",
        "features": [
            {"name": "item_id", "table": "items"},
            {"name": "category", "table": "items"},
            {"name": "brand", "table": "items"},
            {"name": "shop", "table": "items"},
            {"name": "words", "table": "items", "kind": "multi_categorical"},
            {"name": "price", "table": "items", "kind": "numeric"},
        ],
    }
)
FEATURES = SPEC.of_table("items")
NAMES = [feature.name for feature in FEATURES]


def catalogue(items: int, seed: int = 0) -> pa.Table:
    """Brands follow the category but for a fifth of the items; the price is a function of the category; the shop (of
    50) is independent; the first word is the category's."""
    rng = np.random.default_rng(seed)
    category = rng.integers(1, 9, items).astype(np.int32)
    brand = np.where(rng.random(items) < 0.8, category * 2, rng.integers(1, 17, items)).astype(np.int32)
    words = [[100 + c, int(w)][: 2 - (w == 0)] for c, w in zip(category, rng.integers(0, 9, items), strict=True)]
    return pa.table(
        {
            "item_id": np.arange(1, items + 1, dtype=np.int32),
            "category": category,
            "brand": brand,
            "shop": rng.integers(1, 51, items).astype(np.int32),
            "words": pa.array(words, pa.list_(pa.int32())),
            "price": category.astype(np.float32) + rng.random(items).astype(np.float32) / 2,
        }
    )


def estimate(table: pa.Table, **options) -> MutualInformation:
    state = Contingency(len(FEATURES))
    state.update(item_codes({name: table[name].combine_chunks() for name in NAMES}, FEATURES))
    return mutual_information_of(state, FEATURES, **options)


def pair(matrix: np.ndarray, first: str, second: str) -> float:
    return matrix[NAMES.index(first), NAMES.index(second)]


def test_closed_forms():
    """A 2 × 2 table with joint (0.4, 0.1; 0.1, 0.4): MI = 0.8 log 1.6 + 0.2 log 0.4. Independent halves: 0."""
    spec = FeatureSpec.model_validate({"name": "two", "features": [{"name": n, "table": "items"} for n in "abc"]})
    a = np.repeat([1, 1, 2, 2], [40, 10, 10, 40]).astype(np.uint32)
    b = np.repeat([1, 2, 1, 2], [40, 10, 10, 40]).astype(np.uint32)
    state = Contingency(3)
    state.update(np.stack([a, b, np.tile(np.array([7, 9], np.uint32), 50)]))
    found = mutual_information_of(state, spec.features).matrix("plug_in")
    assert found[0, 1] == pytest.approx(0.8 * np.log(1.6) + 0.2 * np.log(0.4))
    assert found[0, 2] == pytest.approx(0.0, abs=1e-12)
    np.testing.assert_allclose(np.diag(found), np.log(2))
    np.testing.assert_allclose(found, found.T, atol=1e-12)


def test_the_item_id_is_everybodys_relative_by_plug_in_and_nobodys_without_bias():
    """MI(id, f) = H(f), which no other feature exceeds; a shuffled id knows as much, so nothing is left over."""
    found = estimate(catalogue(2000))
    plug_in, corrected = found.matrix("plug_in"), found.matrix("minus_null")
    others = range(1, len(NAMES))
    for f in others:
        assert plug_in[0, f] == pytest.approx(plug_in[f, f])
        assert plug_in[0, f] >= max(plug_in[g, f] for g in others if g != f) - 1e-12
        assert corrected[0, f] == pytest.approx(0.0, abs=1e-9)
    assert pair(found.matrix("normalized"), "item_id", "category") < pair(
        found.matrix("normalized"), "brand", "category"
    )


def test_shuffle_null_removes_the_bias_of_large_vocabularies():
    """Category and shop are independent, yet the plug-in estimate of 400 items is (R-1)(C-1)/2n = 0.43 nats."""
    found = estimate(catalogue(400), num_shuffles=20)
    assert pair(found.matrix("plug_in"), "category", "shop") > 0.3
    assert abs(pair(found.matrix("minus_null"), "category", "shop")) < 0.05
    assert pair(found.matrix("minus_null"), "category", "brand") > 0.8


def test_planted_relations_and_numbers():
    found = estimate(catalogue(4000)).matrix()
    category = NAMES.index("category")
    for relative in ("brand", "price", "words"):
        assert pair(found, "category", relative) > 10 * abs(pair(found, "category", "shop"))
    # The first word is the category under another name; 20 bins of the price cut each category's range twice or so.
    assert pair(found, "category", "words") == pytest.approx(found[category, category], abs=0.02)
    assert pair(found, "category", "price") > 0.7 * found[category, category]


def test_ranks_are_stable_on_two_halves():
    table = catalogue(4000)
    halves = [estimate(table.slice(start, 2000)).matrix() for start in (0, 2000)]
    for f in range(1, len(NAMES)):
        top = [set(np.argsort(-np.delete(half[f], f))[:2]) for half in halves]
        if NAMES[f] != "shop":  # it has no relative
            assert top[0] == top[1]


def test_multi_valued_features_count_by_their_first_value():
    words = pa.array([[5, 6], [], [7], [5]], pa.list_(pa.int32()))
    codes = item_codes({"words": words}, (SPEC["words"],))
    np.testing.assert_array_equal(codes, [[5, 0, 7, 5]])
    np.testing.assert_array_equal(item_codes({"words": words.slice(1)}, (SPEC["words"],)), [[0, 7, 5]])


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 60), st.integers(0, 60), st.integers(0, 3))
def test_parts_add_up(items, cut, seed):
    table = catalogue(items, seed)
    whole, parts = Contingency(len(FEATURES)), Contingency(len(FEATURES))
    codes = item_codes({name: table[name].combine_chunks() for name in NAMES}, FEATURES)
    whole.update(codes)
    for part in (codes[:, cut:], codes[:, :cut]):
        state = Contingency(len(FEATURES))
        state.update(part)
        parts.merge(state)
    assert mutual_information_of(whole, FEATURES) == mutual_information_of(parts, FEATURES)


def test_beam_reads_all_row_groups(tmp_path):
    table = catalogue(1000)
    path = tmp_path / CATALOGUE_FILE
    path.parent.mkdir()
    pq.write_table(table, path, row_group_size=150)
    with make_pipeline() as root:
        estimate_mutual_information(root, tmp_path, SPEC, tmp_path / "out" / "mutual_information.json", num_shuffles=3)
    assert MutualInformation.load(tmp_path / "out" / "mutual_information.json") == estimate(table, num_shuffles=3)


def test_one_feature_is_refused(tmp_path):
    spec = FeatureSpec.model_validate({"name": "one", "features": [{"name": "item_id", "table": "items"}]})
    with pytest.raises(ValueError, match="two features of `items`.*item_id"):
        estimate_mutual_information(None, tmp_path, spec, tmp_path / "x.json")
    with pytest.raises(ValueError, match="empty"):
        mutual_information_of(Contingency(2), FEATURES[:2])

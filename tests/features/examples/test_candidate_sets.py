"""Sampling of unshown items: never shown ones, unbiased sums, and requests that keep what they had."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.examples.candidate_sets import (
    append_candidates,
    catalogue_values,
    sample_unshown,
)
from features.spec import FeatureSpec

SPEC = FeatureSpec.model_validate(
    {
        "name": "sets",
        "features": [
            {"name": "city", "table": "users"},
            {"name": "item_id", "table": "items", "dtype": "int64"},
            {"name": "tags", "table": "items", "kind": "multi_categorical"},
            {"name": "slot", "table": "impressions", "scope": "candidate"},
        ],
    }
)


@st.composite
def cases(draw):
    seed = draw(st.integers(0, 10**6))
    rng = np.random.default_rng(seed)
    requests, found, items = draw(st.integers(0, 6)), draw(st.integers(1, 12)), 15
    retrieved = rng.random((requests, items)).argsort(axis=1)[:, :found] + 1
    sizes = rng.integers(0, 6, requests)
    shown = [rng.choice(items + 1, size, replace=False) for size in sizes]
    splits = np.concatenate([[0], np.cumsum(sizes)])
    flat = np.concatenate([*shown, np.zeros(0, np.int64)])
    return retrieved, flat, splits, draw(st.integers(0, 14)), rng


@settings(max_examples=150, deadline=None)
@given(cases())
def test_draws_are_retrieved_unshown_and_distinct(case):
    retrieved, shown, splits, count, rng = case
    rows, drawn_splits, weights = sample_unshown(retrieved, shown, splits, count, rng)
    assert len(rows) == len(weights) == drawn_splits[-1]
    for request, found in enumerate(retrieved):
        drawn = rows[drawn_splits[request] : drawn_splits[request + 1]]
        pool = set(found) - set(shown[splits[request] : splits[request + 1]])
        assert set(drawn) <= pool and len(set(drawn)) == len(drawn) == min(count, len(pool))
        own = weights[drawn_splits[request] : drawn_splits[request + 1]]
        if len(drawn):
            np.testing.assert_allclose(own.sum(), len(pool), rtol=1e-5)  # constants are summed exactly
            assert (own == own[0]).all()


def test_weighted_sums_are_unbiased():
    rng = np.random.default_rng(0)
    retrieved = rng.random((40, 30)).argsort(axis=1)[:, :20] + 1
    sizes = rng.integers(0, 7, 40)
    shown = rng.integers(0, 31, sizes.sum())
    splits = np.concatenate([[0], np.cumsum(sizes)])
    value = rng.exponential(size=31)
    request = np.repeat(np.arange(40), sizes)
    truth = sum(value[list(set(found) - set(shown[request == number]))].sum() for number, found in enumerate(retrieved))
    estimates = []
    for _ in range(2000):
        rows, _, weights = sample_unshown(retrieved, shown, splits, 3, rng)
        estimates.append(float((value[rows] * weights).sum()))
    error = np.std(estimates) / np.sqrt(len(estimates))
    assert abs(np.mean(estimates) - truth) < 4 * error < 0.02 * truth
    # Unweighted, the drawn items say far too little.
    assert value[rows].sum() < truth / 3


def test_shown_items_are_never_drawn_even_if_all_were():
    retrieved = np.array([[1, 2, 3], [1, 2, 3]])
    rows, splits, weights = sample_unshown(
        retrieved, np.array([3, 2, 1, 9]), np.array([0, 3, 4]), 2, np.random.default_rng(0)
    )
    assert splits.tolist() == [0, 0, 2] and weights.tolist() == [1.5, 1.5] and set(rows) < {1, 2, 3}


def requests() -> pa.Table:
    lists = lambda values, kind=None: pa.array(values, pa.list_(kind) if kind else None)  # noqa: E731
    return pa.table(
        {
            "_request_id": ["a", "b", "c"],
            "city": pa.array([1, 2, 3], pa.int32()),
            "_item_id": lists([[10, 11], [], [12]], pa.int64()),
            "_item_row": lists([[1, 2], [], [3]], pa.int32()),
            "_position": lists([[0, 1], [], [0]], pa.int32()),
            "_propensity": lists([[0.5, 0.1], [], [None]], pa.float64()),
            "_label_click": lists([[1.0, 0.0], [], [1.0]], pa.float32()),
            "item_id": lists([[5, 6], [], [7]], pa.int32()),
            "tags": pa.array([[[1], []], [], [[2, 3]]], pa.list_(pa.list_(pa.int32()))),
            "slot": lists([[1, 2], [], [3]], pa.int32()),
        }
    )


CATALOGUE = pa.table(
    {
        "_item_id": [10, 11, 12, 13],
        "item_id": pa.array([5, 6, 7, 8], pa.int32()),
        "tags": pa.array([[1], [], [2, 3], [4]], pa.list_(pa.int32())),
    }
)


def test_candidates_join_at_the_end_of_their_request_and_nothing_else_changes():
    table, rows, splits = requests(), np.array([4, 4, 1]), np.array([0, 1, 2, 3])
    # A slice of a longer table: its offsets do not begin at 0.
    table = pa.concat_tables([table, table]).combine_chunks().slice(3)
    values = catalogue_values(table, CATALOGUE, rows, SPEC, encoded=True)
    joined, new = append_candidates(table, values, splits, "_item_id")
    assert joined.schema.names == table.schema.names
    assert joined.select(["_request_id", "city"]).equals(table.select(["_request_id", "city"]))
    assert new.tolist() == [False, False, True, True, False, True]
    assert joined.drop(["_request_id", "city"]).to_pydict() == {
        "_item_id": [[10, 11, 13], [13], [12, 10]],
        "_item_row": [[1, 2, 4], [4], [3, 1]],
        "_position": [[0, 1, -1], [-1], [0, -1]],
        "_propensity": [[0.5, 0.1, None], [None], [None, None]],
        "_label_click": [[1.0, 0.0, 0.0], [0.0], [1.0, 0.0]],
        "item_id": [[5, 6, 8], [8], [7, 5]],
        "tags": [[[1], [], [4]], [[4]], [[2, 3], [1]]],
        "slot": [[1, 2, 0], [0], [3, 0]],
    }


def test_raw_candidates_miss_what_only_an_impression_knows():
    names = [name.lstrip("_").replace("label_", "") for name in requests().column_names]
    raw = requests().rename_columns([*names[:7], "x", "tags", "slot"])
    raw = raw.drop(["x", "item_row"]).append_column("short_item_id", pa.array([[1], [], [2]]))
    values = catalogue_values(
        raw, CATALOGUE.rename_columns(["item_id", "x", "tags"]), np.array([4]), SPEC, encoded=False
    )
    assert {name: column.to_pylist() for name, column in values.items()} == {
        "item_id": [13],
        "position": [-1],
        "propensity": [None],
        "click": [0.0],
        "tags": [[4]],
        "slot": [None],
    }


def test_lists_that_do_not_fit_are_refused():
    table = requests().set_column(9, "slot", pa.array([[1], [], [3]], pa.list_(pa.int32())))
    values = catalogue_values(table, CATALOGUE, np.array([1]), SPEC, encoded=True)
    with pytest.raises(ValueError, match="column `slot` must hold one value a candidate"):
        append_candidates(table, values, np.array([0, 1, 1, 1]), "_item_id")

"""What counts as equal between two places."""

import numpy as np
import pytest

from serving.validation.comparison import Comparisons

SCORES = np.array([[0.9, 0.5, 0.5, 0.1]], np.float32)
IDS = np.array([[1, 2, 3, 4]], np.int64)


def compared(expected, found, signature="serving_default", tolerance=1e-6):
    comparisons = Comparisons()
    comparisons.add("a = b", signature, expected, found, tolerance)
    return {each.output: each for each in comparisons.all()}


@pytest.mark.parametrize(
    ("found", "equal", "largest"),
    [
        ([1.0, 2.0], True, 0.0),
        ([1.0, 2.0 + 2e-6], True, 2e-6),
        ([1.0, 2.0 + 4e-6], False, 4e-6),
        ([1.0, float("nan")], False, None),
        ([1.0, float("inf")], False, None),
        ([[1.0, 2.0]], False, None),
        ([1.0], False, None),
        (["x", "y"], False, None),
    ],
)
def test_numbers_are_equal_within_the_tolerance_absolute_and_relative(found, equal, largest):
    each = compared({"x": np.array([1.0, 2.0])}, {"x": found})["x"]
    assert each.equal == equal and (each.largest is None if largest is None else abs(each.largest - largest) < 1e-12)


def test_what_is_no_number_in_both_places_is_equal():
    values = np.array([np.nan, np.inf, -np.inf], np.float32)
    assert compared({"x": values}, {"x": values.tolist()})["x"].equal


def test_an_output_that_is_missing_is_not_equal_and_a_single_one_needs_no_name():
    values = np.zeros(2, np.float32)
    assert not compared({"x": values, "y": values}, {"x": [0, 0]})["y"].equal
    assert compared({"x": values}, {"": [0.0, 0.0]})["x"].equal


def test_texts_and_whole_numbers_are_compared_as_such():
    texts = np.array([b"a", "é".encode()], object)
    assert compared({"x": texts}, {"x": ["a", "é"]})["x"].equal
    assert not compared({"x": texts}, {"x": ["a", "e"]})["x"].equal
    assert not compared({"x": np.array([1, 2])}, {"x": [1, 3]})["x"].equal
    assert compared({"x": np.zeros((0, 32), np.float32)}, {"x": []})["x"].equal


@pytest.mark.parametrize(
    ("ids", "equal"),
    [
        ([[1, 2, 3, 4]], True),
        ([[1, 3, 2, 4]], True),  # they score alike
        ([[1, 2, 3, 9]], True),  # the next one may score as the last
        ([[2, 1, 3, 4]], False),
        ([[9, 2, 3, 4]], False),
    ],
)
def test_items_that_score_alike_may_change_places(ids, equal):
    found = compared({"score": SCORES, "item_id": IDS}, {"score": SCORES, "item_id": ids}, "retrieve")
    assert found["item_id"].equal == equal
    assert not compared({"score": SCORES, "item_id": IDS}, {"score": SCORES, "item_id": [[1, 3, 2, 4]]})[
        "item_id"
    ].equal


def test_requests_add_up():
    comparisons = Comparisons()
    for found in ([1.0], [1.5], [1.0]):
        comparisons.add("a = b", "s", {"x": np.ones(1)}, {"x": found})
    (each,) = comparisons.all()
    assert (each.requests, each.values, each.largest, each.equal) == (3, 3, 0.5, False)

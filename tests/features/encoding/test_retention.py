"""Terms that a window does not hold stay for a while, if they were seen often enough."""

from __future__ import annotations

import datetime

import pyarrow as pa

from features.encoding.feature_encoding import FeatureEncoding
from features.encoding.retention import Before, retained, with_terms_before
from features.spec import FeatureSpec, VocabularyRule

DAY = datetime.date(2026, 11, 10)


def _vocabulary(counts: dict[str, int]) -> pa.Table:
    return pa.table({"term": pa.array(list(counts), pa.string()), "count": pa.array(list(counts.values()), pa.int64())})


def _days(rule: VocabularyRule, windows: list[dict[str, int]]) -> pa.Table:
    found = None
    for number, counts in enumerate(windows):
        found = retained(_vocabulary(counts), found, rule, DAY + datetime.timedelta(days=number))
    return found


def test_a_term_stays_for_its_time_and_goes_after_it():
    rule = VocabularyRule(ttl_days=2)
    windows = [{"a": 5, "b": 3}, {"b": 4}, {"b": 4}]
    assert _days(rule, windows)["term"].to_pylist() == ["b", "a"]
    assert _days(rule, windows)["count"].to_pylist() == [4, 0]
    assert _days(rule, [*windows, {"b": 4}])["term"].to_pylist() == ["b"]


def test_a_term_that_comes_back_has_its_time_again():
    rule = VocabularyRule(ttl_days=1)
    windows = [{"a": 5, "b": 3}, {"b": 4}, {"a": 1, "b": 4}, {"b": 4}]
    assert _days(rule, windows)["term"].to_pylist() == ["b", "a"]
    assert _days(rule, windows)["most_seen"].to_pylist() == [4, 5]


def test_a_term_seen_too_seldom_goes_at_once():
    rule = VocabularyRule(ttl_days=9, ttl_min_count=3)
    assert _days(rule, [{"a": 2, "b": 3, "c": 9}, {"c": 1}])["term"].to_pylist() == ["c", "b"]


def test_the_room_is_that_of_the_vocabulary_and_new_terms_come_first():
    rule = VocabularyRule(ttl_days=9, max_size=3)
    assert _days(rule, [{"a": 2, "b": 3, "c": 9}, {"d": 2, "e": 1}])["term"].to_pylist() == ["d", "e", "c"]


def test_an_encoding_keeps_terms_through_its_files(tmp_path):
    spec = FeatureSpec.model_validate(
        {
            "name": "kept",
            "features": [
                {"name": "shop", "table": "items", "vocabulary": {"ttl_days": 3}},
                {"name": "brand", "table": "items"},
            ],
        }
    )

    def fitted(terms: dict[str, int]) -> FeatureEncoding:
        return FeatureEncoding(spec, {"shop": _vocabulary(terms), "brand": _vocabulary(terms)}, {}, {})

    first = with_terms_before(fitted({"a": 2, "b": 1}), Before(fitted({}), DAY))
    first.save(tmp_path)
    later = DAY + datetime.timedelta(days=2)
    second = with_terms_before(fitted({"c": 7, "b": 2}), Before(FeatureEncoding.load(tmp_path), later))
    assert second.terms("shop").to_pylist() == ["c", "b", "a"]
    assert second.terms("brand").to_pylist() == ["c", "b"]
    assert second.counts("shop").tolist() == [7, 2, 0]
    assert second.encode("shop", pa.array(["a", "z"])).to_pylist() == [4, 1]

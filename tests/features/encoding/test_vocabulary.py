import itertools

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.encoding import fit
from features.encoding.fit import fit_encoding
from features.encoding.states import MomentsState, QuantileState, TermCounts
from features.spec import FeatureSpec, VocabularyRule

SPEC = FeatureSpec.model_validate(
    {
        "name": "test",
        "features": [
            {"name": "city", "table": "users", "vocabulary": {"min_count": 2}},
            {"name": "item_id", "table": "items", "dtype": "int64", "vocabulary": {"max_size": 3}},
            {"name": "tags", "table": "items", "kind": "multi_categorical"},
            {"name": "price", "table": "items", "kind": "numeric", "transform": "standardize"},
            {
                "name": "rank",
                "table": "items",
                "kind": "numeric",
                "dtype": "int64",
                "transform": "bucketize",
                "num_buckets": 4,
            },
        ],
    }
)

TYPES = {
    "city": pa.string(),
    "item_id": pa.list_(pa.int64()),
    "tags": pa.list_(pa.list_(pa.string())),
    "price": pa.list_(pa.float64()),
    "rank": pa.list_(pa.int64()),
}


def _table(rows):
    columns = list(zip(*rows, strict=True)) if rows else [[]] * len(TYPES)
    return pa.table({name: pa.array(list(column), TYPES[name]) for (name, column) in zip(TYPES, columns, strict=True)})


ROWS = [
    ("Zürich", [7, 8], [["a", "b"], None], [1.0, 2.0], [1, 2]),
    ("Bern", [7, 9], [["b"], [None, ""]], [3.0, None], [3, 4]),
    ("Zürich", [5], [["é"]], [4.0], [5]),
    (None, [7, 8, 5], [["b"], [], None], [5.0, float("nan"), 6.0], [6, 7, 8]),
]


def _fit(tmp_path, tables, eval_table=None, name="encoding"):
    examples = tmp_path / f"{name}-examples"
    (examples / "Split-train").mkdir(parents=True)
    for i, table in enumerate(tables):
        pq.write_table(table, examples / "Split-train" / f"requests-{i:05d}-of-{len(tables):05d}.parquet")
    if eval_table is not None:
        (examples / "Split-eval").mkdir()
        pq.write_table(eval_table, examples / "Split-eval" / "requests-00000-of-00001.parquet")
    return fit_encoding(examples, SPEC, tmp_path / name)


def test_vocabularies_moments_and_boundaries(tmp_path):
    encoding = _fit(tmp_path, [_table(ROWS[:2]), _table(ROWS[2:])])
    assert encoding.terms("city").to_pylist() == ["Zürich"]  # Bern was seen once, min_count is 2
    assert encoding.terms("item_id").to_pylist() == [7, 5, 8]  # by count, ties by term, 9 is beyond max_size
    assert encoding.counts("item_id").tolist() == [3, 2, 2]
    assert encoding.terms("tags").to_pylist() == ["b", "a", "é"]
    moments = encoding.moments("price")
    prices = np.array([1.0, 2, 3, 4, 5, 6])
    assert (moments.count, moments.missing, moments.minimum, moments.maximum) == (6, 2, 1.0, 6.0)
    np.testing.assert_allclose([moments.mean, moments.variance], [prices.mean(), prices.var()], rtol=1e-14)
    assert encoding.boundaries("rank").tolist() == [3, 5, 7]
    ids = encoding.encode("rank", pa.array(range(1, 9))).to_pylist()
    assert ids == [1, 1, 2, 2, 3, 3, 4, 4]


def test_values_of_other_splits_are_out_of_vocabulary(tmp_path):
    """Nothing of the eval split is learnt: neither its terms nor its numbers."""
    unseen = _table([("Genf", [99], [["only-eval"]], [1e6], [1000])] * 5)
    encoding = _fit(tmp_path, [_table(ROWS)], unseen, "with")
    without = _fit(tmp_path, [_table(ROWS)], None, "without")
    assert encoding.encode("city", pa.array(["Genf"])).to_pylist() == [1]
    assert encoding.encode("item_id", pa.array([99])).to_pylist() == [1]
    assert encoding.encode("tags", pa.array([["only-eval"]])).to_pylist() == [[1]]
    for file in ("feature_encoding.json", "vocabularies/city.parquet", "vocabularies/tags.parquet"):
        assert (tmp_path / "with" / file).read_bytes() == (tmp_path / "without" / file).read_bytes()
    assert without.moments("price").maximum == 6.0


@pytest.mark.parametrize("cuts", [(), (1,), (2,), (1, 2, 3), (0, 4)])
def test_how_the_rows_are_split_into_files_changes_nothing(tmp_path, cuts):
    bounds = [0, *cuts, len(ROWS)]
    split = _fit(tmp_path, [_table(ROWS[a:b]) for a, b in itertools.pairwise(bounds)], name="split")
    whole = _fit(tmp_path, [_table(ROWS)], name="whole")
    for name in ("city", "item_id", "tags"):
        assert split.terms(name).equals(whole.terms(name))
        assert split.counts(name).tolist() == whole.counts(name).tolist()
    assert split.boundaries("rank").tolist() == whole.boundaries("rank").tolist()
    a, b = split.moments("price"), whole.moments("price")
    assert (a.count, a.missing, a.minimum, a.maximum) == (b.count, b.missing, b.minimum, b.maximum)
    np.testing.assert_allclose([a.mean, a.variance], [b.mean, b.variance], rtol=1e-13)


@pytest.mark.parametrize("group_bytes", [1 << 9, 1 << 12])
def test_terms_in_groups_give_the_same_bytes(tmp_path, monkeypatch, group_bytes):
    rng = np.random.default_rng(0)
    tables = [
        _table(
            [(f"c{a}", [int(b)], [[f"t{a + b}", "x"]], [float(a)], [int(b)]) for a, b in rng.integers(0, 40, (300, 2))]
        )
        for _ in range(3)
    ]
    _fit(tmp_path, tables, name="whole")
    monkeypatch.setattr(fit, "_GROUP_BYTES", group_bytes)
    assert sum(path.stat().st_size for path in (tmp_path / "whole-examples").rglob("*.parquet")) > 2 * group_bytes
    _fit(tmp_path, tables, name="grouped")
    written = sorted(path.relative_to(tmp_path / "whole") for path in (tmp_path / "whole").rglob("*.*"))
    assert len(written) == 4
    for file in written:
        assert (tmp_path / "grouped" / file).read_bytes() == (tmp_path / "whole" / file).read_bytes()


def test_the_order_of_rows_changes_no_vocabulary(tmp_path):
    forward, backward = _fit(tmp_path, [_table(ROWS)], name="a"), _fit(tmp_path, [_table(ROWS[::-1])], name="b")
    assert all(forward.terms(name).equals(backward.terms(name)) for name in ("city", "item_id", "tags"))


def test_a_train_split_without_rows_gives_empty_vocabularies(tmp_path):
    encoding = _fit(tmp_path, [_table([])])
    assert encoding.vocabulary_size("city") == 2
    assert encoding.encode("city", pa.array(["x", None])).to_pylist() == [1, 0]
    assert encoding.encode("rank", pa.array([5])).to_pylist() == [1]
    assert encoding.encode("price", pa.array([5.0])).to_pylist() == [0.0]


def test_what_is_absent_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="Split-train"):
        fit_encoding(tmp_path, SPEC, tmp_path)
    with pytest.raises(Exception, match="no column for the features tags"):
        _fit(tmp_path, [_table(ROWS).drop(["tags"])])


@given(st.lists(st.lists(st.integers(0, 20)), min_size=1), st.integers(1, 3), st.none() | st.integers(1, 5))
def test_counts_equal_a_plain_count(batches, min_count, max_size):
    states = []
    for batch in batches:
        states.append(TermCounts())
        states[-1].update(pa.array(batch, pa.int64()))
        states[-1].update(pa.array(batch, pa.int64()).dictionary_encode())
    total = states[0]
    for state in states[1:]:
        total.merge(state)
    values, counts = np.unique(np.concatenate([np.array(batch, np.int64) for batch in batches]), return_counts=True)
    expected = sorted(zip((-2 * counts).tolist(), values.tolist(), strict=True))
    expected = [(value, -count) for count, value in expected if -count >= min_count][:max_size]
    table = total.cut(VocabularyRule(min_count=min_count, max_size=max_size))
    assert list(zip(table["term"].to_pylist(), table["count"].to_pylist(), strict=True)) == expected


def test_a_term_is_in_the_same_group_of_every_state():
    counts, again = TermCounts(), TermCounts()
    counts.update(pa.array([f"t{i % 500}" for i in range(900)]))
    again.update(pa.array([f"t{i}" for i in range(300, 800)]).dictionary_encode())
    groups = [
        [set(part.cut(VocabularyRule())["term"].to_pylist()) for part in state.split(4)] for state in (counts, again)
    ]
    assert sum(map(len, groups[0])) == len(set().union(*groups[0])) == 500
    for number, (one, other) in enumerate(zip(*groups, strict=True)):
        assert 80 < len(one) < 170
        assert not any((one | other) & (groups[0][i] | groups[1][i]) for i in range(4) if i != number)


def test_counts_stay_compact():
    counts = TermCounts()
    for _ in range(40):
        counts.update(pa.array(np.arange(10_000)))
    assert sum(table.num_rows for table in counts._tables) <= 1 << 16
    assert set(counts.cut(VocabularyRule())["count"].to_pylist()) == {40}


_NUMBERS = st.lists(st.floats(-1e6, 1e6) | st.just(float("nan")))


@given(_NUMBERS, _NUMBERS, _NUMBERS)
def test_moments_merge_in_any_grouping(a, b, c):
    def state(*parts):
        result = MomentsState()
        for part in parts:
            if isinstance(part, MomentsState):
                result.merge(part)
            else:
                result.update(np.array(part, np.float64))
        return result

    whole = state(a + b + c).result()
    for other in (state(state(a, b), c), state(a, state(b, c)), state(c, a, b)):
        result = other.result()
        assert (result.count, result.missing, result.minimum, result.maximum) == (
            whole.count,
            whole.missing,
            whole.minimum,
            whole.maximum,
        )
        np.testing.assert_allclose(result.mean, whole.mean, atol=1e-8)
        np.testing.assert_allclose(result.variance, whole.variance, rtol=1e-8, atol=1e-3)


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 2**32 - 1), st.integers(2, 20), st.lists(st.integers(0, 3000), max_size=4))
def test_quantiles_do_not_depend_on_the_batches(seed, buckets, cuts):
    x = np.random.default_rng(seed).normal(size=3000) * 10.0 ** np.random.default_rng(seed).integers(-3, 6, 3000)
    for limit in (100, 1 << 16):
        whole, merged = QuantileState(), QuantileState()
        whole.MAX_EXACT = merged.MAX_EXACT = limit
        whole.update(x)
        for part in np.split(x, sorted(cuts)):
            state = QuantileState()
            state.MAX_EXACT = limit
            state.update(part)
            merged.merge(state)
        assert merged.boundaries(buckets).tolist() == whole.boundaries(buckets).tolist()
        exact = np.sort(x)[np.arange(1, buckets) * 3000 // buckets]
        if limit == 100:
            assert not whole._exact
            np.testing.assert_allclose(whole.boundaries(buckets), exact, rtol=2.0**-10)
        else:
            assert whole.boundaries(buckets).tolist() == exact.tolist()


def test_buckets_hold_equal_shares():
    state = QuantileState()
    x = np.random.default_rng(0).lognormal(size=200_000)
    state.update(x)
    shares = np.bincount(np.searchsorted(state.boundaries(10), x, side="right")) / len(x)
    np.testing.assert_allclose(shares, 0.1, atol=1e-3)

"""Windows written out beside raw requests, against slices of Python lists."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.histories.windows import attach_histories, read_behaviors
from features.spec import HistorySpec

HISTORIES = st.lists(st.lists(st.integers(0, 99), max_size=12), min_size=1, max_size=4)


def tables(histories, requests):
    users = [user for user, _ in requests]
    ends = [end for _, end in requests]
    asked = pa.table({"user_index": pa.array(users, pa.int32()), "history_end": pa.array(ends, pa.int64())})
    columns = {"item_id": histories, "brand": [[None if i % 5 == 0 else f"b{i}" for i in h] for h in histories]}
    columns["timestamp"] = [[10 * place for place in range(len(h))] for h in histories]
    types = {name: pa.list_(pa.string() if name == "brand" else pa.int64()) for name in columns}
    return asked, pa.table({name: pa.array(values, types[name]) for name, values in columns.items()})


@settings(deadline=None)
@given(histories=HISTORIES, short=st.integers(1, 5), long=st.integers(0, 6), skipped=st.integers(0, 2), data=st.data())
def test_windows_are_the_last_behaviours_and_those_before(histories, short, long, skipped, data):
    user = st.integers(-1, len(histories) - 1)
    users = data.draw(st.lists(user, max_size=6))
    requests = [(u, 0 if u < 0 else data.draw(st.integers(0, len(histories[u])))) for u in users]
    # Behaviours that are a slice of a longer table: their offsets do not start at 0.
    asked, behaviors = tables([[7] * 3] * skipped + histories, requests)
    spec = HistorySpec(features=("item_id", "brand"), short_length=short, long_length=long)
    found = attach_histories(asked, behaviors.slice(skipped), spec).to_pylist()
    for (u, end), row in zip(requests, found, strict=True):
        past = histories[u][:end] if u >= 0 else []
        middle = max(0, len(past) - short)
        windows = {"short": past[middle:], "long": past[max(0, middle - long) : middle]}
        for name, expected in windows.items():
            assert row[f"{name}_item_id"] == expected
            first = middle if name == "short" else max(0, middle - long)
            assert row[f"{name}_timestamp"] == [10 * place for place in range(first, first + len(expected))]
            assert row[f"{name}_brand"] == [None if i % 5 == 0 else f"b{i}" for i in expected]


def test_behaviours_of_another_ingestion_are_named(tmp_path):
    spec = HistorySpec()
    _, behaviors = tables([[1, 2]], [])
    pq.write_table(behaviors, tmp_path / "behaviors-00000-of-00002.parquet")
    found = read_behaviors(tmp_path, "Split-test/requests-00000-of-00002.parquet", spec)
    assert found.column_names == ["item_id", "timestamp"]
    with pytest.raises(FileNotFoundError, match="behaviors-00001-of-00002.parquet: no behaviours for the requests"):
        read_behaviors(tmp_path, "Split-test/requests-00001-of-00002.parquet", spec)

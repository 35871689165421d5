"""The arithmetic of the data preparation benchmark, and the flat rows that it gives to the standard path."""

import pyarrow as pa
import pytest

from benchmarks.throughput.data_prep import report
from benchmarks.throughput.standard_path import SPEC, flatten
from features.spec import load_spec


def _times(seconds: float) -> dict[str, float]:
    return {"seconds": seconds, "cpu_seconds": 2 * seconds}


def _standard(rows: int) -> dict:
    """Each component takes 10 s, and a row 1, 2, 3 or 4 ms."""
    names = ("ImportExampleGen", "ParquetExampleGen", "StatisticsGen", "Transform")
    return {
        "rows": rows,
        "components": {name: _times(10 + (index + 1) * rows / 1000) for index, name in enumerate(names)},
    }


def test_rates_ratios_and_memory_growth():
    ours = {"components": {"LogIngest": _times(3), "Vocabulary": _times(1)}, "peak_mb": 300.0}
    big = {"components": {"LogIngest": _times(20)}, "peak_mb": 450.0}
    facts = report(100_000, 400_000, ours, big, {**_standard(1_000), "small": _standard(100)})
    assert facts["clickmill"]["impressions_per_second"] == pytest.approx(25_000)
    assert facts["clickmill"]["impressions_per_cpu_second"] == pytest.approx(12_500)
    # 30 s and (2 + 3 + 4) ms for each of 100,000 rows, against 4 s.
    assert facts["ratio"] == facts["ratio_cpu"] == pytest.approx(930 / 4, rel=1e-3)
    assert facts["ratio_from_records"] == pytest.approx(830 / 4, rel=1e-3)
    assert facts["ratio_as_measured"] == pytest.approx(25_000 / (1_000 / 39), rel=1e-3)
    assert facts["memory"]["growth"] == pytest.approx(1.5)


def test_flat_rows_hold_features_and_label_of_each_impression():
    spec = load_spec(SPEC)
    types = {"string": pa.string(), "int64": pa.int64(), "float64": pa.float64()}
    columns = {}
    for feature in spec.features:
        value = {"string": "a", "int64": 1, "float64": 2.5}[feature.dtype]
        kind = pa.list_(types[feature.dtype]) if feature.multi_valued else types[feature.dtype]
        value = [value, value] if feature.multi_valued else value
        if feature.scope == "request":
            columns[feature.name] = pa.array([value, None], kind)
        else:
            columns[feature.name] = pa.array([[value], [None, value]], pa.list_(kind))
    columns[spec.label] = pa.array([[1.0], [0.0, 1.0]], pa.list_(pa.float32()))
    flat = flatten(pa.table(columns)).to_pydict()
    assert set(flat) == {feature.name for feature in spec.features} | {spec.label}
    assert flat["click"] == [1, 0, 1]
    assert flat["age_band"] == ["a", None, None]
    assert flat["item_id"] == [1, None, 1]
    assert flat["title"] == [["a", "a"], None, ["a", "a"]]

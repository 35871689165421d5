"""What becomes of values of every format, and which names are refused."""

from __future__ import annotations

import datetime
import decimal
import zoneinfo

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.config import SpecError, nearest, parse_model, read_yaml
from features.errors import InputError
from features.ingest.checking.columns import convert
from features.ingest.checking.plan import check_names
from features.ingest.checking.timestamps import to_milliseconds
from features.ingest.config import IngestConfig
from features.spec import FeatureSpec
from tests.builders.ingest_case import SPEC

D = decimal.Decimal


@pytest.mark.parametrize(
    ("values", "target", "expected", "bad"),
    [
        (["1", "+2", "x", None, "", " 5 ", "1.0"], "int64", [1, 2, None, None, None, 5, 1], [2]),
        (["7.0", "7.5", "True", "false", "NaN", "inf"], "int64", [7, None, 1, 0, None, None], [1, 5]),
        ([str(2**63 - 1), str(2**63), str(-(2**63))], "int64", [2**63 - 1, None, -(2**63)], [1]),
        (["1700000000000.0", "9007199254740992.0", "1e3"], "int64", [1_700_000_000_000, None, 1000], [1]),
        ([1.0, 1.5, None, float("inf"), float("nan"), 2.0**53], "int64", [1, None, None, None, None, None], [1, 3, 5]),
        ([D("12"), D("12345678901234567890")], "int64", [12, None], [1]),
        ([D("1.50"), None], "float64", [1.5, None], []),
        (["1e3", ".5", "nan", None, "-inf", "True"], "float64", [1000.0, 0.5, None, None, float("-inf"), 1.0], []),
        ([1.0, float("nan"), None], "float64", [1.0, None, None], []),
        ([b"a", b"\xff", None], "string", ["a", None, None], [1]),
        ([1, None], "string", ["1", None], []),
        ([7.0, 0.5, 1e15, 2.0**53, float("nan")], "string", ["7", "0.5", "1" + "0" * 15, None, None], [3]),
        ([D("12345678901234567890"), None], "string", ["12345678901234567890", None], []),
        ([datetime.date(2026, 11, 25)], "string", ["2026-11-25"], []),
        ([datetime.timedelta(1), None], "string", [None, None], [0]),
        ([datetime.timedelta(1), None], "float64", [None, None], [0]),
        (["a|b", None, "c"], "list<string>", [["a", "b"], None, ["c"]], []),
        ([5, None], "list<string>", [["5"], None], []),
        ([["1", "x"], ["2"], None, []], "list<int64>", [[1, None], [2], None, []], [0]),
        ([[1.0, 2.5], None, [None]], "list<string>", [["1", "2.5"], None, [None]], []),
        ([{"a": 1}, None], "string", [None, None], [0]),
        ([{"a": 1}, None], "list<string>", [None, None], [0]),
        ([None, None], "list<int64>", [None, None], []),
    ],
)
def test_conversions(values, target, expected, bad):
    array, misfit = convert(pa.array(values), target)
    assert array.to_pylist() == expected and np.flatnonzero(misfit).tolist() == bad


def test_conversions_of_rare_types():
    fixed = pa.array([[1, 2], None, [3, 4]], pa.list_(pa.int64(), 2))
    assert convert(fixed, "list<string>")[0].to_pylist() == [["1", "2"], None, ["3", "4"]]
    half = pa.array(np.array([7.0, 0.5], np.float16))
    assert convert(half, "string")[0].to_pylist() == ["7", "0.5"]
    assert convert(pa.array(["a", None]).dictionary_encode(), "string")[0].to_pylist() == ["a", None]
    assert convert(pa.array([1, 2]).dictionary_encode(), "int64")[0].to_pylist() == [1, 2]
    unsigned = convert(pa.array([1, 2**63], pa.uint64()), "int64")
    assert unsigned[0].to_pylist() == [1, None] and unsigned[1].tolist() == [False, True]


def test_conversion_of_slices_rebases_offsets():
    lists = pa.array([[1], [2, 3], None, [4]]).slice(1)
    assert convert(lists, "list<string>")[0].to_pylist() == [["2", "3"], None, ["4"]]


@given(st.lists(st.integers(-(2**63), 2**63 - 1) | st.none(), max_size=20))
def test_integers_of_text_are_themselves(numbers):
    texts = pa.array([None if number is None else str(number) for number in numbers], pa.string())
    array, bad = convert(texts, "int64")
    assert array.to_pylist() == numbers and not bad.any()
    assert convert(pa.array(numbers, pa.int64()), "string")[0].to_pylist() == texts.to_pylist()


@given(st.lists(st.floats() | st.integers(-(2**60), 2**60).map(float), min_size=1, max_size=20))
def test_texts_of_floats_are_read_again_as_the_same_floats(numbers):
    texts, bad = convert(pa.array(numbers, pa.float64()), "string")
    for number, text, misfit in zip(numbers, texts.to_pylist(), bad, strict=True):
        assert misfit == (abs(number) == float("inf") or (number == number // 1 and abs(number) >= 2**53))
        assert text is None or (float(text) == number and ("." in text or "e" in text) == (number != number // 1))


INSTANT = 1_700_000_000_123  # 2023-11-14T22:13:20.123Z


@pytest.mark.parametrize(
    ("values", "unit"),
    [
        (pa.array([INSTANT * 1000 + 456], pa.timestamp("us", tz="Europe/Oslo")), "ms"),
        (pa.array([INSTANT], pa.timestamp("ms")), "ms"),
        (pa.array([str(INSTANT)]), "ms"),
        (pa.array([f"{INSTANT}.0"]), "ms"),
        (pa.array([float(INSTANT)]), "ms"),
        (pa.array([INSTANT / 1000]), "s"),
        (pa.array(["1700000000.123"]), "s"),
        (pa.array([INSTANT * 1000 + 999]), "us"),
        (pa.array([INSTANT * 1_000_000]), "ns"),
        (pa.array(["2023-11-14T22:13:20.123Z"]), "ms"),
        (pa.array(["2023-11-14 23:13:20.123999+01:00"]), "ms"),
        (pa.array(["2023-11-14T22:13:20,123+0000", "2023-02-30T00:00:00Z"]), "ms"),
    ],
)
def test_timestamps_are_utc_milliseconds(values, unit):
    times, bad, no_zone = to_milliseconds(values, unit)
    assert times.to_pylist()[0] == INSTANT and not bad[0] and not no_zone.any()
    assert bad[1:].all(), "a day that does not exist spoils only its own row"


def test_dates_begin_at_midnight_utc():
    midnight = 1_795_564_800_000
    assert to_milliseconds(pa.array([datetime.date(2026, 11, 25)]))[0].to_pylist() == [midnight]
    assert to_milliseconds(pa.array(["2026-11-25"]), timezone="Europe/Oslo")[0].to_pylist() == [midnight]


def test_times_without_a_zone_need_one():
    texts = pa.array(["2026-07-01T10:00", "2026-11-25 10:00:00", "1700000000000", None])
    times, bad, no_zone = to_milliseconds(texts)
    assert times.to_pylist() == [None, None, 1_700_000_000_000, None] and no_zone.tolist() == [True, True, False, False]
    assert bad.tolist() == no_zone.tolist()
    times, bad, _ = to_milliseconds(texts, timezone="Europe/Oslo")
    hours = [time and time // 3_600_000 % 24 for time in times.to_pylist()]
    assert hours == [8, 9, 22, None] and not bad.any()


@given(st.lists(st.datetimes(datetime.datetime(1990, 1, 1), datetime.datetime(2090, 1, 1)), max_size=8))
def test_local_times_are_those_of_python(instants):
    zone = zoneinfo.ZoneInfo("America/St_Johns")
    times = to_milliseconds(pa.array([each.isoformat() for each in instants], pa.string()), timezone=zone.key)[0]
    expected = [
        each.replace(microsecond=each.microsecond // 1000 * 1000, tzinfo=zone, fold=0).timestamp() for each in instants
    ]
    assert times.to_pylist() == [round(each * 1000) for each in expected]


@pytest.mark.parametrize("name", ["user_index", "history_end", "position", "propensity", "split", "label"])
def test_reserved_names_are_refused(name):
    spec = {"name": "x", "features": [{"name": name, "table": "impressions"}]}
    with pytest.raises(SpecError, match=f"`{name}`.*column of that name.*another `name`"):
        parse_model(spec, FeatureSpec, "x.yaml")
    with pytest.raises(SpecError, match=f"`{name}` is a column of the examples"):
        parse_model(SPEC.model_dump() | {"label": name}, FeatureSpec, "x.yaml")


def test_keys_keep_their_scope():
    for feature, scope in (("item_id", "candidate"), ("user_id", "request")):
        other = {"candidate": "request", "request": "candidate"}[scope]
        entry = {"name": feature, "table": "impressions", "scope": other}
        with pytest.raises(SpecError, match=f"`{feature}` is a key .*`scope` must be {scope}"):
            parse_model({"name": "x", "features": [entry]}, FeatureSpec, "x.yaml")


def test_a_feature_that_reads_the_label_is_refused():
    spec = SPEC.model_dump()
    spec["features"] = [*spec["features"], {"name": "hit", "column": "click", "table": "impressions"}]
    with pytest.raises(SpecError, match="the label `click` is also the feature `hit`"):
        parse_model(spec, FeatureSpec, "x.yaml")
    config = IngestConfig.model_validate(
        {"tables": {"impressions": "x"}, "labels": [{"name": "buy", "column": "shelf"}]}
    )
    with pytest.raises(InputError, match="feature `shelf` reads `shelf`, which holds the label `buy`"):
        check_names(config, SPEC)


@pytest.mark.parametrize(
    ("label", "told"),
    [
        ("city", "the label `city` is also a feature"),
        ("history_end", "the label `history_end` is also a column of the examples"),
        ({"name": "price", "value": "x"}, "the label `price` is also a feature"),
        ("click_value", "the label `click_value` is also a label"),
    ],
)
def test_labels_that_meet_another_name_are_refused(label, told):
    labels = [{"name": "click", "value": "dwell"}, label]
    config = IngestConfig.model_validate({"tables": {"impressions": "x", "clicks": "y"}, "labels": labels})
    with pytest.raises(InputError, match=told):
        check_names(config, SPEC)


def test_case_alone_is_near():
    assert nearest("CLICK", ["click", "order"]) == " Did you mean `click`?"
    assert nearest("Request_ID", ["request_id", "x"]) == " Did you mean `request_id`?"


def test_unusable_yaml_is_named(tmp_path):
    (tmp_path / "latin.yaml").write_bytes("name: Łódź".encode("utf-16"))
    with pytest.raises(SpecError, match="latin.yaml: not UTF-8 text .*save the file as UTF-8"):
        read_yaml(tmp_path / "latin.yaml")
    (tmp_path / "deep.yaml").write_text("a: " + "[" * 20_000)
    with pytest.raises(SpecError, match="deep.yaml: .*nested too deep"):
        read_yaml(tmp_path / "deep.yaml")


def test_windows_are_finite():
    for hours in (1e300, float("inf"), float("nan"), 0):
        with pytest.raises(ValueError, match="attribution_window_hours"):
            IngestConfig.model_validate({"tables": {"impressions": "x"}, "attribution_window_hours": hours})


def test_an_unknown_zone_is_named():
    with pytest.raises(SpecError, match=r"`timezone`: .*no time zone.*Received: 'Oslo'"):
        parse_model(SPEC.model_dump() | {"timezone": "Oslo"}, FeatureSpec, "x.yaml")

"""What benchmarks leave: runs are found by their settings, records in git are short and make the results page."""

import json

import pytest

from benchmarks import records, results_page
from benchmarks.__main__ import BENCHMARKS, load, parse
from benchmarks.records import RESULTS, Sweep, spread
from tests.house.structure import ROOT

MAX_LINES, MAX_LINES_IN_ALL = 200, 3000


def test_a_finished_run_is_not_measured_again(tmp_path):
    sweep, measured = Sweep("example", tmp_path / "runs"), []

    def measure(wanted):
        measured.append(wanted["seed"])
        return {"test": {"auc": 0.5 + wanted["seed"]}}

    for seed in (1, 2, 1):
        sweep.do({"seed": seed, "model": {"units": (8, 4)}}, measure)
    assert measured == [1, 2] and [run["test"]["auc"] for run in sweep.runs] == [1.5, 2.5]
    sweep.do({"seed": 1, "model": {"units": (8, 5)}}, measure)
    assert measured == [1, 2, 1], "other settings are another run"


def test_a_newer_run_of_the_same_settings_takes_the_place(tmp_path):
    sweep = Sweep("example", tmp_path)
    for auc in (0.5, float("nan")):
        sweep.add({"seed": 1}, {"seed": 1, "auc": auc, "drops": [float("nan"), 1.0]})
    saved = json.loads((tmp_path / "example.json").read_text(), parse_constant=pytest.fail)
    assert saved["runs"] == [{"seed": 1, "auc": None, "drops": [None, 1.0]}]


def test_spreads():
    assert spread([1.0, 3.0]) == [2.0, pytest.approx(2**0.5)]
    assert spread([1.0]) == [1.0, None] and spread([1.0, None]) == [None, None]
    assert records.spreads([{"a": {"b": 1.0}, "c": [1]}, {"a": {"b": 3.0}, "c": [2]}]) == {
        "a": {"b": spread([1.0, 3.0])}
    }
    assert records.show(spread([0.5, 0.5])) == "0.5000 ± 0.0000" and records.show([0.5, None]) == "0.5000"


def test_a_record_in_git_keeps_the_rows_whose_runs_are_not_at_hand(tmp_path, monkeypatch):
    monkeypatch.setattr(records, "RESULTS", tmp_path)
    rows = {"simulated": {"a": {"seeds": [1, 2], "auc": [0.123456789123, None], "old": 1}, "b": {"seeds": [1]}}}
    records.write("rankers", "example", {"summary": rows})
    path = records.write("rankers", "example", {"summary": {"simulated": {"a": {"seeds": [1], "auc": [0.5, None]}}}})
    found = records.read("rankers", "example")["summary"]["simulated"]
    assert found == {"a": {"seeds": [1], "auc": [0.5, None]}, "b": {"seeds": [1]}}
    assert len(path.read_text().splitlines()) == 1, "what fits on a line stands on one"


def test_records_in_git_are_short():
    lengths = {path.name: len(path.read_text().splitlines()) for path in RESULTS.rglob("*.json")}
    assert {name: lines for name, lines in lengths.items() if lines >= MAX_LINES} == {}
    assert sum(lengths.values()) < MAX_LINES_IN_ALL and len(lengths) > 10


@pytest.mark.parametrize("name", BENCHMARKS)
def test_a_benchmark_is_a_module_with_a_row(name):
    module = load(name)
    assert module.__doc__ and callable(module.run) and callable(module.figures)
    options = parse(name, [])
    for option, (default, *_) in module.OPTIONS.items():
        assert getattr(options, option) == default, "`None` and empty defaults have no type"


def test_options_are_read():
    assert parse("ssl", ["--fraction", "0.5", "1", "--methods", "cfm"]).fraction == [0.5, 1.0]
    assert parse("aw_moe", ["--tune"]).tune and parse("sdim", []).threads == 1
    with pytest.raises(SystemExit):
        parse("ssl", ["--methods", "cmf"])


def test_the_results_page_holds_the_figures_of_the_records():
    page = results_page.page({name: load(name) for name in BENCHMARKS})
    assert results_page.PAGE.read_text(encoding="utf-8") == page, "run: python -m benchmarks results"
    assert page.count("\n| ") > 80 and "impressions/s" in page


def test_a_record_that_is_not_shown_belongs_to_a_benchmark():
    names = {path.stem.removesuffix("_compared") for path in RESULTS.rglob("*.json")}
    assert names <= set(BENCHMARKS)
    folders = {path.stem: path.parent.name for path in RESULTS.rglob("*.json") if path.stem in BENCHMARKS}
    assert all(BENCHMARKS[name] == folder for name, folder in folders.items())
    assert (ROOT / "docs" / "results.md").exists()

"""`clickmill logs check` and `spec init`: what a run would lose, in a sample and in the whole."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from features.ingest.config import IngestConfig, LogTables, SplitConfig
from features.log_contract import Reason
from pipeline.cli.app import app
from pipeline.own_logs.check_logs import FIXES, check_logs
from tests.builders.ingest_case import HOUR, ITEMS, SPEC, USERS, T, clicks, impressions, write

ROWS = 600


@pytest.fixture(scope="module")
def log(tmp_path_factory):
    """Requests of one hour each, with a bad row of each of some kinds."""
    folder = tmp_path_factory.mktemp("log")
    rows = [(f"r{i}", T + i * HOUR, ("ann", "bob", "cid")[i % 3], 1 + i % 4) for i in range(ROWS)]
    rows[10] = (None, T, "ann", 1)
    rows[20] = ("r20", 1_700_000_000, "ann", 1)
    clicked = [(f"r{i}", 1 + i % 4, T + i * HOUR + 5) for i in range(0, ROWS, 3)] + [("nowhere", 1, T)]
    for name, table in {
        "impressions": impressions(rows),
        "clicks": clicks(clicked),
        "items": ITEMS,
        "users": USERS,
    }.items():
        write(table, folder / name)
    return folder


def config_of(folder) -> IngestConfig:
    tables = LogTables.model_validate(
        {name: str(folder / name) for name in ("impressions", "clicks", "items", "users")}
    )
    return IngestConfig(
        tables=tables, attribution_window_hours=1.0, split=SplitConfig(eval_fraction=0.1, test_fraction=0)
    )


def test_the_whole_is_what_a_run_would_count(log, tmp_path):
    found = check_logs(config_of(log), SPEC)
    assert found.whole and found.verdict is None
    by_reason = {(each.table, each.reason): each for each in found.findings}
    assert by_reason["impressions", "null_request_id"].rows == by_reason["clicks", "unknown_request"].rows == 1
    seconds = by_reason["impressions", "bad_timestamp"]
    assert seconds.where.endswith("part-0.parquet:21") and "`timestamp`=1700000000" in seconds.example
    assert "timestamp_unit" in seconds.fix
    assert ("impressions", "immature") in by_reason
    assert found.counts.tables["impressions"].rows_in == ROWS


def test_a_sample_says_nothing_of_what_it_cannot_know(log):
    found = check_logs(config_of(log), SPEC, rows=100)
    reasons = {each.reason for each in found.findings}
    assert {"null_request_id", "bad_timestamp"} <= reasons and "unknown_request" not in reasons
    assert found.verdict is None


def test_a_sample_of_bad_rows_is_judged(tmp_path):
    table = impressions([(f"r{i}", 1_700_000_000, "ann", 1) for i in range(200)], click=[1] * 200)
    for file in range(4):
        write(table, tmp_path / "impressions" / str(file))
    write(ITEMS, tmp_path / "items")
    write(USERS, tmp_path / "users")
    tables = LogTables.model_validate({name: str(tmp_path / name) for name in ("impressions", "items", "users")})
    found = check_logs(IngestConfig(tables=tables), SPEC, rows=400)
    assert "bad_timestamp" in found.verdict and "800 of 800 rows of `impressions` are bad" in found.verdict


def test_every_reason_has_a_fix():
    assert set(FIXES) == set(Reason)


def run(*arguments: str):
    return CliRunner().invoke(app, [*map(str, arguments)])


@pytest.fixture(scope="module")
def proposed(log, tmp_path_factory):
    folder = tmp_path_factory.mktemp("proposed")
    done = run("spec", "init", log, "--out", folder, "--name", "case")
    assert done.exit_code == 0, done.output
    return folder


def test_init_then_check_by_the_profile_and_by_the_spec(log, proposed):
    assert {path.name for path in proposed.iterdir()} == {"case.yaml", "features_case.yaml"}
    by_profile = run("logs", "check", "--config", proposed / "case.yaml", "--json")
    by_spec = run("logs", "check", log, "--spec", proposed / "features_case.yaml", "--json")
    told = json.loads(by_profile.stdout)
    assert by_profile.exit_code == by_spec.exit_code == 0
    assert told["findings"] == json.loads(by_spec.stdout)["findings"] and told["whole"]
    assert {each["reason"] for each in told["findings"]} >= {"null_request_id", "bad_timestamp", "unknown_request"}
    shown = run("logs", "check", "--config", proposed / "case.yaml", "--all")
    assert "null_request_id" in shown.stdout and "600 rows read" in shown.stdout


def test_what_would_stop_a_run_is_said_with_the_exit_code(log, proposed, tmp_path):
    rows = [(f"r{i}", T + i * HOUR, "ann", 9) for i in range(100)]
    tables = {"impressions": impressions(rows), "clicks": clicks([("r1", 9, T + HOUR)]), "items": ITEMS, "users": USERS}
    for name, table in tables.items():
        write(table, tmp_path / name)
    found = run("logs", "check", tmp_path, "--spec", proposed / "features_case.yaml")
    assert found.exit_code == 1 and "A run would stop here" in found.stdout and "unknown_items" in found.stdout


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["logs", "check"], "say either `--config PROFILE`, or PATH"),
        (["logs", "check", "--spec", "FEATURES"], "say where the log is"),
        (["logs", "check", "nowhere", "--spec", "FEATURES"], "nowhere: no such file or folder"),
        (["logs", "check", "LOG", "--spec", "nowhere.yaml"], "nowhere.yaml"),
        (["logs", "check", "LOG", "--config", "PROFILE"], "say either"),
        (["logs", "check", "--config", "FEATURES"], "is not a known key"),
        (["spec", "init", "nowhere"], "nowhere: no such file or folder"),
        (["spec", "init", "LOG", "--out", "PROPOSED", "--name", "case"], "is there already"),
        (["spec", "init", "PROFILE"], "which table this is cannot be told"),
        (["spec", "init", "LOG", "--name", "no name"], "--name must begin with a letter"),
        (["spec", "init", "clicks=LOG/clicks"], "no table of impressions"),
    ],
)
def test_mistakes_end_in_a_message(log, proposed, tmp_path, monkeypatch, arguments, told):
    monkeypatch.chdir(tmp_path)
    places = {"FEATURES": proposed / "features_case.yaml", "PROFILE": proposed / "case.yaml", "PROPOSED": proposed}
    filled = [str(places.get(each, each)).replace("LOG", str(log)) for each in arguments]
    done = run(*filled)
    assert done.exit_code == 2 and told in " ".join(done.output.split()), done.output
    assert "Traceback" not in done.output and not list(tmp_path.iterdir())

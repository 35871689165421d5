"""What every command of `clickmill` keeps to; a new one is tested by its row of the table."""

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from pipeline.cli import app as cli

ROOT = Path(__file__).parents[2]
HEAVY = ("tensorflow", "tf_keras", "tfx", "apache_beam", "pyarrow", "numpy", "pandas", "yaml")
#: Arguments that a command refuses; {tmp} is an empty folder, {file} a file of random bytes.
BAD = {
    "run": [
        ["--config", "no/such.yaml"],
        ["--config", "{tmp}"],
        ["--config", "{file}"],
        ["--config", "tfx_config/simulated.yaml", "--models", "autont"],
        ["--config", "tfx_config/simulated.yaml", "--only", "LogIngest"],
        ["--config", "tfx_config/simulated.yaml", "--only", "LogIngest", "--run-id", "a b"],
        ["--config", "tfx_config/simulated.yaml", "--skip-unchanged"],
        ["--config", "tfx_config/simulated.yaml", "--lanes", "0"],
        [],
    ],
    "simulate": [["--out", "{file}"], ["--out", "{tmp}", "-n", "1"]],
    "rank": [
        ["-m", "{tmp}", "-r", "no/such.json"],
        ["-m", "{tmp}", "-r", "{tmp}"],
        ["-m", "{tmp}", "-r", "{file}"],
        ["-m", "{tmp}", "-r", "{deep}"],
        ["-m", "no/such", "-r", "-"],
        ["-m", "{file}", "-r", "-"],
        ["-r", "-"],
        ["--root", "{tmp}", "--release", "stable", "-r", "-"],
        ["--root", "no/such", "--release", "stable", "-r", "-"],
    ],
    "recommend": [
        ["--run", "{tmp}", "-r", "-"],
        ["--run", "no/such", "-r", "-"],
        ["--run", "{tmp}", "--release", "latest", "-r", "-"],
        ["--root", "{tmp}", "--release", "stable", "-r", "-"],
        ["--root", "no/such", "--release", "stable", "-r", "-"],
        ["-r", "-"],
        ["--two-tower", "{tmp}", "--ranker", "{tmp}", "--items", "{file}", "-r", "{deep}"],
        ["--two-tower", "{tmp}", "--ranker", "{tmp}", "--items", "{file}", "-r", "{tmp}"],
        ["--two-tower", "{file}", "--ranker", "{tmp}", "--items", "{file}", "-r", "-"],
        ["--two-tower", "{tmp}", "--ranker", "{tmp}", "--items", "{file}", "--retrieve", "5", "-k", "9", "-r", "-"],
    ],
    "predict": [
        ["{tmp}", "--out", "{tmp}/out"],
        ["no/such", "--out", "{tmp}/out", "--model", "{tmp}"],
        ["{file}", "--out", "{tmp}/out", "--model", "no/such"],
        ["{tmp}", "--out", "{tmp}/out", "--root", "{tmp}", "--release", "stable"],
        ["{tmp}", "--out", "{tmp}/out", "--root", "no/such", "--release", "stable"],
        ["{tmp}", "--out", "{tmp}/out", "--model", "{tmp}", "--top", "0"],
    ],
    "report": [["{tmp}"], ["no/such"], ["{file}"]],
    "dataset movielens-1m": [["--source", "no/such", "--out", "{tmp}"], ["--source", "{tmp}", "--out", "{tmp}"]],
    "doctor": [["--dir"]],
    "logs check": [
        [],
        ["{tmp}"],
        ["{tmp}", "--spec", "no/such.yaml"],
        ["--config", "{file}"],
        ["impressions={file}", "--spec", "tfx_config/features_simulated.yaml"],
    ],
    "spec init": [[], ["{tmp}"], ["no/such"], ["impressions={file}"], ["{file}", "--out", "{file}"]],
    "anchor show": [["-m", "no/such"], ["-m", "{file}"]],
    "anchor set": [["-m", "no/such"], ["-m", "{tmp}"], ["-m", "{tmp}", "--version", "7"]],
    "replay": [
        [],
        ["--logs", "{tmp}", "--candidate", "column:p", "--out", "{tmp}/out"],
        ["--logs", "{tmp}", "--candidate", "column:p", "--out", "{tmp}/out", "--slots", "1"],
        ["--logs", "no/such", "--candidate", "column:p", "--out", "{tmp}/out", "--slots", "1"],
        ["--logs", "{file}", "--candidate", "latest", "--out", "{tmp}/out", "--slots", "1"],
        ["--logs", "{tmp}", "--candidate", "column:p", "--out", "{tmp}/out", "--slots", "1", "--tier", "linear"],
        ["--logs", "{tmp}", "--candidate", "column:p", "--out", "{tmp}/out", "--slots", "1", "--policy", "softmx"],
        ["--logs", "{tmp}", "--candidate", "column:p", "--out", "{tmp}/out", "--slots", "1", "--reward", "click *"],
        ["--logs", "{tmp}", "--candidate", "column:p", "--out", "{tmp}/out", "--slots", "1", "--column", "who=user"],
        ["--logs", "{tmp}", "--candidate", "column:p", "--out", "{tmp}/out", "--propensities", "joint"],
    ],
    "experiment check": [[], ["no/such.yaml"], ["{tmp}"], ["{file}"], ["{tmp}", "--users", "0"]],
    "models list": [["--root", "no/such"], ["--root", "{file}"], ["--root", "{tmp}"]],
    "models show": [["shop", "--root", "no/such"], ["shop", "--root", "{tmp}"]],
    "models diff": [["stable", "--root", "no/such"], ["stable", "--root", "{tmp}"]],
    "models bless": [
        ["autoint"],
        ["autoint", "-c", "no/such.yaml"],
        ["autont", "-c", "tfx_config/simulated.yaml"],
        ["autoint", "-c", "{file}"],
    ],
    "airflow export": [
        [],
        ["no/such.yaml"],
        ["{file}"],
        ["tfx_config/simulated.yaml", "--cron", "daily"],
        ["tfx_config/simulated.yaml", "--settings", "{file}"],
    ],
    "kubeflow compile": [
        [],
        ["no/such.yaml", "--image", "shop"],
        ["tfx_config/simulated.yaml", "--image", "shop", "--schema", "3"],
        ["tfx_config/simulated.yaml", "--image", "shop", "--out", "{tmp}"],
    ],
    "schedule export": [
        [],
        ["no/such.yaml"],
        ["tfx_config/simulated.yaml", "--kind", "at"],
        ["tfx_config/simulated.yaml", "--cron", "0 3 1 * mon", "--out", "{tmp}/out"],
        ["tfx_config/simulated.yaml", "--window", "7d", "--out", "{tmp}/out"],
    ],
    "experiment read": [[], ["no/such.yaml"], ["{tmp}"], ["{file}"]],
    "release list": [["--root", "no/such"], ["--root", "{file}"]],
    "release show": [["--root", "{tmp}", "latest"], ["--root", "{tmp}", "../labels"], ["--root", "no/such", "stable"]],
    "release promote": [
        ["--root", "{tmp}", "latest"],
        ["--root", "{tmp}", "20261126T073000-1f2e3d4c", "--label", "Stable"],
        ["--root", "{tmp}", "20261126T073000-1f2e3d4c", "--label", "latest"],
        ["--root", "no/such", "latest"],
    ],
    "release rollback": [["--root", "{tmp}"], ["--root", "{tmp}", "--label", "../x"], ["--root", "no/such"]],
    "release prune": [["--root", "{tmp}", "--keep", "0"], ["--root", "no/such"]],
    "serve config": [
        ["--root", "no/such", "--out", "{tmp}/out"],
        ["--root", "{tmp}", "--out", "{tmp}/out"],
        ["--root", "{file}", "--out", "{tmp}/out"],
        ["--root", "{tmp}", "--out", "{tmp}/out", "--settings", "{file}"],
    ],
    "serve reload": [
        [],
        ["--address", "127.0.0.1:1", "--deploy", "{tmp}"],
        ["--address", "127.0.0.1:1", "--deploy", "no/such"],
        ["--address", "nowhere", "--deploy", "{tmp}"],
    ],
    "bse build": [["-m", "{tmp}", "-b", "{tmp}", "-s", "{tmp}"], ["-m", "{file}", "-b", "{tmp}", "-s", "{tmp}"]],
    "bse get": [
        ["-s", "{tmp}", "-u", "u1"],
        ["-s", "no/such", "-u", "u1"],
        ["-s", "{tmp}", "-u", "x", "--version", "/"],
    ],
    "bse append": [
        ["-s", "{tmp}", "-m", "{tmp}", "-u", "u1", "-b", "{{"],
        ["-s", "{tmp}", "-m", "{tmp}", "-u", "u1", "-b", "[" * 100_000],
        ["-s", "{tmp}", "-m", "{tmp}", "-u", "u1", "-b", "{{}}"],
    ],
    "bse sign": [
        ["--two-tower", "no/such", "--items", "{file}", "--signatures", "{tmp}", "--out", "{tmp}/out"],
        ["--two-tower", "{tmp}", "--items", "no/such", "--signatures", "{tmp}", "--out", "{tmp}/out"],
    ],
    "serve": [
        [],
        ["-m", "half"],
        ["-m", "half=no/such"],
        ["--models-config", "no/such"],
        ["--models-config", "{file}"],
        ["--root", "{tmp}"],
        ["-m", "half={tmp}", "--port", "70000"],
    ],
    "gateway": [
        [],
        ["--root", "no/such"],
        ["--root", "{tmp}"],
        ["--root", "{file}"],
        ["--root", "{tmp}", "--label", "../x"],
        ["--root", "{tmp}", "--port", "70000"],
        ["--root", "{tmp}", "--server", "nowhere"],
        ["--root", "{tmp}", "--deadline", "0"],
        ["--settings", "{file}"],
    ],
    "bse verify": [["-s", "{tmp}"], ["-s", "{file}"]],
    "profiles build": [
        ["--spec", "no/such.yaml", "-e", "{tmp}", "-b", "{tmp}", "-s", "{tmp}/store"],
        ["--spec", "{file}", "-e", "{tmp}", "-b", "{tmp}", "-s", "{tmp}/store"],
        ["--spec", "tfx_config/features_simulated.yaml", "-e", "{tmp}", "-b", "{tmp}", "-s", "{tmp}/store"],
    ],
    "profiles get": [["-s", "{tmp}", "-u", "u1"], ["-s", "no/such", "-u", "u1"], ["-s", "{file}", "-u", "u1"]],
    "profiles verify": [["-s", "{tmp}"], ["-s", "{file}"]],
}


def commands() -> dict[str, object]:
    """Returns every command by its words, groups opened."""
    root = typer.main.get_command(cli.app)
    found = {}
    for name in cli.COMMANDS:
        command = root.get_command(None, name)
        inner = getattr(command, "commands", None)
        if not inner or command.invoke_without_command:  # a group may be a command itself
            found[name] = command
        found.update({f"{name} {each}": sub for each, sub in (inner or {}).items()})
    return found


LEAVES = commands()
runner = CliRunner()


def python(code: str) -> str:
    """Runs code in a process of its own and returns what it prints."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def helped():
    """For `clickmill --help`, then for each command's: its text, and the modules that are imported by then."""
    code = f"""
import contextlib, io, json, sys
from pipeline.cli.app import app
found = {{}}
for words in [[], *{[words.split() for words in LEAVES]!r}]:
    text = io.StringIO()
    with contextlib.redirect_stdout(text), contextlib.suppress(SystemExit):
        app([*words, "--help"])
    found[" ".join(words)] = [text.getvalue(), sorted(sys.modules)]
print(json.dumps(found))
"""
    return json.loads(python(code))


def test_help_imports_no_command(helped):
    text, modules = helped[""]
    assert [name for name in modules if name.startswith("pipeline.")] == [
        *("pipeline.cli", "pipeline.cli.app", "pipeline.cli.console")
    ]
    assert all(name in text for name in cli.COMMANDS)


@pytest.mark.parametrize("words", ["", *LEAVES])
def test_a_command_explains_itself_without_heavy_imports(helped, words):
    text, modules = helped[words]
    assert "Usage:" in text and "--help" in text
    assert sorted({name.split(".")[0] for name in modules} & set(HEAVY)) == []


def test_every_file_is_a_command_and_its_line_is_its_own():
    files = {path.stem for path in (ROOT / "pipeline" / "cli").rglob("*.py")} - {"__init__", "app", "console"}
    # A command of a group may have a file of its own, as serve_config for `clickmill serve config`, or its tables.
    groups = {name for name in files if any(each.startswith(f"{name}_") for each in files)}
    files = {each for each in files if not any(each.startswith(f"{name}_") for name in groups)}
    assert files == {target.split(":")[0].split(".")[-1] for target, _ in cli.COMMANDS.values()}
    root = typer.main.get_command(cli.app)
    for name, (_, line) in cli.COMMANDS.items():
        assert root.get_command(None, name).help.splitlines()[0] == line


def test_the_doctor_needs_nothing_but_the_standard_library():
    code = "import sys; sys.modules['typer'] = None; import pipeline.cli.doctor as d; print(len(d.run_checks()))"
    assert int(python(code)) > 5


def filled(arguments, tmp_path) -> list[str]:
    empty, file, deep = tmp_path / "empty", tmp_path / "file.bin", tmp_path / "deep.json"
    empty.mkdir(exist_ok=True)
    file.write_bytes(bytes(range(255, 0, -1)))
    deep.write_text("[" * 100_000)
    return [each.format(tmp=empty, file=file, deep=deep) for each in arguments]


def test_every_command_has_bad_input_here():
    assert set(BAD) == set(LEAVES)


@pytest.mark.parametrize("words", LEAVES)
def test_bad_input_is_a_message_and_exit_code_2(words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tfx_config").symlink_to(ROOT / "tfx_config")
    before = sorted(os.listdir(tmp_path))
    for arguments in [["--no-such-option"], *BAD[words]]:
        result = runner.invoke(cli.app, [*words.split(), *filled(arguments, tmp_path)], input='{"user": {}}')
        what = f"clickmill {words} {arguments}: {result.output}"
        assert result.exit_code == 2, what
        assert result.stderr.startswith(("clickmill: ", "Usage: ", "Error: ")) and "Traceback" not in result.output, (
            what
        )
        assert result.stdout == "" and len(result.stderr.strip().splitlines()) <= 4, what
    assert set(os.listdir(tmp_path)) - set(before) <= {"empty", "file.bin", "deep.json"}


def test_a_defect_is_one_line_and_its_traceback_is_in_a_log(tmp_path, monkeypatch):
    def broken(*arguments, **more):
        raise KeyError("lost")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(importlib.import_module("features.datasets.simulator.marketplace"), "simulate", broken)
    for folder in (None, "runs"):
        if folder:
            (tmp_path / folder).mkdir()
        result = runner.invoke(cli.app, ["simulate", "--out", "log", "-n", "1000"])
        assert result.exit_code == 70 and result.stdout == ""
        (line,) = result.stderr.splitlines()
        assert line.startswith("clickmill: KeyError: 'lost' (a defect of Clickmill; its traceback is in ")
        log = Path(line.split()[-1].rstrip(")"))
        text = log.read_text(encoding="utf-8")
        assert "Traceback (most recent call last)" in text and "in broken" in text and "KeyError: 'lost'" in text
        if folder:
            assert log == Path("runs/clickmill.log")
        else:
            log.unlink()


def test_a_defect_of_a_run_is_in_the_run_s_log(tmp_path, monkeypatch):
    from pipeline.run import run

    def broken(*arguments, **more):
        raise ZeroDivisionError("by nothing")

    profile = tmp_path / "profile.yaml"
    text = (ROOT / "tfx_config" / "simulated.yaml").read_text(encoding="utf-8")
    profile.write_text(
        text.replace("features_", f"{ROOT}/tfx_config/features_") + f"\nrun_dir: {tmp_path / 'run'}\n", encoding="utf-8"
    )
    (tmp_path / "run").mkdir()
    monkeypatch.setattr(run, "run_pipeline", broken)
    result = runner.invoke(cli.app, ["run", "--config", str(profile)])
    assert result.exit_code == 70 and str(tmp_path / "run" / "pipeline.log") in result.stderr, result.output
    assert "ZeroDivisionError: by nothing" in (tmp_path / "run" / "pipeline.log").read_text(encoding="utf-8")


def test_what_a_job_says_of_itself_is_exit_code_1(monkeypatch, tmp_path):
    from features.errors import ClickmillError, RunError
    from pipeline.cli.console import explain
    from pipeline.run.dag import PipelineFailed

    error = PipelineFailed("Trainer.x", ValueError("no rows"), tmp_path / "pipeline.log")
    assert isinstance(error, RunError)
    message, code = explain(error)
    assert code == 1 and "`Trainer.x` failed: ValueError: no rows" in message and "pipeline.log" in message
    assert explain(ClickmillError("x")) == ("x", 1)

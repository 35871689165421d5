"""What schedulers are told: commands that a shell runs as they are meant, times that systemd reads as cron does."""

import subprocess
from datetime import date
from pathlib import Path

import pytest

from features.config import SpecError
from features.errors import InputError
from pipeline.config import load_config
from pipeline.schedule.config import NodeNeeds, Schedule
from pipeline.schedule.machine import to_calendar, write_schedule

PROFILE = Path(__file__).parents[3] / "tfx_config" / "simulated.yaml"


@pytest.fixture
def config():
    return load_config(PROFILE)


@pytest.fixture
def by_day(config):
    tables = {name: "log/{DATE}/" + name for name in config.ingest.tables.given()}
    table = config.ingest.tables
    changed = table.model_copy(
        update={name: given.model_copy(update={"path": tables[name]}) for name, given in table.given().items()}
    )
    return config.model_copy(update={"ingest": config.ingest.model_copy(update={"tables": changed})})


def program(folder: Path, code: int = 0) -> Path:
    """A program that notes its arguments and its folder, and exits with a code."""
    path = folder / "it's clickmill"
    path.write_text(f'#!/bin/sh\nfor each in "$@"; do echo "$each"; done > "{folder}/called"\nexit {code}\n')
    path.chmod(0o755)
    return path


@pytest.mark.parametrize("cron", ["daily", "0 3 * *", "0 3 * * * *", "0 3 * * $(id)", "0 3 * * %"])
def test_what_is_no_cron_expression_is_refused(cron):
    with pytest.raises(ValueError, match="five fields"):
        Schedule(cron=cron)


def test_a_node_gets_its_own_needs_or_its_kind_s_or_the_default(config):
    own, kind, other = NodeNeeds(cpus=1), NodeNeeds(cpus=2), NodeNeeds(cpus=3)
    schedule = Schedule(nodes={"Trainer.a": own, "Trainer": kind, "default": other})
    assert [schedule.needs(name).cpus for name in ("Trainer.a", "Trainer.b", "Pusher.a")] == [1, 2, 3]
    nodes = ["Trainer.a", "Pusher.a"]
    assert schedule.for_pipeline(nodes, one_writer=True) is schedule
    with pytest.raises(SpecError, match="no such node. Did you mean `Pusher`"):
        Schedule(nodes={"Pushr": own}).for_pipeline(nodes, one_writer=False)
    with pytest.raises(SpecError, match="tasks_at_once: 2`: ML Metadata is an SQLite file"):
        Schedule(tasks_at_once=2).for_pipeline(nodes, one_writer=True)
    assert Schedule(tasks_at_once=2).for_pipeline(nodes, one_writer=False).start == date(2026, 1, 1)


@pytest.mark.parametrize(
    "cron, calendar, due",
    [
        ("0 3 * * *", "*-*-* 3:0:00 UTC", "2026-11-27 03:00:00"),
        ("*/15 6-8 * * *", "*-*-* 6..8:0/15:00 UTC", "2026-11-27 06:00:00"),
        ("30 4 1,15 * *", "*-*-1,15 4:30:00 UTC", "2026-12-01 04:30:00"),
        ("0 5 * 2-3 *", "*-2..3-* 5:0:00 UTC", "2027-02-01 05:00:00"),
        ("0 3 * * 1-5", "Mon..Fri *-*-* 3:0:00 UTC", "2026-11-27 03:00:00"),
        ("0 3 * * sun,tue", "sun,tue *-*-* 3:0:00 UTC", "2026-11-29 03:00:00"),
        ("0 3 * * 7", "Sun *-*-* 3:0:00 UTC", "2026-11-29 03:00:00"),
    ],
)
def test_systemd_reads_a_cron_expression_as_cron_does(cron, calendar, due):
    assert to_calendar(cron, "UTC") == calendar
    command = ["systemd-analyze", "calendar", "--base-time=2026-11-26 12:00:00 UTC", calendar]
    try:
        told = subprocess.run(command, capture_output=True, text=True, env={"TZ": "UTC", "PATH": "/usr/bin:/bin"})
    except FileNotFoundError:
        pytest.skip("systemd-analyze is not on PATH")
    assert told.returncode == 0 and due in told.stdout, told


def test_systemd_cannot_say_either_of_two_days():
    with pytest.raises(InputError, match="cron means that day or that weekday"):
        to_calendar("0 3 1 * mon", "UTC")


@pytest.mark.parametrize("kind", ["systemd", "cron"])
def test_the_script_runs_the_day_before_or_the_one_that_it_is_given(by_day, tmp_path, monkeypatch, kind):
    monkeypatch.chdir(tmp_path)
    out = tmp_path / "a folder"
    clickmill = program(tmp_path)
    written = write_schedule(out, kind, by_day, PROFILE, Schedule(window="7d"), str(clickmill))
    assert [Path(path).suffix for path in written] == {
        "systemd": [".sh", ".service", ".timer"],
        "cron": [".sh", ".crontab"],
    }[kind]
    subprocess.run([written[0], "2026-11-24"], check=True)
    options = ["--run-id", "day-2026-11-24", "--span", "2026-11-24", "--window", "7d"]
    assert (tmp_path / "called").read_text().splitlines() == ["run", "--config", str(PROFILE), *options]
    yesterday = subprocess.run(["date", "-u", "-d", "yesterday", "+%F"], capture_output=True, text=True).stdout.strip()
    subprocess.run([written[0]], check=True)
    assert (tmp_path / "called").read_text().splitlines()[6] in (yesterday, str(date.today()))


def test_a_day_with_nothing_new_is_no_failure_of_cron(config, tmp_path):
    for code, end in ((0, 0), (99, 0), (1, 1), (75, 1)):
        written = write_schedule(tmp_path, "cron", config, PROFILE, Schedule(), str(program(tmp_path, code)))
        line = Path(written[1]).read_text().splitlines()[-1]
        assert line.startswith("0 3 * * * ")
        assert subprocess.run(["sh", "-c", line.removeprefix("0 3 * * * ")]).returncode == end


def test_systemd_accepts_the_units(config, tmp_path):
    written = write_schedule(
        tmp_path / "a folder, 100%", "systemd", config, PROFILE, Schedule(), str(program(tmp_path))
    )
    try:
        told = subprocess.run(["systemd-analyze", "verify", *written[1:]], capture_output=True, text=True)
    except FileNotFoundError:
        pytest.skip("systemd-analyze is not on PATH")
    about = [line for line in told.stderr.splitlines() if config.name in line]
    assert about == [], told.stderr
    assert "SuccessExitStatus=99" in Path(written[1]).read_text()


def test_a_window_takes_tables_by_day(config, tmp_path):
    with pytest.raises(InputError, match="`window` is of days"):
        write_schedule(tmp_path, "cron", config, PROFILE, Schedule(window="7d"), "clickmill")

"""A real Airflow, in an environment of its own, runs a pipeline day by day: nobody but its scheduler starts anything.

    python -m tests.drills.scheduled.standalone --airflow 2|3 [--days 1] [--server KIND] [--stay]

`clickmill airflow export` writes the DAG file; `airflow standalone` finds it, and its scheduler makes the runs of the
days before today. The pipeline is a small two-tower over a simulated log. Ends when all runs have ended, with 0 where
all succeeded; `--stay` leaves the server up until Ctrl-C. With `--server postgresql` (or mysql) ML Metadata is on a
server, and two nodes of a run may run at a time. All is in data/airflow/; the servers listen on 127.0.0.1 alone.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from datetime import date, timedelta
from pathlib import Path

from pipeline.run.metadata_server import PASSWORD
from tests.drills.kill_run import PROFILE
from tests.pipeline.run import database_server

ROOT = Path(__file__).parents[3]
#: Seconds between two looks at the scheduler's database.
LOOK_S = 2.0
CANNOT = 77


class Standalone:
    """An `airflow standalone` with a home of its own."""

    def __init__(self, version: str, home: Path, dags: Path):
        """Installs Airflow where it is not there yet; ends the program where it cannot be installed."""
        found = subprocess.run([ROOT / ".ci" / "airflow", version], stdout=subprocess.PIPE, text=True)
        if found.returncode:
            raise SystemExit(found.returncode)
        self.home, self.bin = home, ROOT / found.stdout.strip() / "bin"
        self.port = free_port()
        self._env = os.environ | environment(home, dags, self.port) | {"PATH": f"{self.bin}:{os.environ['PATH']}"}
        self._process: subprocess.Popen | None = None

    def __enter__(self) -> Standalone:
        self.home.mkdir(parents=True, exist_ok=True)
        with (self.home / "standalone.log").open("wb") as log:
            command = [str(self.bin / "airflow"), "standalone"]
            self._process = subprocess.Popen(
                command, env=self._env, stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True
            )
        return self

    def __exit__(self, *exception) -> None:
        for end in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, end)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(20)

    def check(self) -> None:
        """Ends the program if the server has ended."""
        if self._process.poll() is not None:
            raise SystemExit(f"airflow ended:\n{(self.home / 'standalone.log').read_text()[-3000:]}")

    def rows(self, query: str) -> list[tuple]:
        """Asks the scheduler's database; nothing where it is not made yet."""
        try:
            with contextlib.closing(sqlite3.connect(f"file:{self.home}/airflow.db?mode=ro", uri=True)) as database:
                return database.execute(query).fetchall()
        except sqlite3.OperationalError:
            return []


def environment(home: Path, dags: Path, port: int) -> dict[str, str]:
    """Returns the settings of an Airflow: of 2.11 and of 3, each passes over the other's."""
    settings = {
        ("core", "dags_folder"): dags,
        ("core", "load_examples"): False,
        ("core", "dags_are_paused_at_creation"): False,
        ("core", "execution_api_server_url"): f"http://127.0.0.1:{port}/execution/",
        ("scheduler", "enable_health_check"): False,
        ("scheduler", "dag_dir_list_interval"): 5,
        ("dag_processor", "refresh_interval"): 5,
        ("webserver", "web_server_host"): "127.0.0.1",
        ("webserver", "web_server_port"): port,
        ("webserver", "workers"): 1,
        ("api", "host"): "127.0.0.1",
        ("api", "port"): port,
        ("api", "base_url"): f"http://127.0.0.1:{port}",
        ("api", "workers"): 1,
        ("logging", "worker_log_server_port"): free_port(),
        ("logging", "trigger_log_server_port"): free_port(),
        ("usage_data_collection", "enabled"): False,
    }
    named = {f"AIRFLOW__{section.upper()}__{key.upper()}": str(value) for (section, key), value in settings.items()}
    return {"AIRFLOW_HOME": str(home), **named}


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def export(work: Path, profile: Path, days: int, at_once: int) -> Path:
    """Exports a profile as a DAG of these days; returns the folder of the DAG files."""
    needs = {"retries": 1, "retry_minutes": 0, "timeout_minutes": 30}
    start = str(date.today() - timedelta(days=days))
    schedule = {"start": start, "cron": "0 0 * * *", "nodes": {"default": needs}, "tasks_at_once": at_once}
    (work / "schedule.yaml").write_text(json.dumps(schedule))
    command = [sys.executable, "-W", "ignore", "-m", "pipeline.cli.app", "airflow", "export", str(profile)]
    command += ["--out", str(work / "dags"), "--settings", str(work / "schedule.yaml")]
    subprocess.run(command, check=True, cwd=ROOT)
    return work / "dags"


def follow(airflow: Standalone, days: int, minutes: float) -> dict[str, str]:
    """Prints what each task comes to until all runs have ended; returns {run: state}."""
    told: dict[tuple, str] = {}
    until = time.monotonic() + 60 * minutes
    while time.monotonic() < until:
        airflow.check()
        for run, task, state in airflow.rows("select run_id, task_id, state from task_instance"):
            if state and told.get((run, task)) != state:
                told[run, task] = state
                print(f"{time.strftime('%H:%M:%S')} {run} {task}: {state}", flush=True)
        runs = dict(airflow.rows("select run_id, state from dag_run"))
        if len(runs) >= days and set(runs.values()) <= {"success", "failed"}:
            return runs
        time.sleep(LOOK_S)
    raise SystemExit(f"not ended after {minutes} minutes: {dict(airflow.rows('select run_id, state from dag_run'))}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--airflow", choices=["2", "3"], default="3")
    parser.add_argument("--days", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=45.0, help="after which it gives up")
    parser.add_argument("--server", choices=["postgresql", "mysql"], help="that ML Metadata is kept on")
    parser.add_argument("--stay", action="store_true", help="leave the server up until Ctrl-C")
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # The servers end with the drill, however it ends.
    work = ROOT / "data" / "airflow" / given.airflow
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    with contextlib.ExitStack() as held:
        text = PROFILE.format(work=work, spec=ROOT / "tfx_config" / "features_simulated.yaml")
        if given.server:
            text += f"metadata: {held.enter_context(database_server.server(given.server))}\n"
            os.environ[PASSWORD] = database_server.PASSWORD
        (work / "profile.yaml").write_text(text)
        dags = export(work, work / "profile.yaml", given.days, at_once=2 if given.server else 1)
        airflow = held.enter_context(Standalone(given.airflow, work / "home", dags))
        print(f"Airflow {given.airflow}: http://127.0.0.1:{airflow.port}, {work}/home/standalone.log", flush=True)
        runs = follow(airflow, given.days, given.minutes)
        print(json.dumps(runs, indent=2))
        if given.stay:
            print("Ctrl-C ends it.", flush=True)
            with contextlib.suppress(KeyboardInterrupt):
                while True:
                    airflow.check()
                    time.sleep(LOOK_S)
    return int(set(runs.values()) != {"success"})


if __name__ == "__main__":
    sys.exit(main())

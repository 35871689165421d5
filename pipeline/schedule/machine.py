"""A schedule for one machine: a systemd timer, or a crontab, and the script that both call."""

from __future__ import annotations

import os
import re
import shlex
from pathlib import Path
from typing import Any, Literal

from features import storage
from features.errors import InputError
from pipeline.config import PipelineConfig
from pipeline.schedule.commands import RUN_ID, SPAN, run_command
from pipeline.schedule.config import Schedule

Kind = Literal["systemd", "cron"]
_DAYS = ("Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")


def write_schedule(
    out: storage.AnyPath, kind: Kind, config: PipelineConfig, profile: storage.AnyPath, schedule: Schedule, program: str
) -> list[str]:
    """Writes a schedule of whole runs, one after another on this machine; returns the paths of its files.

        <pipeline>.sh                            one run, of yesterday or of the day that it is given
        <pipeline>.service, <pipeline>.timer     systemd
        <pipeline>.crontab                       cron

    Args:
      out: the folder.
      kind: for what.
      config: the pipeline.
      profile: its file.
      schedule: when it runs.
      program: `clickmill`, as a shell finds it.

    Raises:
      InputError: for a cron expression that systemd cannot say.
    """
    facts = {
        "pipeline": config.name,
        "folder": os.getcwd(),
        "command": _shell(run_command(program, storage.absolute(profile), config, schedule.window)),
        "by_day": config.ingest.by_day,
        "script": storage.absolute(storage.join(out, f"{config.name}.sh")),
        "needs": schedule.needs("default"),
        "memory_mb": max(needs.memory_mb for needs in (schedule.needs("default"), *schedule.nodes.values())),
        "schedule": schedule,
    }
    if kind == "systemd":
        facts["calendar"] = to_calendar(schedule.cron, schedule.timezone)
    names = {"systemd": ("service", "timer"), "cron": ("crontab",)}[kind]
    written = []
    for name in ("sh", *names):
        path = storage.join(out, f"{config.name}.{name}")
        storage.write_text(path, _render(f"machine.{name}.j2", facts))
        if name == "sh" and storage.is_local(path):
            os.chmod(storage.absolute(path), 0o755)
        written.append(path)
    return written


def to_calendar(cron: str, timezone: str) -> str:
    """Returns the five fields of cron as an `OnCalendar=` of systemd.

    Raises:
      InputError: where both a day of the month and a weekday are named: cron means either, systemd both.
    """
    minute, hour, day, month, weekday = cron.split()
    if day != "*" and weekday != "*":
        raise InputError(f"`cron: {cron}`: cron means that day or that weekday, systemd means both: name one of them.")
    date = f"*-{_field(month, 1)}-{_field(day, 1)}"
    days = "" if weekday == "*" else re.sub(r"\d", lambda found: _DAYS[int(found[0])], weekday).replace("-", "..") + " "
    return f"{days}{date} {_field(hour, 0)}:{_field(minute, 0)}:00 {timezone}"


def _field(text: str, first: int) -> str:
    """A field of cron: lists are the same in both, a range is `a..b`, a step of all is one from the first on."""
    return re.sub(r"^\*/", f"{first}/", text).replace("-", "..")


def _shell(command: list[str]) -> str:
    filled = {RUN_ID: '"$run_id"', SPAN: '"$span"'}
    return " ".join(filled.get(word, shlex.quote(word)) for word in command)


def _render(name: str, facts: dict[str, Any]) -> str:
    import jinja2

    folder = Path(__file__).parent / "templates"
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(folder), undefined=jinja2.StrictUndefined, keep_trailing_newline=True
    )
    environment.filters["quoted"] = shlex.quote
    return environment.get_template(name).render(facts)

"""`clickmill schedule …`: one machine's own scheduler, a systemd timer or a crontab."""

from __future__ import annotations

from typing import Annotated

import typer

from features.errors import InputError
from pipeline.cli.console import out
from pipeline.schedule.profile_options import (
    Cron,
    Profile,
    Program,
    Settings,
    Window,
    read_schedule,
)

schedule = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, help="One machine's own scheduler: a systemd timer, or a crontab."
)


@schedule.callback()
def _group() -> None:
    """Keeps `export` a command of its own."""


@schedule.command()
def export(
    profile: Profile,
    kind: Annotated[str, typer.Option("--kind", help="systemd or cron.")] = "systemd",
    output: Annotated[
        str, typer.Option("--out", "-o", metavar="FOLDER", help="Where the script and its schedule go.")
    ] = "schedule",
    settings: Settings = None,
    cron: Cron = None,
    window: Window = None,
    program: Program = None,
) -> None:
    """Write the script of one run, and the timer or the crontab that calls it."""
    if kind not in ("systemd", "cron"):
        raise InputError(f"--kind is systemd or cron. Received: {kind}")
    from pipeline.config import load_profile

    config = load_profile(profile)
    found = read_schedule(settings, cron=cron, window=window)
    from pipeline.schedule.commands import installed_program
    from pipeline.schedule.machine import write_schedule

    for path in write_schedule(output, kind, config, profile, found, program or installed_program()):
        out().print(path, soft_wrap=True)

"""What the commands of schedules have in common: their options, and the settings above the defaults."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from pipeline.schedule.config import Schedule

Profile = Annotated[str, typer.Argument(metavar="PROFILE", help="Pipeline profile (YAML), see tfx_config/.")]
Settings = Annotated[
    str | None,
    typer.Option("--settings", metavar="FILE", help="YAML of the schedule; docs/guides/orchestrators.md has it."),
]
Cron = Annotated[str | None, typer.Option("--cron", help="When a run begins, as '0 3 * * *'.")]
Start = Annotated[str | None, typer.Option("--start", metavar="DAY", help="The first day, as 2026-11-01.")]
Window = Annotated[str | None, typer.Option("--window", help="Days that a run trains on, as 7d.")]
Program = Annotated[
    str | None, typer.Option("--program", metavar="PATH", help="clickmill, as the machine that runs it finds it.")
]


def read_schedule(settings: str | None, **given: Any) -> Schedule:
    """Reads the settings of a schedule, with what the command line says above them.

    Raises:
      SpecError: if they cannot be used.
    """
    from features.config import parse_model, read_yaml
    from pipeline.schedule.config import Schedule

    values = read_yaml(settings) if settings else {}
    values |= {name: value for name, value in given.items() if value is not None}
    return parse_model(values, Schedule, settings or "the options")

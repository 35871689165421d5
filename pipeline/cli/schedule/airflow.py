"""`clickmill airflow …`: a pipeline as a DAG of Airflow, which needs neither Clickmill nor TensorFlow to read it."""

from __future__ import annotations

from typing import Annotated

import typer

from pipeline.cli.console import err, out
from pipeline.schedule.profile_options import (
    Cron,
    Profile,
    Program,
    Settings,
    Start,
    Window,
    read_schedule,
)

airflow = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="A pipeline as a DAG of Airflow: one task for each node.",
)


@airflow.callback()
def _group() -> None:
    """Keeps `export` a command of its own."""


@airflow.command()
def export(
    profile: Profile,
    output: Annotated[
        str, typer.Option("--out", "-o", metavar="FOLDER", help="Of Airflow's DAG files; two files are written.")
    ] = "dags",
    settings: Settings = None,
    cron: Cron = None,
    start: Start = None,
    window: Window = None,
    image: Annotated[
        str | None, typer.Option(help="Run every node as a pod of this image; without, as a command on the worker.")
    ] = None,
    program: Program = None,
) -> None:
    """Write the DAG file of a pipeline, and the JSON of nodes, edges, commands, needs and time-outs that it reads."""
    from pipeline.config import load_profile

    config = load_profile(profile)
    kubernetes = None if image is None else {"image": image}
    schedule = read_schedule(settings, cron=cron, start=start, window=window, kubernetes=kubernetes)
    with err().status("Reading the pipeline …"):
        from pipeline.schedule.airflow_export import describe, write_airflow
        from pipeline.schedule.commands import installed_program

        default = "clickmill" if schedule.kubernetes else installed_program()
        described = describe(config, profile, schedule, program or default)
        data, dag = write_airflow(output, described)
    edges = len(described["edges"])
    out().print(f"{dag}: {len(described['nodes'])} tasks, {edges} edges, as {data} has them", soft_wrap=True)
    pools = sorted({node["pool"] for node in described["nodes"]} - {None})
    for pool in pools:
        out().print(f"  airflow pools set {pool} SLOTS DESCRIPTION, once: its tasks wait for it", soft_wrap=True)

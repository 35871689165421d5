"""`clickmill kubeflow …`: a pipeline for Kubeflow Pipelines, or Vertex AI."""

from __future__ import annotations

from typing import Annotated

import typer

from features.errors import InputError
from pipeline.cli.console import err, out
from pipeline.schedule.profile_options import Profile

kubeflow = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, help="A pipeline for Kubeflow Pipelines: compile it."
)


@kubeflow.callback()
def _group() -> None:
    """Keeps `compile` a command of its own."""


@kubeflow.command("compile")
def compile_(
    profile: Profile,
    image: Annotated[
        str, typer.Option(help="Of every component's container, with Clickmill and kfp-pipeline-spec installed.")
    ],
    output: Annotated[
        str, typer.Option("--out", "-o", metavar="FILE", help="YAML of the specification, or JSON of the whole job.")
    ] = "pipeline.yaml",
    schema: Annotated[str, typer.Option(help="Of the specification: 2.0 or 2.1.")] = "2.0",
) -> None:
    """Compile a pipeline to a specification of Kubeflow Pipelines, by TFX's own runner."""
    if schema not in ("2.0", "2.1"):
        raise InputError(f"--schema is 2.0 or 2.1. Received: {schema}")
    if not output.endswith((".yaml", ".yml", ".json")):
        raise InputError(f"--out is a .yaml or a .json file. Received: {output}")
    from pipeline.config import load_profile

    config = load_profile(profile)
    with err().status("Compiling …"):
        from pipeline.run.run import silence_imports

        silence_imports()
        from pipeline.schedule.kubeflow_export import compile_kubeflow, task_graph, write_kubeflow

        job = compile_kubeflow(config, image, schema)
        write_kubeflow(output, job)
    out().print(f"{output}: {len(task_graph(job))} tasks", soft_wrap=True)

"""`clickmill run`. Nothing heavy is imported before the profile is checked: a typo is answered at once."""

from __future__ import annotations

from typing import Annotated

import typer

from features.errors import NotFoundError
from pipeline.cli.console import LOG


def run(
    ctx: typer.Context,
    config: Annotated[
        str, typer.Option("--config", "-c", metavar="FILE", help="Pipeline profile (YAML), see tfx_config/.")
    ],
    models: Annotated[
        str | None, typer.Option("--models", "-m", help="Only these of the profile's models, separated by commas.")
    ] = None,
) -> None:
    """Run the pipeline: from raw logs to evaluated, blessed and pushed models."""
    from features import storage

    if not storage.is_file(config):
        raise NotFoundError(f"{config}: no such profile. Profiles are in tfx_config/.")
    from pipeline.config import load_config

    profile = load_config(config)
    ctx.meta[LOG] = str(profile.log_path)
    from pipeline.run.run import run_pipeline

    run_pipeline(profile, models=models.split(",") if models else None)

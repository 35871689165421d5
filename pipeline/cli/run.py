"""`clickmill run`. Nothing heavy is imported before the profile is checked: a typo is answered at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from features.errors import InputError
from pipeline.cli.console import LOG

if TYPE_CHECKING:
    from pipeline.config import PipelineConfig


def run(
    ctx: typer.Context,
    config: Annotated[
        str, typer.Option("--config", "-c", metavar="FILE", help="Pipeline profile (YAML), see tfx_config/.")
    ],
    models: Annotated[
        str | None, typer.Option("--models", "-m", help="Only these of the profile's models, separated by commas.")
    ] = None,
    run_id: Annotated[
        str | None, typer.Option("--run-id", metavar="ID", help="Of the run: what is done in it is not done again.")
    ] = None,
    only: Annotated[
        str | None,
        typer.Option("--only", metavar="NODE", help="Only this node of the run, or Report, its last step."),
    ] = None,
    lanes: Annotated[
        int | None,
        typer.Option(
            "--lanes",
            metavar="N",
            min=1,
            max=64,
            help="How many components may run at the same time; default: the profile's.",
        ),
    ] = None,
    skip_unchanged: Annotated[
        bool,
        typer.Option(
            "--skip-unchanged", help="With --only LogIngest: exit with 99 where the last run was of the same."
        ),
    ] = False,
    span: Annotated[
        str | None, typer.Option("--span", metavar="DAY", help="Of a log by day: the newest day, as 2026-11-24.")
    ] = None,
    window: Annotated[
        str | None, typer.Option("--window", metavar="DAYS", help="How many days to train on, as 7d.")
    ] = None,
) -> None:
    """Run the pipeline: from raw logs to evaluated, blessed and pushed models."""
    from pipeline.config import load_profile

    profile = of_span(load_profile(config), span, window)
    if lanes is not None:
        profile = profile.model_copy(update={"lanes": lanes})
    ctx.meta[LOG] = str(profile.log_path)
    chosen = models.split(",") if models else None
    if only is None:
        if skip_unchanged:
            raise InputError("--skip-unchanged goes with --only LogIngest.")
        from pipeline.run.run import run_pipeline

        run_pipeline(profile, models=chosen, run_id=run_id)
        return
    if run_id is None:
        raise InputError("--only takes --run-id too: by it a node finds what those before it have left.")
    from pipeline.run.by_node.step import run_step

    run_step(profile, only, run_id, models=chosen, skip_unchanged=skip_unchanged)


def of_span(profile: PipelineConfig, span: str | None, window: str | None) -> PipelineConfig:
    """Returns the profile of the span that a command asks for.

    Raises:
      InputError: if a log by day is asked for without a day, a window without one, or either cannot be read.
    """
    from features.ingest.spans.config import parse_span, parse_window

    if span is not None:
        return profile.at_span(parse_span(span), None if window is None else parse_window(window))
    if window is not None:
        raise InputError("`--window` goes with `--span`, the newest of its days.")
    if profile.ingest.by_day:
        raise InputError(
            f"the tables of `{profile.name}` lie by day: say which with `--span`, as `--span 2026-11-24 --window 7d`."
        )
    return profile

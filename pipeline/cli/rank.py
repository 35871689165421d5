"""`clickmill rank`."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from pipeline.cli.console import err, out, read_request, require_folder


def rank(
    model: Annotated[
        str, typer.Option("--model", "-m", metavar="FOLDER", help="Pushed model: its folder, or one version of it.")
    ],
    request: Annotated[
        str, typer.Option("--request", "-r", metavar="FILE", help="A request as JSON; - reads standard input.")
    ],
    top: Annotated[int | None, typer.Option("--top", "-k", min=1, help="Show this many; all by default.")] = None,
    tables: Annotated[
        str | None,
        typer.Option(metavar="FOLDER", help="Store of bucket tables: long histories are read from it."),
    ] = None,
    signatures: Annotated[
        str | None,
        typer.Option(metavar="FOLDER", help="Signatures of items newer than the model (`clickmill bse sign`)."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Rank the candidates of one raw request with a pushed model."""
    require_folder(model)
    values = read_request(request)
    with err().status("Loading the model …"):
        from serving.ranker import Ranker

        ranker = (
            Ranker(model, signatures=signatures) if tables is None else Ranker.with_store(model, tables, signatures)
        )
        ranked = ranker.rank(values, top)
    if as_json:
        from dataclasses import asdict

        print(json.dumps({"model": str(ranker.directory), "ranked": [asdict(item) for item in ranked]}, indent=2))
        return
    from rich.table import Table

    table = Table("rank", "item_id", "score", "logit", title=f"{ranker.directory}", title_justify="left")
    for place, item in enumerate(ranked, start=1):
        name = f"candidate {item.index}" if item.item_id is None else str(item.item_id)
        table.add_row(str(place), name, f"{item.score:.4f}", f"{item.logit:+.3f}")
    out().print(table)

"""`clickmill rank`."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from features.errors import InputError
from pipeline.cli.console import err, out, read_request, require_folder


def rank(
    request: Annotated[
        str, typer.Option("--request", "-r", metavar="FILE", help="A request as JSON; - reads standard input.")
    ],
    model: Annotated[
        str | None,
        typer.Option("--model", "-m", metavar="FOLDER", help="Pushed model: its folder, or one version of it."),
    ] = None,
    release: Annotated[
        str | None,
        typer.Option(
            "--release",
            metavar="ID",
            help="A release: its id, a label as stable, or latest. --model is then the name of one of its models.",
        ),
    ] = None,
    root: Annotated[
        str, typer.Option("--root", metavar="FOLDER", help="Serving root of --release.")
    ] = "serving_models",
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
    if release is not None:
        require_folder(root)
        model, stored = _of_release(root, release, model)
        tables = tables or stored
    if model is None:
        raise InputError("name a pushed model by --model, or a release by --release.")
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


def _of_release(root: str, release: str, model: str | None) -> tuple[str, str | None]:
    """The folder of a release's ranker, by its name or the one that ends its cascade, and the store of its tables."""
    from serving.release.cascade_options import model_path, tables_path
    from serving.release.registry import Releases

    releases = Releases(root)
    found = releases.find(release)
    fine = [each.name for each in found.models if each.stage == "fine"]
    name = model or found.cascade_models.get("fine") or (fine[0] if len(fine) == 1 else None)
    if name is None:
        raise InputError(f"{found.id} has {len(fine)} fine rankers: name one by --model. {', '.join(fine)}".rstrip())
    return model_path(releases, found, name), tables_path(releases, found, name)

"""`clickmill recommend`: one raw request through the whole cascade. Imports stay inside the command, as in cli.py."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer


def recommend(
    two_tower: Annotated[Path, typer.Option("--two-tower", help="Pushed two-tower: its folder, or one version of it.")],
    ranker: Annotated[Path, typer.Option("--ranker", "-m", help="Pushed fine ranker.")],
    items: Annotated[Path, typer.Option("--items", help="Raw catalogue: catalogue/items.parquet of raw examples.")],
    request: Annotated[Path, typer.Option("--request", "-r", help="A request as JSON; - reads standard input.")],
    coarse: Annotated[Path | None, typer.Option("--coarse", help="Pushed coarse ranker; without, none.")] = None,
    tables: Annotated[
        Path | None, typer.Option("--tables", help="Store of bucket tables: long histories are read from it.")
    ] = None,
    retrieve: Annotated[int, typer.Option("--retrieve", help="Items that the two-tower finds, n1.")] = 1000,
    passed: Annotated[int, typer.Option("--pass", help="Items that the coarse ranker passes on, n2.")] = 200,
    top: Annotated[int, typer.Option("--top", "-k", help="Length of the list.")] = 10,
    explain: Annotated[
        bool, typer.Option("--explain", help="Show what each stage said and where the ranker looked.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Find the best items of the whole catalogue for one raw request: retrieve, rank coarsely, rank finely."""
    from evaluation.cascade.config import CascadeConfig
    from features.config import parse_model
    from pipeline.cli.app import _read_request, err, out

    for folder in (two_tower, ranker, *([coarse] if coarse else []), *([tables] if tables else [])):
        if not folder.is_dir():
            raise FileNotFoundError(f"{folder}: no such folder. `clickmill run` prints where it pushed its models.")
    sizes = {"retrieve": retrieve, "coarse": min(passed, retrieve), "top_k": top}
    config = parse_model(sizes, CascadeConfig, "clickmill recommend")
    values = _read_request(request)
    with err().status("Loading the models …"):
        from serving.cascade import Cascade

        cascade = Cascade.load(two_tower, ranker, items, coarse=coarse, tables=tables, config=config)
        listed = cascade.recommend(values, explain=explain)
    if as_json:
        from dataclasses import asdict

        shown = [{k: v for k, v in asdict(item).items() if v is not None} for item in listed]
        print(json.dumps({"ranker": str(cascade.ranker.directory), "items": shown}, indent=2))
        return
    out().print(_table(listed, str(cascade.ranker.directory), explain))
    if explain and any(item.attention for item in listed):
        out().print(_attention_table(listed))


def _table(listed, title: str, explain: bool):
    from rich.table import Table

    stages = list(listed[0].stages) if explain and listed else []
    table = Table("rank", "item_id", "score", "logit", *stages, title=title, title_justify="left")
    for place, item in enumerate(listed, start=1):
        said = [f"{item.stages[stage].score:+.3f} (rank {item.stages[stage].rank:,})" for stage in stages]
        table.add_row(str(place), str(item.item_id), f"{item.score:.4f}", f"{item.logit:+.3f}", *said)
    return table


def _attention_table(listed):
    """Where the fine ranker looked: not why it scored so."""
    from rich.table import Table

    table = Table("item_id", "strongest attention between fields", title="attention", title_justify="left")
    for item in listed:
        pairs = [
            f"{pair.field} → {pair.attends_to} {pair.weight:.2f} (layer {pair.layer + 1}, head {pair.head + 1})"
            for pair in item.attention or ()
        ]
        table.add_row(str(item.item_id), "\n".join(pairs))
    return table

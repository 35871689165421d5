"""`clickmill recommend`: one raw request through the whole cascade."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from features.errors import InputError
from pipeline.cli.console import err, out, read_request, require_folder


def _folder(text: str, *names: str):
    return typer.Option(*names, metavar="FOLDER", help=text)


def recommend(
    request: Annotated[
        str, typer.Option("--request", "-r", metavar="FILE", help="A request as JSON; - reads standard input.")
    ],
    run: Annotated[str | None, _folder("A run whose release is used, e.g. runs/simulated.", "--run")] = None,
    release: Annotated[
        str | None, typer.Option("--release", metavar="ID", help="A release: its id, a label as stable, or latest.")
    ] = None,
    root: Annotated[str, _folder("Serving root of --release.", "--root")] = "serving_models",
    two_tower: Annotated[str | None, _folder("Pushed two-tower; by default the release's.", "--two-tower")] = None,
    ranker: Annotated[str | None, _folder("Pushed fine ranker; by default the release's.", "--ranker", "-m")] = None,
    items: Annotated[
        str | None, typer.Option(metavar="FILE", help="Raw catalogue: catalogue/items.parquet of raw examples.")
    ] = None,
    coarse: Annotated[str | None, _folder("Pushed coarse ranker; without, none.", "--coarse")] = None,
    tables: Annotated[str | None, _folder("Store of bucket tables: long histories come from it.", "--tables")] = None,
    signatures: Annotated[
        str | None, _folder("Signatures of items newer than the ranker (`clickmill bse sign`).", "--signatures")
    ] = None,
    retrieve: Annotated[int | None, typer.Option(help="Items that the two-tower finds, n1; 1000 by default.")] = None,
    passed: Annotated[
        int | None, typer.Option("--pass", help="Items that the coarse ranker passes on, n2; 200 by default.")
    ] = None,
    top: Annotated[int | None, typer.Option("--top", "-k", help="Length of the list; 10 by default.")] = None,
    explain: Annotated[
        bool, typer.Option("--explain", help="Show what each stage said and where the ranker looked.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Find the best items of the whole catalogue for one raw request."""
    from evaluation.cascade.config import CascadeConfig
    from features.config import parse_model

    models = {"two_tower": two_tower, "ranker": ranker, "items": items, "coarse": coarse, "tables": tables}
    models["signatures"] = signatures
    sizes = {"retrieve": retrieve, "passed": passed, "top": top}
    chosen = {name: value for name, value in {**models, **sizes}.items() if value is not None}
    if run is not None and release is not None:
        raise InputError("name a run by --run or a release by --release, not both: a run has its own.")
    if run is not None or release is not None:
        found = _cascade_of(run, release, root)
        # Tables are one ranker's: another ranker brings its own.
        chosen = found | ({"tables": None} if ranker else {}) | chosen
    missing = [f"--{name.replace('_', '-')}" for name in ("two_tower", "ranker", "items") if name not in chosen]
    if missing:
        raise InputError(f"name a release by --release or a run by --run, or give {', '.join(missing)} too.")
    for name in ("two_tower", "ranker", "coarse", "tables"):
        if chosen.get(name):
            require_folder(chosen[name])
    retrieve = chosen.get("retrieve", 1000)
    sizes = {"retrieve": retrieve, "coarse": min(chosen.get("passed", 200), retrieve), "top_k": chosen.get("top", 10)}
    config = parse_model(sizes, CascadeConfig, "clickmill recommend")
    values = read_request(request)
    with err().status("Loading the models …"):
        from serving.cascade import Cascade

        loaded = {name: chosen.get(name) for name in models}
        cascade = Cascade.load(**loaded, config=config)
        listed = cascade.recommend(values, explain=explain)
    if as_json:
        from dataclasses import asdict

        shown = [{k: v for k, v in asdict(item).items() if v is not None} for item in listed]
        print(json.dumps({"ranker": str(cascade.ranker.directory), "items": shown}, indent=2))
        return
    out().print(_table(listed, str(cascade.ranker.directory), explain))
    if explain and any(item.attention for item in listed):
        out().print(_attention_table(listed))


def _cascade_of(run: str | None, release: str | None, root: str) -> dict[str, str | int | None]:
    """The options that a release stands for: that of a run, or one of a serving root."""
    from serving.release.cascade_options import cascade_options
    from serving.release.registry import Releases

    if run is not None:
        from pipeline.run.run_manifest import load_release

        return cascade_options(*load_release(run))
    require_folder(root)
    releases = Releases(root)
    return cascade_options(releases, releases.find(release))


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

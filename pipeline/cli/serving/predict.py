"""`clickmill predict`: files of requests, scored by a release or a pushed model."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from features.errors import InputError
from pipeline.cli.console import err, out, require_folder


def predict(
    requests: Annotated[
        list[str],
        typer.Argument(
            metavar="REQUESTS…", help="Files, folders or globs: one request a line (.jsonl) or Parquet row."
        ),
    ],
    output: Annotated[str, typer.Option("--out", "-o", metavar="FOLDER", help="Where the scores are written.")],
    model: Annotated[
        str | None, typer.Option("--model", "-m", metavar="FOLDER", help="Pushed ranker: its folder, or one version.")
    ] = None,
    tables: Annotated[
        str | None,
        typer.Option(metavar="FOLDER", help="Store of bucket tables of --model; without, `history` is read."),
    ] = None,
    root: Annotated[str, typer.Option(metavar="FOLDER", help="Serving root of --release.")] = "serving_models",
    release: Annotated[
        str | None,
        typer.Option(metavar="ID", help="A release: its id, a label as stable, or latest. Its tables are read."),
    ] = None,
    ranker: Annotated[
        str | None, typer.Option(metavar="NAME", help="Which of the release's rankers; its fine one by default.")
    ] = None,
    signatures: Annotated[
        str | None,
        typer.Option(metavar="FOLDER", help="Signatures of items newer than the ranker (`clickmill bse sign`)."),
    ] = None,
    top: Annotated[
        int | None,
        typer.Option("--top", "-k", min=1, help="Keep the best of each request, best first; all by default."),
    ] = None,
    max_rejected: Annotated[
        float, typer.Option(min=0, max=1, help="Fail where a larger share of requests cannot be ranked.")
    ] = 0.05,
    unit_mb: Annotated[
        int, typer.Option(min=1, help="Size of the parts that text files are cut into and scored whole, in MiB.")
    ] = 32,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Delete what another job left in --out.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Score files of requests with a release or a pushed model; what was scored before it was killed is kept."""
    if (model is None) == (release is None):
        raise InputError("say what scores: a ranker by --model, or a release by --release (with --root), not both.")
    if release is not None and tables is not None:
        raise InputError("a release names its tables: leave --tables out, or give the ranker by --model.")
    if model is not None and ranker is not None:
        raise InputError("--ranker is one of a release's models: leave it out beside --model.")
    for folder in (model, tables, root if release is not None else None):
        if folder is not None:
            require_folder(folder)
    with err().status("Scoring requests …"):
        from serving.offline.prediction import PredictionModel, predict_requests, released_model

        found = predict_requests(
            requests,
            output,
            PredictionModel(model, tables) if model is not None else released_model(root, release, ranker),
            signatures=signatures,
            top=top,
            max_rejected=max_rejected,
            unit_bytes=unit_mb << 20,
            overwrite=overwrite,
        )
    if as_json:
        print(json.dumps(found, indent=2))
        return
    total, job = found["total"], found["job"]
    named = " ".join([job["model"], *([] if job["model_version"] is None else [str(job["model_version"])])])
    named += f" of {job['release']}" if job["release"] else ""
    out().print(
        f"{output}: {total['requests']:,} requests by {named}: {total['scored']:,} scored ({total['candidates']:,} "
        f"candidates, {total['kept']:,} kept), {total['empty']:,} without candidates, {total['rejected']:,} rejected; "
        f"{found['scored_now']:,} of {found['units']:,} units scored now",
        soft_wrap=True,
    )

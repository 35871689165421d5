"""`clickmill release …`: what is served together, which of it a label names, and the way back."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from pipeline.cli.console import err, out, require_folder

release = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Releases: list, show, promote, roll back, prune what is served together.",
)

Root = Annotated[
    str, typer.Option("--root", metavar="FOLDER", help="The serving root: models, releases/ and labels.json.")
]
Named = Annotated[str, typer.Argument(metavar="RELEASE", help="Its id, a label that names it, or latest.")]
Label = Annotated[str, typer.Option("--label", "-l", help="The label, as stable or canary.")]
By = Annotated[str | None, typer.Option("--by", metavar="WHO", help="Who does it; the user of this shell by default.")]
Why = Annotated[str, typer.Option("--why", metavar="REASON", help="Kept with the decision, in decisions.jsonl.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
ROOT = "serving_models"


@release.command("list")
def list_(root: Root = ROOT, as_json: Json = False) -> None:
    """List all releases, the newest first, with the labels that name them."""
    releases = _open(root)
    found, labels = releases.all(), releases.labels()

    def labels_of(release_id: str) -> list[str]:
        return sorted(label for label, named in labels.items() if named == release_id)

    if as_json:
        rows = [
            {
                **each.model_dump(mode="json", include={"id", "created", "pipeline", "allowed_by"}),
                "labels": labels_of(each.id),
                "models": {model.name: model.version for model in each.models},
            }
            for each in found
        ]
        print(json.dumps(rows, indent=2))
        return
    from rich.table import Column, Table

    # An id that is cut is none.
    table = Table(Column("release", no_wrap=True), "labels", "pipeline", "models", "allowed by")
    for each in found:
        models = "\n".join(f"{model.name} {model.version}{' (kept)' if model.kept else ''}" for model in each.models)
        table.add_row(each.id, ", ".join(labels_of(each.id)), each.pipeline, models, each.allowed_by)
    out().print(table if found else f"{root} holds no release. `clickmill run` makes one of what it pushes.")


@release.command()
def show(
    name: Named,
    root: Root = ROOT,
    check: Annotated[bool, typer.Option(help="Read all files, and say what is missing or changed.")] = True,
    as_json: Json = False,
) -> None:
    """Show what a release names, how it was judged and its labels' moves; exit with 1 where something is missing."""
    from serving.release.contents import problems_of
    from serving.release.labels import label_moves

    releases = _open(root)
    found = releases.find(name)
    moves = [move for move in label_moves(releases) if found.id in (move.before, move.after)]
    with err().status("Reading its files …"):
        problems = problems_of(releases, found) if check else []
    if as_json:
        told = {"release": found.model_dump(mode="json"), "problems": problems if check else None}
        print(json.dumps({**told, "moves": [move.model_dump() for move in moves]}, indent=2))
    else:
        _show(releases, found, moves, problems if check else None)
    raise typer.Exit(1 if problems else 0)


@release.command()
def promote(
    name: Named,
    root: Root = ROOT,
    label: Label = "stable",
    by: By = None,
    why: Why = "",
    force: Annotated[
        bool, typer.Option("--force", help="Also where the label names a release of another pipeline.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Let a label name a release, in one step for readers, after all its files were checked."""
    from serving.release.labels import promote as move

    releases = _open(root)
    with err().status("Checking its files …"):
        moved = move(root, name, label, by=by, force=force, why=why)
    if moved is None and not as_json:
        out().print(f"{root}: {label} names {releases.labels()[label]} already", soft_wrap=True)
    else:
        _say(root, moved, as_json)


@release.command()
def rollback(root: Root = ROOT, label: Label = "stable", by: By = None, why: Why = "", as_json: Json = False) -> None:
    """Let a label name the release before its last promotion again; again goes further back."""
    from serving.release.labels import rollback as move

    _open(root)
    with err().status("Checking its files …"):
        moved = move(root, label, by=by, why=why)
    _say(root, moved, as_json)


@release.command()
def prune(
    root: Root = ROOT,
    keep: Annotated[int, typer.Option(help="How many releases of each pipeline stay, the newest.")] = 5,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be deleted, and delete nothing.")] = False,
    as_json: Json = False,
) -> None:
    """Delete old releases and what they alone named; what a label names, or would go back to, stays."""
    from serving.release.prune import plan_prune
    from serving.release.prune import prune as delete

    _open(root)
    plan = plan_prune(root, keep) if dry_run else delete(root, keep)
    if as_json:
        from dataclasses import asdict

        print(json.dumps({"deleted": not dry_run, **asdict(plan)}, indent=2))
        return
    what = "would be deleted" if dry_run else "deleted"
    for kind in ("releases", "models", "tables", "catalogues"):
        for each in getattr(plan, kind):
            out().print(f"{what}: {kind[:-1] if kind != 'tables' else kind} {each}", soft_wrap=True)
    for release_id, why in plan.kept.items():
        out().print(f"kept: {release_id}, {why}", soft_wrap=True)
    out().print(f"{len(plan.releases)} releases {what}, {plan.num_bytes:,} bytes", soft_wrap=True)


def _open(root: str):
    from serving.release.registry import Releases

    require_folder(root)
    return Releases(root)


def _say(root: str, move, as_json: bool) -> None:
    if as_json:
        print(json.dumps({"move": None if move is None else move.model_dump()}, indent=2))
        return
    before = f", {move.before} before" if move.before else ""
    out().print(f"{root}: {move.label} names {move.after}{before}", soft_wrap=True)


def _show(releases, found, moves, problems) -> None:
    from rich.table import Table

    names = sorted(label for label, named in releases.labels().items() if named == found.id)
    out().print(f"{found.id}, labels: {', '.join(names) or 'none'}", soft_wrap=True)
    out().print(f"created {found.created}, allowed by {found.allowed_by or 'nobody that is known'}", soft_wrap=True)
    table = Table("model", "version", "stage", "bucket tables", "judged by")
    for model in found.models:
        tables = found.tables_of(model.name)
        judged = "\n".join(f"{name} {value:.4f}" for name, value in found.metrics.get(model.name, {}).items())
        version = f"{model.version}{' (kept)' if model.kept else ''}"
        table.add_row(model.name, version, model.stage, tables.version if tables else "", judged)
    out().print(table)
    if found.cascade is not None:
        chain = " → ".join(found.cascade_models.values())
        sizes = f"{found.cascade.retrieve:,} → {found.cascade.coarse:,} → {found.cascade.top_k:,}"
        out().print(f"cascade: {chain}, {sizes} items of {found.catalogue}", soft_wrap=True)
    if found.profiles is not None:
        out().print(f"profiles of users: {found.profiles}", soft_wrap=True)
    for key in ("spec", "config", "data"):
        if getattr(found, key):
            out().print(f"{key}: {getattr(found, key)}", soft_wrap=True)
    for move in moves:
        out().print(
            f"{move.at}: {move.label} {move.before or 'nothing'} → {move.after}, {move.how} by {move.by}",
            soft_wrap=True,
        )
    if problems is not None:
        out().print("all files are there and unchanged" if not problems else "\n".join(problems), soft_wrap=True)

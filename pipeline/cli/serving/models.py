"""`clickmill models …`: the models that releases name, how they were judged, and who decided on them."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Annotated

import typer

from features.errors import InputError, NotFoundError
from pipeline.cli.console import out, require_folder

models = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Models of the releases: list, compare, show, and allow one that failed gates.",
)

Root = Annotated[
    str, typer.Option("--root", metavar="FOLDER", help="The serving root: models, releases/ and labels.json.")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
ROOT = "serving_models"


@models.command("list")
def list_(root: Root = ROOT, as_json: Json = False) -> None:
    """List the versions of all models that releases name, with the labels of these releases."""
    from serving.release.model_history import model_versions

    found = model_versions(_open(root))
    if as_json:
        print(json.dumps([asdict(each) for each in found], indent=2))
        return
    from rich.table import Column, Table

    table = Table("model", Column("version", no_wrap=True), "stage", "kind", "labels", "releases", "judged by")
    for each in found:
        judged = ", ".join(f"{name} {value:.4f}" for name, value in list(each.metrics.items())[:3])
        counted = str(len(each.releases))
        table.add_row(each.model, str(each.version), each.stage, each.kind, ", ".join(each.labels), counted, judged)
    out().print(table)


@models.command()
def show(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="Its folder in the root, as shop_autoint.")],
    root: Root = ROOT,
    as_json: Json = False,
) -> None:
    """Show the versions of a model, and every decision on it and on the releases that name it."""
    from serving.release.decisions import read_decisions
    from serving.release.model_history import model_versions

    versions = model_versions(_open(root), model)
    named = {release for each in versions for release in each.releases}
    decisions = [each for each in read_decisions(root) if each.what == model or each.what in named]
    if as_json:
        told = [each.model_dump(mode="json") for each in decisions]
        print(json.dumps({"versions": [asdict(each) for each in versions], "decisions": told}, indent=2))
        return
    for each in versions:
        labels = f", {', '.join(each.labels)}" if each.labels else ""
        out().print(f"{model} {each.version}{labels}: {each.stage}, {each.kind}", soft_wrap=True, markup=False)
        for name, value in each.metrics.items():
            out().print(f"  {name} {value:.4f}", soft_wrap=True, markup=False)
        out().print(f"  in {', '.join(each.releases)}", soft_wrap=True, markup=False)
    for decision in decisions:
        why = f": {decision.why}" if decision.why else ""
        line = f"{decision.at} {decision.how} {decision.what} by {decision.by}{why}"
        out().print(line, soft_wrap=True, markup=False)


@models.command()
def diff(
    before: Annotated[str, typer.Argument(metavar="BEFORE", help="A release: its id, a label, or latest.")],
    after: Annotated[str, typer.Argument(metavar="AFTER", help="The other one.")] = "latest",
    root: Root = ROOT,
    as_json: Json = False,
) -> None:
    """Say what two releases differ in: versions of models and their metrics, data, configuration, catalogue."""
    from serving.release.model_history import differences

    releases = _open(root)
    old, new = releases.find(before), releases.find(after)
    found = differences(old, new)
    if as_json:
        print(json.dumps({"before": old.id, "after": new.id, **found}, indent=2))
        return
    out().print(f"{old.id} → {new.id}", soft_wrap=True)
    for name, each in found["models"].items():
        out().print(f"{name}: {each['before'] or 'none'} → {each['after'] or 'none'}", soft_wrap=True)
        for metric, (was, now) in each["metrics"].items():
            out().print(f"  {metric} {was:.4f} → {now:.4f} ({now - was:+.4f})", soft_wrap=True)
    for fact in found["facts"]:
        out().print(f"{fact}: another", soft_wrap=True)
    if not found["models"] and not found["facts"]:
        out().print("they name the same", soft_wrap=True)


@models.command()
def bless(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="Of the profile, as autoint.")],
    profile: Annotated[str, typer.Option("--config", "-c", metavar="FILE", help="Pipeline profile that trained it.")],
    override: Annotated[
        bool, typer.Option("--override", help="Allow it although it failed gates; without, only say which.")
    ] = False,
    reason: Annotated[str, typer.Option("--reason", metavar="WHY", help="Kept with the decision.")] = "",
    by: Annotated[str | None, typer.Option("--by", metavar="WHO", help="Who decides; the user by default.")] = None,
    as_json: Json = False,
) -> None:
    """Allow the model of the last run in spite of the gates that it failed; the next run of the profile pushes it."""
    from pipeline.config import load_profile
    from pipeline.release.refused_model import refused_model

    config = load_profile(profile)
    found = refused_model(config, model)
    if not override:
        gates = "; ".join(f"{name}: {why}" for name, why in found.failed_gates.items())
        raise InputError(f"{model} failed {gates}. To allow it nevertheless: --override --reason '…'.")
    from pipeline.release.override import override as allow

    made = allow(config.push_dir(model), found.saved_model, found.failed_gates, reason, by)
    if as_json:
        print(json.dumps(made.model_dump(mode="json"), indent=2))
        return
    out().print(f"{made.what}: allowed by {made.by}: {made.why}", soft_wrap=True, markup=False)
    out().print(f"  clickmill run --config {profile}: evaluates, tries, pushes and releases it", soft_wrap=True)


def _open(root: str):
    from serving.release.registry import Releases

    require_folder(root)
    if not Releases(root).ids():
        raise NotFoundError(f"{root} holds no release. `clickmill run` makes one of what it pushes.")
    return Releases(root)

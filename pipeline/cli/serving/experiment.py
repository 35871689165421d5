"""`clickmill experiment …`: the experiments of a gateway, before traffic is split by them and after."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from pipeline.cli.console import out

experiment = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Experiments of a gateway: check a file of layers, variants and shares; read what came of one.",
)


@experiment.command()
def check(
    file: Annotated[str, typer.Argument(metavar="FILE", help="YAML of the experiments.")],
    users: Annotated[
        int, typer.Option(min=1, max=10_000_000, help="The users 0, 1, 2, … that are assigned, to count them.")
    ] = 100_000,
    user: Annotated[
        list[str] | None,
        typer.Option(
            "--user", "-u", metavar="ID", help="Say what this user gets; an integer as int:7. May be repeated."
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Check a file of experiments; show shares, users of each variant, and how many move from the version before."""
    from serving.experiments.assignment import Experiments
    from serving.experiments.config import ExperimentsConfig
    from serving.experiments.layer_summary import summarize

    config = ExperimentsConfig.load(file)
    layers = [summarize(layer, users) for layer in config.layers]
    here = Experiments(config)
    assigned = {name: here.assign(_id(name)) for name in user or ()}
    if as_json:
        told = {name: {"variants": each.variants, "release": each.release} for name, each in assigned.items()}
        print(json.dumps({"layers": [layer._asdict() for layer in layers], "users": told}, indent=2))
        return
    from rich.table import Column, Table

    right = {"justify": "right", "no_wrap": True}
    table = Table("layer", "variant", Column("share", **right), Column(f"of {users:,}", **right), "release", "explores")
    for layer in layers:
        for row in layer.variants:
            share = f"{row['share'] / 100:.2f} %"
            table.add_row(
                layer.name, row["variant"], share, f"{row['users']:,}", row["release"] or "", row["policy"] or ""
            )
    nothing = f"{file} holds no experiment: all traffic is the followed release's."
    out().print(table if layers else nothing, soft_wrap=not layers)
    for layer in layers:
        if layer.moved is not None:
            out().print(f"{layer.name}: {layer.moved / 100:.2f} % of its users move from the version before.")
    for name, each in assigned.items():
        told = ", ".join(f"{layer}={variant}" for layer, variant in each.variants.items()) or "in no experiment"
        out().print(f"user {name}: {told}", soft_wrap=True)


@experiment.command()
def read(
    plan: Annotated[str, typer.Argument(metavar="PLAN", help="YAML of what is read: logs, variants, shares, metrics.")],
    to: Annotated[
        str | None,
        typer.Option("--out", "-o", metavar="DIR", help="Write experiment.html and experiment.json here."),
    ] = None,
    looks: Annotated[
        str | None,
        typer.Option("--looks", metavar="FILE", help="The ledger of looks; looks.json in --out by default."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Read a live A/B test: differences with intervals and verdicts, sample ratio, slices, days."""
    from evaluation.replay.experiment.experiment_plan import ExperimentPlan, look_at, read_plan, users_of
    from evaluation.replay.verdicts.looks import read_looks
    from features import storage
    from pipeline.cli.console import err
    from pipeline.cli.serving.experiment_tables import show

    planned = ExperimentPlan.load(plan)
    ledger = looks or (storage.join(to, "looks.json") if to else None)
    with err().status("Reading the logs …"):
        users = users_of(planned)
        # The look counts before anything is shown; what is refused is not read.
        counted = read_looks(ledger, planned.interval).count(look_at(users), planned.interval) if ledger else None
        report = read_plan(planned, users)
    if counted is not None:
        counted.write(ledger)
    if to:
        from evaluation.report.replay.pages import write_experiment_page

        storage.write_text(storage.join(to, "experiment.json"), report.model_dump_json(indent=2) + "\n")
        write_experiment_page(report, storage.join(to, "experiment.html"))
    if as_json:
        print(report.model_dump_json(indent=2))
        return
    show(report)
    if to:
        out().print(f"page: {storage.join(to, 'experiment.html')}", soft_wrap=True, highlight=False, markup=False)


def _id(text: str) -> str | int:
    from features.errors import InputError

    if not text.startswith("int:"):
        return text
    try:
        return int(text.removeprefix("int:"))
    except ValueError as error:
        raise InputError(f"`--user {text}`: after int: stands an integer.") from error

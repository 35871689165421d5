"""The command line: a table of commands, each imported when it is called, and what becomes of their errors."""

from __future__ import annotations

import importlib
import os
import warnings

import typer
from typer.core import TyperGroup

from pipeline.cli.console import LOG, err, explain

#: Every command: where its function (or the group of its own commands) stands, and its line of `clickmill --help`.
COMMANDS = {
    "run": ("pipeline.cli.run:run", "Run the pipeline: from raw logs to evaluated, blessed and pushed models."),
    "logs": ("pipeline.cli.data.logs:logs", "Look at a log before it is run: what would be lost of it, and why."),
    "spec": ("pipeline.cli.data.spec_init:spec", "Propose a feature spec and a profile for a log."),
    "simulate": (
        "pipeline.cli.data.simulate:simulate",
        "Simulate a marketplace whose truth is known, and write its logs.",
    ),
    "rank": ("pipeline.cli.rank:rank", "Rank the candidates of one raw request with a pushed model."),
    "recommend": (
        "pipeline.cli.recommend:recommend",
        "Find the best items of the whole catalogue for one raw request.",
    ),
    "report": ("pipeline.cli.report:report", "Show a finished run's figures and draw its report page again."),
    "dataset": ("pipeline.cli.data.dataset:dataset", "Download a public data set as log contract tables."),
    "doctor": ("pipeline.cli.doctor:doctor", "Check this machine, and say how to get what is missing."),
    "anchor": ("pipeline.cli.anchor:anchor", "The version that the losses of later ones are judged against."),
    "predict": (
        "pipeline.cli.serving.predict:predict",
        "Score files of requests with a release or a pushed model; what was scored before it was killed is kept.",
    ),
    "serve": (
        "pipeline.cli.serving.serve:serve",
        "Serve models over gRPC and REST, as TensorFlow Serving does.",
    ),
    "gateway": (
        "pipeline.cli.serving.gateway_command:gateway",
        "Recommend and rank over HTTP: the cascade of a release, over a model server.",
    ),
    "release": (
        "pipeline.cli.serving.release:release",
        "Releases: list, show, promote, roll back, prune what is served together.",
    ),
    "replay": (
        "pipeline.cli.serving.replay_command:replay",
        "Say from logs whether a candidate would have earned more than a baseline, and whether that can be told.",
    ),
    "experiment": (
        "pipeline.cli.serving.experiment:experiment",
        "Experiments of a gateway: check a file of layers, variants and shares.",
    ),
    "bse": ("pipeline.cli.bse:bse", "Bucket tables of long histories (BSE): sign, build, read, append, verify."),
    "profiles": ("pipeline.cli.serving.profiles:profiles", "Profiles of users: build, read, verify."),
}
_SETTINGS = {"add_completion": False, "pretty_exceptions_enable": False, "rich_markup_mode": None}


class LazyGroup(TyperGroup):
    """The commands of the table. Help reads the table alone; every error ends in a message and an exit code."""

    def __init__(self, **settings):
        super().__init__(**settings)
        self.commands = dict.fromkeys(COMMANDS)  # their names: for lists and for "Did you mean"

    def get_command(self, ctx, cmd_name):
        if cmd_name not in COMMANDS:
            return None
        module, _, name = COMMANDS[cmd_name][0].partition(":")
        found = getattr(importlib.import_module(module), name)
        if isinstance(found, typer.Typer):
            return typer.main.get_group(found)
        alone = typer.Typer(**_SETTINGS)
        alone.command(cmd_name)(found)
        return typer.main.get_command(alone)

    def format_commands(self, ctx, formatter):
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])

    def invoke(self, ctx):
        try:
            return super().invoke(ctx)
        except (typer.TyperException, typer.Exit, typer.Abort, BrokenPipeError):
            raise  # typer answers these
        except Exception as error:
            from rich.text import Text

            message, code = explain(error, ctx.meta.get(LOG))
            err().print(Text.assemble(("clickmill:", "bold red"), " ", message), soft_wrap=True)
            raise typer.Exit(code) from error


app = typer.Typer(cls=LazyGroup, no_args_is_help=True, **_SETTINGS)


@app.callback()
def clickmill() -> None:
    """Clickmill: from impression and click logs to a ranker that was evaluated, blessed and pushed."""


def main() -> None:
    """The console script `clickmill`."""
    # TensorFlow tells of missing GPUs, Google libraries of the Python version, at every start: nothing to act on.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"google\.")
    app()


if __name__ == "__main__":
    main()

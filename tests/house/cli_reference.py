"""Makes docs/reference/cli.md from the commands' own help: `python -m tests.house.cli_reference`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import typer

from pipeline.cli.app import app
from tests.house.structure import ROOT

PAGE = ROOT / "docs" / "reference" / "cli.md"
HEAD = """# The command line

`clickmill --help` and `clickmill COMMAND --help` say the same. This page is written by `make docs`.

Exit codes: 0; 1, a run or a check did not end well; 2, an argument, a file or a request cannot be used as it is; 70, a
defect of Clickmill, whose traceback is in the log that the message names; 75, another run of the profile is under way;
99, there is nothing new. Errors go to standard error, one line each.
"""


def commands(group: Any = None, prefix: str = "clickmill") -> Iterator[tuple[str, Any]]:
    """Yields (full name, command) of every command, those of groups too."""
    group = group or typer.main.get_command(app)
    context = group.context_class(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if hasattr(command, "list_commands"):
            if command.invoke_without_command:  # a command itself, beside those in it
                yield f"{prefix} {name}", command
            yield from commands(command, f"{prefix} {name}")
        else:
            yield f"{prefix} {name}", command


def describe(name: str, command: Any) -> Iterator[str]:
    """Yields the lines on one command."""
    context = command.context_class(command, info_name=name)
    yield f"## {name}\n"
    yield f"{' '.join((command.help or '').split(chr(12))[0].split())}\n"
    yield f"    {' '.join([name, *command.collect_usage_pieces(context)])}\n"
    rows = []
    for parameter in command.params:
        record = parameter.get_help_record(context)
        if record and "--help" not in parameter.opts:
            written, what = (" ".join(cell.split()).replace("|", "\\|") for cell in record)
            rows.append(f"| `{written}` | {what} |")
    if rows:
        yield "| option | |\n|---|---|"
        yield from rows
    yield ""


def page() -> str:
    """Returns the text of docs/reference/cli.md."""
    lines = [HEAD]
    for name, command in commands():
        lines += describe(name, command)
    return "\n".join(lines).rstrip() + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    print(f"written: {PAGE}")

"""Makes docs/results.md, the table of all figures, from the records: `python -m benchmarks results`."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

from benchmarks import records

PAGE = Path(__file__).parents[1] / "docs" / "results.md"
HEAD = """# Results

Measured on two shared cores unless a row says otherwise; ± is the standard deviation over seeds. Each row is printed by
the command beside it and computed from its record in `benchmarks/results/`. This page is written by
`python -m benchmarks results`. The long benchmarks run for hours and go on where they were stopped; `training` builds
the environments of DeepCTR and FuxiCTR itself (`--rivals-python`).
"""


def table(benchmarks: dict[str, ModuleType]) -> str:
    """Returns the table in Markdown; benchmarks without a record are left out."""
    lines = ["| what | measured | command |", "|---|---|---|"]
    for name, module in benchmarks.items():
        record = records.read(module.__name__.split(".")[1], name)
        if record is not None:
            command = f"`.venv/bin/python -m benchmarks {name}`"
            lines += [f"| {what} | {figure} | {command} |" for what, figure in module.figures(record)]
    return "\n".join(lines)


def page(benchmarks: dict[str, ModuleType]) -> str:
    """Returns the text of docs/results.md."""
    return f"{HEAD}\n{table(benchmarks)}\n"


def write(benchmarks: dict[str, ModuleType]) -> Path:
    """Writes docs/results.md."""
    PAGE.write_text(page(benchmarks), encoding="utf-8")
    return PAGE

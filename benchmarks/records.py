"""What benchmarks leave: records in git, which docs/results.md is made of, and every finished run aside.

`benchmarks/results/FOLDER/NAME.json` holds means, deviations and the headline figure of each seed, in under 200 lines;
`[mean, deviation]` stands for a figure over seeds.
The runs themselves, with all their figures, are in `data/benchmarks/records/NAME.json`, which git ignores; from there a
benchmark of many trainings goes on where it was stopped.
"""

from __future__ import annotations

import fcntl
import json
import math
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
RUNS = Path("data/benchmarks/records")
WIDTH = 240


class Sweep:
    """The finished runs of a benchmark of many trainings; several processes may add to them.

    Args:
      name: of the benchmark.
      folder: holds the file.
    """

    def __init__(self, name: str, folder: Path = RUNS):
        self._path = folder / f"{name}.json"

    @property
    def runs(self) -> list[dict]:
        return json.loads(self._path.read_text())["runs"] if self._path.exists() else []

    def find(self, wanted: dict) -> dict | None:
        """Returns the finished run of these settings."""
        return next((run for run in self.runs if _is_of(run, wanted)), None)

    def add(self, wanted: dict, run: dict) -> None:
        """Keeps a run; one of the same settings gives way to it."""
        from features import storage

        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            runs = [other for other in self.runs if not _is_of(other, wanted)] + [without_nan(run)]
            storage.write_text(self._path, json.dumps({"runs": runs}, indent=1) + "\n")

    def do(self, wanted: dict, measure: Callable[[dict], dict]) -> None:
        """Measures what is wanted unless it was, keeps it, and prints its test figures.

        Args:
          wanted: settings of the run, which tell it from all others.
          measure: takes the settings and returns the figures.
        """
        if self.find(wanted) is None:
            run = {**wanted, **measure(wanted)}
            self.add(wanted, run)
            print(
                *(v for v in wanted.values() if isinstance(v, str | int | float)), json.dumps(run["test"]), flush=True
            )


def _is_of(run: dict, wanted: dict) -> bool:
    return all(run.get(name) == value for name, value in json.loads(json.dumps(wanted)).items())


def spread(values: list[float | None]) -> list[float | None]:
    """[mean, standard deviation] of a figure over seeds: no deviation of one value, neither of undefined ones."""
    if None in values:
        return [None, None]
    return [statistics.mean(values), statistics.stdev(values) if len(values) > 1 else None]


def spreads(values: list[dict]) -> dict:
    """Spreads of the numbers in dictionaries of one form; lists of numbers are left out."""
    found = {}
    for name, first in values[0].items():
        if isinstance(first, dict):
            found[name] = spreads([value[name] for value in values])
        elif not isinstance(first, list):
            found[name] = spread([value[name] for value in values])
    return found


def show(value: list[float | None]) -> str:
    """A spread as it stands in tables."""
    mean, deviation = value
    return f"{mean:.4f}" + (f" ± {deviation:.4f}" if deviation is not None else "")


def without_nan(record: Any) -> Any:
    """The record with None for NaN, which JSON does not have."""
    if isinstance(record, dict):
        return {name: without_nan(value) for name, value in record.items()}
    if isinstance(record, list):
        return [without_nan(value) for value in record]
    return None if isinstance(record, float) and math.isnan(record) else record


def read(folder: str, name: str) -> dict | None:
    """Returns a record in git, None where there is none."""
    path = RESULTS / folder / f"{name}.json"
    return json.loads(path.read_text()) if path.exists() else None


def write(folder: str, name: str, record: dict) -> Path:
    """Writes a record in git; in a summary only the rows of `record` are replaced, as not all runs may be at hand."""
    from features import storage

    path = RESULTS / folder / f"{name}.json"
    before = (read(folder, name) or {}).get("summary", {})
    if "summary" in record:
        record = {**record, "summary": _replaced(before, record["summary"])}
    storage.write_text(path, _laid_out(_rounded(without_nan(record))) + "\n")
    return path


def _replaced(before: dict, after: dict) -> dict:
    """`after` over `before`, down to the rows, which name their seeds."""
    found = dict(before)
    for name, value in after.items():
        inner = isinstance(value, dict) and "seeds" not in value and isinstance(before.get(name), dict)
        found[name] = _replaced(before[name], value) if inner else value
    return found


def _rounded(value: Any) -> Any:
    """Eight digits say more than runs repeat, and leave what is shown as it is."""
    if isinstance(value, dict):
        return {name: _rounded(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(each) for each in value]
    return float(f"{value:.8g}") if isinstance(value, float) else value


def _laid_out(value: Any, indent: int = 0) -> str:
    """JSON of one line for each value that fits on one."""
    line = json.dumps(value, ensure_ascii=False)
    if len(line) + indent <= WIDTH or not isinstance(value, dict | list):
        return line
    inner, pad = indent + 1, " " * (indent + 1)
    if isinstance(value, dict):
        parts = [f"{json.dumps(name, ensure_ascii=False)}: {_laid_out(each, inner)}" for name, each in value.items()]
    else:
        parts = [_laid_out(each, inner) for each in value]
    opening, closing = ("{", "}") if isinstance(value, dict) else ("[", "]")
    return opening + "\n" + ",\n".join(pad + part for part in parts) + "\n" + " " * indent + closing

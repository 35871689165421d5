"""Runs a benchmark: `python -m benchmarks NAME [options]`; `--help` says what it measures and which options it has.

    python -m benchmarks                 lists the benchmarks
    python -m benchmarks results         writes docs/results.md from benchmarks/results/

A benchmark is a module with a row here, `OPTIONS` (name: default, what it is, choices), `run(options)`, which measures
and returns the record that is kept in git, and `figures(record)`, the rows (what, measured) that the record gives
docs/results.md. `options.work`, an ignored folder, is its own.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from pathlib import Path
from types import ModuleType

import models  # noqa: F401  sets the Keras of the project before TensorFlow is imported
from benchmarks import records, results_page
from benchmarks.processes import limit_threads

#: Every benchmark and its folder, in the order of docs/results.md.
BENCHMARKS = {
    "data_prep": "throughput",
    "skewed_logs": "throughput",
    "training": "throughput",
    "simulator": "throughput",
    "ranking_evaluation": "evaluation",
    "verdicts": "evaluation",
    "coverage": "replay",
    "replay_bias": "replay",
    "replay_failures": "replay",
    "replay_effects": "replay",
    "json_request": "throughput",
    "ranking_request": "throughput",
    "large_vocabulary": "throughput",
    "simulated_lead": "rankers",
    "movielens_1m": "rankers",
    "sdim": "throughput",
    "uneven_slates": "throughput",
    "long_interest": "rankers",
    "recency": "rankers",
    "unsigned_items": "rankers",
    "bse_job": "bse",
    "bse_store": "bse",
    "bse_parity": "bse",
    "ssl": "candidates",
    "hcn": "candidates",
    "hcn_catalogue": "candidates",
    "aw_moe": "rankers",
    "id_memorisation": "rankers",
    "cascade_models": "candidates",
    "cascade": "candidates",
    "server_load": "serving",
    "batching": "serving",
    "gateway": "serving",
    "behaviors": "serving",
    "replay_oracles": "replay",
    "replay_cost": "replay",
    "replay_cascade": "replay",
    "warm_days": "rankers",
}


def load(name: str) -> ModuleType:
    """Imports the module of a benchmark."""
    return importlib.import_module(f"benchmarks.{BENCHMARKS[name]}.{name}")


def parse(name: str, arguments: list[str]) -> argparse.Namespace:
    """Reads a benchmark's options: its own, and `--work` and `--threads`, which all have."""
    module = load(name)
    parser = argparse.ArgumentParser(
        prog=f"python -m benchmarks {name}",
        description=module.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    common = {
        "work": (Path("data/benchmarks") / name, "folder of what it makes"),
        "threads": (0, "of TensorFlow; 0: it decides"),
    }
    for option, (default, what, *choices) in {**common, **module.OPTIONS}.items():
        several = isinstance(default, list)
        kind = type(default[0] if several else default)
        wanted = {"action": "store_true"} if kind is bool else {"type": kind, "default": default}
        wanted |= {"nargs": "+"} if several else {}
        wanted |= {"choices": list(choices[0])} if choices else {}
        shown = "" if kind is bool else " (default: %(default)s)"
        parser.add_argument(f"--{option.replace('_', '-')}", help=what + shown, **wanted)
    return parser.parse_args(arguments)


def main(arguments: list[str]) -> None:
    name, *rest = arguments or ["--help"]
    if name == "results":
        print(f"written: {results_page.write({each: load(each) for each in BENCHMARKS})}")
    elif name not in BENCHMARKS:
        print(__doc__, "\n".join(BENCHMARKS), sep="\n")
        sys.exit(0 if name in ("-h", "--help") else f"\n{name} is not a benchmark.")
    else:
        options, module = parse(name, rest), load(name)
        limit_threads(options.threads)
        record = module.run(options)
        if record is not None:
            print(f"written: {records.write(BENCHMARKS[name], name, record)}")
            for what, measured in module.figures(record):
                print(f"{what}: {measured}")


if __name__ == "__main__":
    main(sys.argv[1:])

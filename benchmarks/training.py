"""How fast AutoInt trains, beside DeepCTR's and FuxiCTR's: `python -m benchmarks.training`.

Every side trains the same AutoInt (10 fields, width 16, 3 layers of 2 heads × 32, no feed-forward network, Adam) on the
same simulated rows in batches of 1,024, on the same cores, each in a process and an environment of its own. They are
warmed up by an epoch, then take turns (A B C A B C …); numbers are medians over the rounds. Beside examples a second
stand examples a processor second, which other load on the machine disturbs less.

Clickmill trains on requests of many candidates, whose user and context it embeds once, and on the same rows one by one
("point-wise"), where it has no such advantage. FuxiCTR is measured with its own loader and with batches in memory. It
adds the residual without a projection in all but the first layer: it computes a little less than the others.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results" / "training.json"
SIZES = {"batch_size": 1024, "embedding_dim": 16, "num_layers": 3, "num_heads": 2, "head_dim": 32}
OPTIMIZERS = ("lazy_adam", "adagrad", "adam")


class Worker:
    """A process that measures itself whenever it is asked (rivals/worker.py)."""

    def __init__(self, python: str | Path, script: str, settings: dict):
        # The interpreter's path stays as it is: a resolved link would leave the virtual environment.
        command = [str(python), str(HERE / "rivals" / f"{script}.py"), json.dumps(settings)]
        environment = {**os.environ, "PYTHONPATH": str(HERE.parent)}
        errors = None if os.environ.get("CLICKMILL_BENCHMARK_STDERR") else subprocess.DEVNULL
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": errors}
        self.name, self.rounds = script, []
        self._process = subprocess.Popen(command, env=environment, text=True, **pipes)
        self._read()  # ready: built, compiled, warm

    def measure(self) -> None:
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        self.rounds.append(self._read())

    def close(self) -> None:
        self._process.stdin.close()
        self._process.wait()

    def summary(self) -> dict:
        """Medians over rounds: `per_second`, `per_cpu_second`; and every round."""
        rates = {f"per_{of}": [r["count"] / r[f"{of}s"] for r in self.rounds] for of in ("second", "cpu_second")}
        return {**{name: round(statistics.median(values), 1) for name, values in rates.items()}, "rounds": self.rounds}

    def _read(self) -> dict:
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"{self.name} ended early. CLICKMILL_BENCHMARK_STDERR=1 shows why.")
        return json.loads(line)


def in_turns(workers: dict[str, Worker], rounds: int) -> dict[str, dict]:
    for index in range(rounds):
        for name, worker in workers.items():
            print(f"round {index + 1} of {rounds}: {name}", flush=True)
            worker.measure()
    for worker in workers.values():
        worker.close()
    return {name: worker.summary() for name, worker in workers.items()}


def main() -> None:
    from benchmarks import environments, training_data

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--impressions", type=int, default=120_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--table-rows", type=int, default=1_000_000)
    parser.add_argument("--work", type=Path, default=HERE.parent / "data" / "benchmark_training")
    parser.add_argument("--rivals-python", default="python3.11", help="interpreter of the rivals' environments")
    parser.add_argument("--torch", default="torch==2.13.0", help="requirement; see benchmarks/environments.py for CPU")
    arguments = parser.parse_args()

    deepctr = environments.deepctr(arguments.rivals_python)
    fuxictr = environments.fuxictr(arguments.rivals_python, arguments.torch)
    data = training_data.prepare(arguments.work.resolve(), arguments.impressions)
    cores = sorted(os.sched_getaffinity(0))[: arguments.threads]
    settings = {"cores": cores, **SIZES, **data}
    requests, pointwise = ({**settings, "examples": data[name]} for name in ("requests", "pointwise"))

    def clickmill(of: dict, mode: str) -> Worker:
        return Worker(sys.executable, "clickmill_autoint", {**of, "mode": mode})

    def rival(mode: str, arrays: str) -> Worker:
        of = {**settings, "mode": mode, "arrays": data[arrays]}
        return Worker(fuxictr, "fuxictr_autoint", of)

    training = in_turns(
        {
            "clickmill": clickmill(requests, "train"),
            "clickmill, point-wise": clickmill(pointwise, "train"),
            "deepctr": Worker(deepctr, "deepctr_autoint", settings),
            "fuxictr, batches in memory": rival("memory", "arrays"),
            "fuxictr, its loader": rival("loader", "head"),
        },
        arguments.rounds,
    )
    pipeline = in_turns(
        {"requests": clickmill(requests, "input"), "point-wise": clickmill(pointwise, "input")}, arguments.rounds
    )
    table = {**settings, "rows": arguments.table_rows, "seconds": 2.0}
    optimizers = in_turns(
        {name: Worker(sys.executable, "large_table", {**table, "optimizer": name}) for name in OPTIMIZERS},
        arguments.rounds,
    )
    result = {
        "threads": len(cores),
        "rounds": arguments.rounds,
        "examples": data["examples"],
        "candidates_per_request": round(data["examples"] / data["requests_count"], 1),
        "fields": len(data["vocabulary_sizes"]),
        **SIZES,
        "table_rows": arguments.table_rows,
        "load_average": round(os.getloadavg()[0], 1),
        "training": training,
        "input_pipeline": pipeline,
        "optimizers": optimizers,
    }
    aside = RESULTS.with_suffix(".tmp")
    RESULTS.parent.mkdir(exist_ok=True)
    aside.write_text(json.dumps(result, indent=1) + "\n")
    os.replace(aside, RESULTS)
    show(result)


def show(result: dict) -> None:
    """Prints each figure and its ratio to Clickmill's."""
    from rich.console import Console
    from rich.table import Table

    training, pipeline, optimizers = (result[name] for name in ("training", "input_pipeline", "optimizers"))
    of_pipeline = {"requests": training["clickmill"], "point-wise": training["clickmill, point-wise"]}
    sections = (
        ("AutoInt, examples", "clickmill is … times", training, dict.fromkeys(training, training["clickmill"]), False),
        ("Input pipeline alone, examples", "times its training", pipeline, of_pipeline, True),
        (f"Optimisers, {result['table_rows']:,} rows, steps", "lazy Adam is … times", optimizers,
         dict.fromkeys(optimizers, optimizers["lazy_adam"]), False),
    )  # fmt: skip
    for title, ratio, rows, others, over in sections:
        table = Table("", "a second", ratio, "a processor second", ratio, title=title)
        for name, row in rows.items():
            cells = []
            for per in ("per_second", "per_cpu_second"):
                quotient = row[per] / others[name][per]
                cells += [f"{row[per]:,.0f}", f"{quotient if over else 1 / quotient:.2f}"]
            table.add_row(name, *cells)
        Console().print(table)


if __name__ == "__main__":
    main()

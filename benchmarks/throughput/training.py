"""How fast AutoInt trains, beside DeepCTR's and FuxiCTR's: `python -m benchmarks training`.

Every side trains the same AutoInt (10 fields, width 16, 3 layers of 2 heads × 32, no feed-forward network, Adam) on the
same simulated rows in batches of 1,024, on the same cores, each in a process and an environment of its own. They are
warmed up by an epoch, then take turns (A B C A B C …); numbers are medians over the rounds. Beside examples a second
stand examples a processor second, which other load on the machine disturbs less.

Clickmill trains on requests of many candidates, whose user and context it embeds once, and on the same rows one by one
("point-wise"), where it has no such advantage. FuxiCTR is measured with its own loader and with batches in memory. It
adds the residual without a projection in all but the first layer: it computes a little less than the others.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

from benchmarks.throughput import environments, training_data

HERE = Path(__file__).resolve().parent
OPTIONS = {
    "impressions": (120_000, "of the simulated log"),
    "rounds": (3, "that every side is measured"),
    "threads": (2, "cores of every side"),
    "table_rows": (1_000_000, "of the table of the optimisers"),
    "rivals_python": ("python3.11", "interpreter of the rivals' environments"),
    "torch": ("torch==2.13.0", "requirement; see environments.py for CPU"),
}
SIZES = {"batch_size": 1024, "embedding_dim": 16, "num_layers": 3, "num_heads": 2, "head_dim": 32}
OPTIMIZERS = ("lazy_adam", "adagrad", "adam")


class Worker:
    """A process that measures itself whenever it is asked (rivals/worker.py)."""

    def __init__(self, python: str | Path, script: str, settings: dict):
        # The interpreter's path stays as it is: a resolved link would leave the virtual environment.
        command = [str(python), str(HERE / "rivals" / f"{script}.py"), json.dumps(settings)]
        environment = {**os.environ, "PYTHONPATH": str(HERE.parents[1])}
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


def run(options) -> dict:
    """Measures all sides, round by round."""
    deepctr = environments.deepctr(options.rivals_python)
    fuxictr = environments.fuxictr(options.rivals_python, options.torch)
    data = training_data.prepare(options.work.resolve(), options.impressions)
    cores = sorted(os.sched_getaffinity(0))[: options.threads]
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
        options.rounds,
    )
    pipeline = in_turns(
        {"requests": clickmill(requests, "input"), "point-wise": clickmill(pointwise, "input")}, options.rounds
    )
    table = {**settings, "rows": options.table_rows, "seconds": 2.0}
    optimizers = in_turns(
        {name: Worker(sys.executable, "large_table", {**table, "optimizer": name}) for name in OPTIMIZERS},
        options.rounds,
    )
    return {
        "threads": len(cores),
        "rounds": options.rounds,
        "examples": data["examples"],
        "candidates_per_request": round(data["examples"] / data["requests_count"], 1),
        "fields": len(data["vocabulary_sizes"]),
        **SIZES,
        "table_rows": options.table_rows,
        "load_average": round(os.getloadavg()[0], 1),
        "training": training,
        "input_pipeline": pipeline,
        "optimizers": optimizers,
    }


def figures(found: dict) -> list[tuple[str, str]]:
    sides, optimizers = found["training"], found["optimizers"]
    fed = found["input_pipeline"]["requests"]["per_second"] / sides["clickmill"]["per_second"]
    adam = optimizers["lazy_adam"]["per_second"] / optimizers["adam"]["per_second"]
    sizes = f"{found['fields']} fields, batch {found['batch_size']}, {found['threads']} threads"

    def beside_rivals(name: str) -> str:
        side, rates = sides[name], []
        for rival, key in (("DeepCTR", "deepctr"), ("FuxiCTR", "fuxictr, batches in memory")):
            clock, cpu = (side[per] / sides[key][per] for per in ("per_second", "per_cpu_second"))
            rates.append(f"{clock:.2f} times {rival} ({cpu:.2f} a processor second)")
        return f"{side['per_second']:,.0f} examples/s: {', '.join(rates)}"

    requests = f"AutoInt training on requests of {found['candidates_per_request']} candidates ({sizes})"
    return [
        (requests, beside_rivals("clickmill")),
        ("the same with one candidate a request", beside_rivals("clickmill, point-wise")),
        ("input pipeline alone, against what training consumes", f"{fed:.0f} times"),
        (f"lazy Adam against dense Adam, a table of {found['table_rows']:,} rows", f"{adam:.0f} times the steps/s"),
    ]

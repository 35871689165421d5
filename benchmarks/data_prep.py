"""Raw logs to encoded examples, beside TFX's stock components: impressions a second and peak memory.

    python -m benchmarks.data_prep [--impressions 1000000] [--large 4000000] [--baseline-impressions 50000]

Three measurements, each in a process of its own:

1. LogIngest, Vocabulary and FeatureEncoder over the simulated raw log (flaws included): checks, click attribution,
   joins, duplicates, behaviour log, split, vocabularies, encoding.
2. The standard path (benchmarks/standard_path.py) over rows of the same log, joined and labelled beforehand. It is
   slow, so it runs twice, over 2,000 and over `--baseline-impressions` rows. The line through both times (what a run
   costs before any row, plus a cost a row) gives its rate at `--impressions`, which `ratio` compares.
   `ratio_from_records` gives the standard path finished tf.Examples instead of Parquet to read; `ratio_as_measured`
   compares with the rate over the fewer rows, which its start makes look slower than it is.
3. As 1 over `--large` impressions, for the growth of peak memory.

Clickmill first runs over a small log, unmeasured; its start is not taken off. Rates are by clock;
processor seconds stand beside them, for a machine that does other things too.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

# No pyarrow here: a child's peak memory counts from the memory of its parent.
RESULTS = Path(__file__).parent / "results" / "data_prep.json"
WARM_UP = 2_000
TABLES = ("impressions", "clicks", "items", "users")
TARGETS = {"impressions_per_second": 50_000, "ratio": 20, "memory_growth": 2}


def simulate_log(work: Path, impressions: int, seed: int) -> dict:
    from features.datasets.simulator.marketplace import SimulatorConfig, simulate

    summary = simulate(SimulatorConfig(impressions=impressions, seed=seed), work / "log")
    return {"impressions": summary.impression_rows}


def prepare(work: Path) -> dict[str, dict[str, float]]:
    """Runs the three components over `work/log`; returns {component: {"seconds", "cpu_seconds"}}."""
    from benchmarks.standard_path import SPEC, Stopwatch
    from features.encoding.encode import encode_examples
    from features.encoding.fit import fit_encoding
    from features.ingest.ingest_logs import IngestConfig, run_ingest
    from features.spec import load_spec

    spec = load_spec(SPEC)
    config = IngestConfig.model_validate({"tables": {table: str(work / "log" / table) for table in TABLES}})
    examples, behaviors, encoding = work / "examples", work / "behaviors", work / "encoding"
    measured = {}
    clock = Stopwatch()
    run_ingest(config, spec, examples, behaviors, work / "dead_letters")
    measured["LogIngest"] = clock.read()
    clock = Stopwatch()
    fit_encoding(examples, spec, encoding)
    measured["Vocabulary"] = clock.read()
    clock = Stopwatch()
    encode_examples(examples, behaviors, encoding, work / "encoded")
    measured["FeatureEncoder"] = clock.read()
    return measured


def measure_clickmill(work: Path, warm_up: Path) -> dict:
    prepare(warm_up)
    return {"components": prepare(work), "peak_mb": peak_mb()}


def measure_standard(work: Path, warm_up: Path, rows: int) -> dict:
    """`work` and `warm_up` hold raw examples. The run over few rows shows what a run costs before any row."""
    from benchmarks.standard_path import run_standard_path, write_flat

    small = write_flat(warm_up / "examples", work / "flat_small", WARM_UP)
    written = write_flat(work / "examples", work / "flat", rows)
    start = run_standard_path(work / "flat_small", work / "standard_small")
    components = run_standard_path(work / "flat", work / "standard")
    return {"components": components, "rows": written, "small": {"rows": small, "components": start}}


def peak_mb() -> float:
    """Peak resident memory of this process and of its largest child, MiB."""
    import resource

    return sum(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)) / 1024


STAGES = {"simulate": simulate_log, "clickmill": measure_clickmill, "standard": measure_standard}


def in_own_process(stage: str, *arguments) -> dict:
    """Runs a stage in a new interpreter; returns what it returned. Raises CalledProcessError if it fails."""
    with tempfile.NamedTemporaryFile(suffix=".json") as answer:
        command = [sys.executable, "-m", "benchmarks.data_prep", "--stage", stage, "--answer", answer.name]
        paths = [f"path:{each}" if isinstance(each, Path) else str(each) for each in arguments]
        done = subprocess.run([*command, *paths], capture_output=True, text=True)
        if done.returncode:
            sys.stderr.write(done.stderr[-4_000:])
            done.check_returncode()
        return json.loads(Path(answer.name).read_text())


def run_stage(stage: str, answer: str, arguments: list[str]) -> None:
    from benchmarks.standard_path import quiet

    quiet()
    values = [Path(each[5:]) if each.startswith("path:") else int(each) for each in arguments]
    Path(answer).write_text(json.dumps(STAGES[stage](*values)))


def summed(components: dict, names=None, field: str = "seconds") -> float:
    return sum(components[name][field] for name in (names or components))


def report(impressions: int, large: int, clickmill: dict, big: dict | None, standard: dict | None) -> dict:
    """Turns the measurements into the facts that are kept."""
    seconds, cpu = (summed(clickmill["components"], field=field) for field in ("seconds", "cpu_seconds"))
    facts = {
        "cores": os.cpu_count(),
        "impressions": impressions,
        "targets": TARGETS,
        "clickmill": {
            "impressions_per_second": impressions / seconds,
            "impressions_per_cpu_second": impressions / cpu,
            "peak_mb": clickmill["peak_mb"],
            "components": clickmill["components"],
        },
    }
    if standard:
        rows, small = standard["rows"], standard["small"]
        common = ["StatisticsGen", "Transform"]
        parquet, records = ["ParquetExampleGen", *common], ["ImportExampleGen", *common]

        def rate_at_size(names: list[str], field: str) -> float:
            few, many = (summed(each["components"], names, field) for each in (small, standard))
            per_row = (many - few) / (rows - small["rows"])
            return impressions / (many + per_row * (impressions - rows))

        measured = rows / summed(standard["components"], parquet)
        facts["standard"] = {
            "rows": rows,
            "rows_per_second": measured,
            "rows_per_second_at_size": rate_at_size(parquet, "seconds"),
            "rows_per_cpu_second_at_size": rate_at_size(parquet, "cpu_seconds"),
            "components": standard["components"],
            "start": small,
        }
        facts["ratio"] = impressions / seconds / rate_at_size(parquet, "seconds")
        facts["ratio_cpu"] = impressions / cpu / rate_at_size(parquet, "cpu_seconds")
        facts["ratio_from_records"] = impressions / seconds / rate_at_size(records, "seconds")
        facts["ratio_from_records_cpu"] = impressions / cpu / rate_at_size(records, "cpu_seconds")
        facts["ratio_as_measured"] = impressions / seconds / measured
    if big:
        facts["memory"] = {
            "impressions": [impressions, large],
            "peak_mb": [clickmill["peak_mb"], big["peak_mb"]],
            "growth": big["peak_mb"] / clickmill["peak_mb"],
        }
        facts["large"] = {
            "impressions_per_second": large / summed(big["components"]),
            "impressions_per_cpu_second": large / summed(big["components"], field="cpu_seconds"),
            "components": big["components"],
        }
    return _rounded(facts)


def _rounded(value):
    if isinstance(value, dict):
        return {key: _rounded(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_rounded(each) for each in value]
    return float(f"{value:.4g}") if isinstance(value, float) else value


def show(facts: dict) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"{facts['impressions']:,} impressions, {facts['cores']} cores")
    for name in ("component", "rows", "seconds", "cpu seconds", "rows a second", "rows a cpu second"):
        table.add_column(name, justify="left" if name == "component" else "right")

    def add(title: str, rows: int, components: dict, total_of=None) -> None:
        lines = [(name, each["seconds"], each["cpu_seconds"]) for name, each in components.items()]
        whole = (summed(components, total_of), summed(components, total_of, "cpu_seconds"))
        for name, seconds, cpu in [*lines, (f"[bold]{title}", *whole)]:
            table.add_row(
                name, f"{rows:,}", f"{seconds:.2f}", f"{cpu:.2f}", f"{rows / seconds:,.0f}", f"{rows / cpu:,.0f}"
            )
        table.add_section()

    add("Clickmill", facts["impressions"], facts["clickmill"]["components"])
    if "large" in facts:
        add("Clickmill", facts["memory"]["impressions"][1], facts["large"]["components"])
    if "standard" in facts:
        counted = ["ParquetExampleGen", "StatisticsGen", "Transform"]
        add(
            "ExampleGen + StatisticsGen + Transform",
            facts["standard"]["rows"],
            facts["standard"]["components"],
            counted,
        )
    console = Console(width=120)
    console.print(table)
    for name in ("ratio", "ratio_cpu", "ratio_from_records", "ratio_from_records_cpu", "ratio_as_measured"):
        if name in facts:
            console.print(f"{name}: {facts[name]:.1f}")
    if "memory" in facts:
        few, many = facts["memory"]["peak_mb"]
        console.print(f"peak memory: {few:,.0f} MB to {many:,.0f} MB, {facts['memory']['growth']:.2f} times")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--impressions", type=int, default=1_000_000, help="of the raw log (default: %(default)s)")
    parser.add_argument(
        "--large", type=int, default=4_000_000, help="of the log for peak memory; 0: none (default: %(default)s)"
    )
    parser.add_argument(
        "--baseline-impressions",
        type=int,
        default=50_000,
        help="rows of the same log that the standard path gets; 0: it does not run (default: %(default)s)",
    )
    parser.add_argument("--seed", type=int, default=0, help="of the simulated log (default: %(default)s)")
    parser.add_argument(
        "--work", type=Path, help="keep logs and outputs in this new directory (default: a temporary one)"
    )
    parser.add_argument("--out", type=Path, default=RESULTS, help="where the figures go (default: benchmarks/results)")
    parser.add_argument("--stage", choices=STAGES, help=argparse.SUPPRESS)
    parser.add_argument("--answer", help=argparse.SUPPRESS)
    parser.add_argument("arguments", nargs="*", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.stage:
        return run_stage(options.stage, options.answer, options.arguments)
    with tempfile.TemporaryDirectory() as temporary:
        work = options.work or Path(temporary)
        work.mkdir(parents=True, exist_ok=True)
        facts = benchmark(work, options)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    aside = options.out.with_suffix(".tmp")
    aside.write_text(json.dumps(facts, indent=2) + "\n")
    os.replace(aside, options.out)
    show(facts)


def benchmark(work: Path, options: argparse.Namespace) -> dict:
    warm_up, normal, large = work / "warm_up", work / "log", work / "large"
    in_own_process("simulate", warm_up, 5 * WARM_UP, options.seed)
    impressions = in_own_process("simulate", normal, options.impressions, options.seed)["impressions"]
    print(f"{impressions:,} impressions simulated", flush=True)
    clickmill = in_own_process("clickmill", normal, warm_up)
    print("Clickmill measured", flush=True)
    standard = big = None
    many = 0
    if options.baseline_impressions:
        standard = in_own_process("standard", normal, warm_up, options.baseline_impressions)
        print("standard path measured", flush=True)
    if options.large:
        many = in_own_process("simulate", large, options.large, options.seed)["impressions"]
        big = in_own_process("clickmill", large, warm_up)
    measured = {"impressions": impressions, "large": many, "clickmill": clickmill, "big": big, "standard": standard}
    (work / "measured.json").write_text(json.dumps(measured))
    return report(impressions, many, clickmill, big, standard)


if __name__ == "__main__":
    main()

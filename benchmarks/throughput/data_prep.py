"""Raw logs to encoded examples, beside TFX's stock components: impressions a second and peak memory.

Three measurements, each in a process of its own:

1. LogIngest, Vocabulary and FeatureEncoder over the simulated raw log (flaws included): checks, click attribution,
   joins, duplicates, behaviour log, split, vocabularies, encoding.
2. The standard path (standard_path.py) over rows of the same log, joined and labelled beforehand. It is
   slow, so it runs twice, over 2,000 and over `--baseline-impressions` rows. The line through both times (what a run
   costs before any row, plus a cost a row) gives its rate at `--impressions`, which `ratio` compares.
   `ratio_from_records` gives the standard path finished tf.Examples instead of Parquet to read; `ratio_as_measured`
   compares with the rate over the fewer rows, which its start makes look slower than it is.
3. As 1 over `--large` impressions, for the growth of peak memory.

Clickmill first runs over a small log, unmeasured; its start is not taken off. Rates are by clock;
processor seconds stand beside them, for a machine that does other things too.
"""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path

from benchmarks.processes import Stopwatch, in_own_process, peak_mb

# No pyarrow here: a child's peak memory counts from the memory of its parent.
WARM_UP = 2_000
TABLES = ("impressions", "clicks", "items", "users")
TARGETS = {"impressions_per_second": 50_000, "ratio": 50, "memory_growth": 1.5}
OPTIONS = {
    "impressions": (1_000_000, "of the raw log"),
    "large": (4_000_000, "of the log for peak memory; 0: none"),
    "baseline_impressions": (50_000, "rows of the same log that the standard path gets; 0: it does not run"),
    "seed": (0, "of the simulated log"),
}


def simulate_log(work: str, impressions: int, seed: int) -> dict:
    import clickmill as cm

    summary = cm.simulate(cm.SimulatorConfig(impressions=impressions, seed=seed), Path(work, "log"))
    return {"impressions": summary.impression_rows}


def prepare(work: Path) -> dict[str, dict[str, float]]:
    """Runs the three components over `work/log`; returns {component: {"seconds", "cpu_seconds"}}."""
    import clickmill as cm
    from benchmarks.throughput.standard_path import SPEC

    spec = cm.load_spec(SPEC)
    config = cm.IngestConfig.model_validate({"tables": {table: str(work / "log" / table) for table in TABLES}})
    examples, behaviors, encoding = work / "examples", work / "behaviors", work / "encoding"
    measured = {}
    clock = Stopwatch()
    cm.run_ingest(config, spec, examples, behaviors, work / "dead_letters")
    measured["LogIngest"] = clock.read()
    clock = Stopwatch()
    cm.fit_encoding(examples, spec, encoding)
    measured["Vocabulary"] = clock.read()
    clock = Stopwatch()
    cm.encode_examples(examples, behaviors, encoding, work / "encoded")
    measured["FeatureEncoder"] = clock.read()
    return measured


def measure_clickmill(work: str, warm_up: str) -> dict:
    prepare(Path(warm_up))
    return {"components": prepare(Path(work)), "peak_mb": peak_mb()}


def measure_standard(folder: str, warm_up: str, rows: int) -> dict:
    """Both folders hold raw examples. The run over few rows shows what a run costs before any row."""
    from benchmarks.throughput.standard_path import run_standard_path, write_flat

    work = Path(folder)
    small = write_flat(Path(warm_up) / "examples", work / "flat_small", WARM_UP)
    written = write_flat(work / "examples", work / "flat", rows)
    start = run_standard_path(work / "flat_small", work / "standard_small")
    components = run_standard_path(work / "flat", work / "standard")
    return {"components": components, "rows": written, "small": {"rows": small, "components": start}}


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
    return facts


def show(title: str, rows: int, components: dict) -> None:
    """Prints the time and the rate of each component and of all."""
    whole = {field: summed(components, field=field) for field in ("seconds", "cpu_seconds")}
    for name, each in {**components, title: whole}.items():
        rates = ", ".join(f"{each[of]:8.2f} {of} ({rows / each[of]:9,.0f} rows a second)" for of in whole)
        print(f"{name:>20}  {rates}")


def run(options) -> dict:
    """Measures in a new folder of `options.work`, and prints the table; what was measured stays there."""
    options.work.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=options.work) as folder:
        work, measured = Path(folder), {"big": None, "standard": None, "large": 0}
        warm_up, normal, large = work / "warm_up", work / "log", work / "large"
        in_own_process(simulate_log, warm_up, 5 * WARM_UP, options.seed)
        measured |= in_own_process(simulate_log, normal, options.impressions, options.seed)
        print(f"{measured['impressions']:,} impressions simulated", flush=True)
        measured["clickmill"] = in_own_process(measure_clickmill, normal, warm_up)
        print("Clickmill measured", flush=True)
        if options.baseline_impressions:
            measured["standard"] = in_own_process(measure_standard, normal, warm_up, options.baseline_impressions)
            print("standard path measured", flush=True)
        if options.large:
            measured["large"] = in_own_process(simulate_log, large, options.large, options.seed)["impressions"]
            measured["big"] = in_own_process(measure_clickmill, large, warm_up)
    (options.work / "measured.json").write_text(json.dumps(measured))
    show("Clickmill", measured["impressions"], measured["clickmill"]["components"])
    if measured["standard"]:
        show("standard path", measured["standard"]["rows"], measured["standard"]["components"])
    return report(**measured)


def figures(found: dict) -> list[tuple[str, str]]:
    ours = found["clickmill"]
    rows = f"{found['impressions'] / 1e6:.0f} million simulated impressions, {found['cores']} cores"
    table = [
        (
            f"LogIngest + Vocabulary + FeatureEncoder, {rows}",
            f"{ours['impressions_per_second']:,.0f} impressions/s, peak {ours['peak_mb']:.0f} MB",
        )
    ]
    if "standard" in found:
        what = (
            "the same against the standard ExampleGen + StatisticsGen + Transform (its rate at that size from a line "
            f"through two smaller runs, the larger of {found['standard']['rows']:,} rows)"
        )
        table.append((what, f"{found['ratio']:.0f} times by clock, {found['ratio_cpu']:.0f} times by processor time"))
    if "memory" in found:
        few, many = (f"{size / 1e6:.0f} million" for size in found["memory"]["impressions"])
        table.append((f"peak memory, {many} impressions against {few}", f"{found['memory']['growth']:.2f} times"))
    return table

"""How often verdicts are right: equal and worse retrains, fourteen worse in a row, slices, baselines, intervals.

Logs are drawn whose truth is known (`benchmarks.evaluation.retrains`), and `evaluate` judges models of known quality
with its default gates. An evaluation has 30,000 rows, as the default run's has. Finished parts are kept, and a stopped
run goes on behind them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa

from benchmarks.evaluation.retrains import BLUR, Log, blur_of, users_rows
from benchmarks.evaluation.retrieval_retrains import ITEMS, K, retrievals
from benchmarks.evaluation.retrieval_retrains import MARGIN as RECALL_MARGIN
from benchmarks.records import Sweep
from evaluation.baselines import Baseline
from evaluation.config import EvaluationConfig, GateConfig, SliceConfig
from evaluation.intervals import MetricStatistics, effective_users
from evaluation.metrics.registry import compute_metrics
from evaluation.ranking import evaluate
from evaluation.results import EvaluationResult

ROWS = 30_000
STEP, DAYS = 0.0017, 14
METRICS = ("auc", "log_loss", "pcoc")
MARGIN = GateConfig().max_auc_loss or 0.0
PAGE = Path(__file__).parents[2] / "docs" / "reference" / "evaluation.md"
MARKS = ("<!-- verdicts -->", "<!-- /verdicts -->")
OPTIONS = {
    "trials": (400, "of equal retrains; of worse ones a quarter, as they have more rows"),
    "chains": (100, "of fourteen slightly worse models"),
    "samples": (2000, "behind each coverage"),
}


def configuration(**gates) -> EvaluationConfig:
    """The default gates; of the metrics, those that they judge."""
    return EvaluationConfig(metrics=METRICS, gates=GateConfig(**gates))


def retrain(seed: int, rows: int, loss: float, anchored: bool, config: EvaluationConfig) -> EvaluationResult:
    """Judges a model whose true AUC is `loss` below that of the live one, and of an anchor as good as that one."""
    generator = np.random.default_rng(seed)
    log = Log.draw(generator, rows)
    live, model = log.score(generator, BLUR), log.score(generator, blur_of(loss))
    anchor = log.score(generator, BLUR) if anchored else None
    return evaluate(model, config, live_predictions=live, anchor_predictions=anchor)


def retrains(trials: int, rows: int, loss: float, anchored: bool = True, **gates) -> dict:
    """How many retrains pass, what the verdicts on their AUC are, and the rows that the report asks for."""
    config, verdicts = configuration(**gates), Counter()
    passed, asked, half_widths = 0, [], []
    for seed in range(trials):
        result = retrain(seed, rows, loss, anchored, config)
        passed += result.blessed
        gate = next(gate for gate in result.gates if gate.name == "live_auc")
        verdicts[gate.verdict] += 1
        asked += [gate.rows_needed] if gate.rows_needed else []
        found = result.live.metrics["auc"].difference
        half_widths.append((found.high - found.low) / 2)
    return {
        "trials": trials,
        "rows": rows,
        "loss": loss,
        "passed": passed / trials,
        "verdicts": dict(verdicts),
        "half_width": float(np.mean(half_widths)),
        "rows_needed": int(np.median(asked)) if asked else None,
    }


def chain(seed: int, config: EvaluationConfig, days: int = DAYS, keeps_anchor: bool = True) -> dict:
    """A model each day, trained anew and worse than the live one by `STEP`; those that pass go live.

    Args:
      seed: of the logs and of the models' errors.
      config: the gates.
      days: and models.
      keeps_anchor: False: every model is judged beside the live one alone.

    Returns:
      How many went live, and the true loss in AUC of the last and of the worst that was live.
    """
    generator = np.random.default_rng(seed)
    live = anchor = worst = pushed = 0
    for _ in range(days):
        log = Log.draw(generator, ROWS)
        model, beside = (log.score(generator, blur_of(STEP * steps)) for steps in (live + 1, live))
        kept = log.score(generator, blur_of(STEP * anchor)) if keeps_anchor and anchor != live else None
        result = evaluate(model, config, live_predictions=beside, anchor_predictions=kept)
        if result.blessed:
            live, pushed = live + 1, pushed + 1
            anchor = live if result.becomes_anchor else anchor
        worst = max(worst, live)
    return {"pushed": pushed, "loss": STEP * live, "worst": STEP * worst}


def chains(count: int, days: int = DAYS, keeps_anchor: bool = True) -> dict:
    """Many of them: how many go live, and in how many chains one is whose loss exceeds twice the margin."""
    found = [chain(seed, configuration(), days, keeps_anchor) for seed in range(count)]
    return {
        "chains": count,
        "days": days,
        "pushed": float(np.mean([each["pushed"] for each in found])),
        "loss": float(np.mean([each["loss"] for each in found])),
        "worst": float(max(each["worst"] for each in found)),
        "beyond": sum(each["worst"] > 2 * MARGIN for each in found),
    }


def coverage(samples: int, users: int, spread: float, level: float) -> dict:
    """How often intervals of 95% hold the value of the population."""
    truth = compute_metrics(users_rows(np.random.default_rng(10**6), 300_000, spread, level), METRICS)
    covered, kish, positives = dict.fromkeys(METRICS, 0), [], []
    for seed in range(samples):
        rows = users_rows(np.random.default_rng(seed), users, spread, level)
        kish.append(effective_users(rows.user))
        positives.append(rows.label.sum())
        for name, found in MetricStatistics(rows, METRICS).estimates(0.95).items():
            covered[name] += found.low is not None and found.low <= truth[name] <= found.high
    return {
        "samples": samples,
        "users": users,
        "effective_users": float(np.mean(kish)),
        "positives": float(np.mean(positives)),
        "covered": {name: count / samples for name, count in covered.items()},
    }


def slices(trials: int, users: int, rows: int = 1500) -> dict:
    """How often a calibrated model fails by one slice of so many users, beside a slice of many; is it judged?"""
    config = EvaluationConfig(metrics=METRICS, slices=SliceConfig(features=("few",)), gates=GateConfig(pcoc=None))
    failed, judged, outside = 0, 0, 0
    for seed in range(trials):
        generator = np.random.default_rng(seed)
        parts = [Log.draw(generator, rows, users), Log.draw(generator, 20_000)]
        tables = [part.score(generator, BLUR) for part in parts]
        rest = tables[1]
        for name in ("request_id", "user_id"):
            moved = pa.array(rest[name].to_numpy() + 10**6)
            rest = rest.set_column(rest.column_names.index(name), name, moved)
        few = pa.array([True] * tables[0].num_rows + [False] * rest.num_rows).cast(pa.string())
        result = evaluate(pa.concat_tables([tables[0], rest]).append_column("few", few), config)
        part = next(part for part in result.slices if part.value == "true")
        low, high = config.gates.slice_pcoc
        outside += not low <= part.metrics["pcoc"].value <= high
        judged += not part.unjudged
        failed += any(gate.name.startswith("slice_") for gate in result.failed_gates)
    return {"trials": trials, "users": users, "failed": failed / trials, "judged": judged / trials,
            "value_outside": outside / trials}  # fmt: skip


def first_rankers(trials: int, loss: float) -> dict:
    """How many first rankers pass whose true AUC is `loss` below that of the items' click rates, and their AUCs."""
    config, passed, aucs = configuration(), 0, []
    for seed in range(trials):
        generator = np.random.default_rng(seed)
        log = Log.draw(generator, ROWS)
        baseline = Baseline("item_ctr", "clicks an item", log.score(generator, BLUR)["score"].to_numpy(), True)
        result = evaluate(log.score(generator, blur_of(loss)), config, baselines=[baseline])
        passed += result.blessed
        aucs.append([scores.metrics["auc"].value for scores in (result.model, result.baselines[0])])
    model, other = np.mean(aucs, axis=0)
    return {"trials": trials, "passed": passed / trials, "auc": float(model), "baseline_auc": float(other)}


def parts(options) -> dict[str, Callable[[], dict]]:
    """What is measured, by name, in order."""
    trials, few = options.trials, max(1, options.trials // 4)
    samples = options.samples
    return {
        "equal": lambda: retrains(trials, ROWS, 0.0),
        "equal, no other anchor": lambda: retrains(trials, ROWS, 0.0, anchored=False),
        "equal, a third of the rows": lambda: retrains(trials, ROWS // 3, 0.0),
        "equal, held": lambda: retrains(few, ROWS, 0.0, cannot_tell="hold"),
        "worse by twice the margin": lambda: retrains(trials, ROWS, 2 * MARGIN),
        "in a row": lambda: chains(options.chains),
        "in a row, 28 days": lambda: chains(options.chains // 4, days=28),
        "in a row, beside the live one alone": lambda: chains(options.chains // 4, keeps_anchor=False),
        "coverage, 60 users": lambda: coverage(samples, 60, 0.0, -2.0),
        "coverage, 150 users": lambda: coverage(samples, 150, 1.0, -2.0),
        "coverage, few clicks": lambda: coverage(samples, 150, 1.0, -3.5),
        "coverage, 30 effective": lambda: coverage(samples, 70, 1.0, -2.0),
        "coverage, 1,500 users": lambda: coverage(samples // 2, 1500, 0.8, -2.0),
        **{f"slice of {n} users": (lambda n=n: slices(trials // 2, n)) for n in (1, 5, 20, 120)},
        "below the baseline": lambda: first_rankers(few, 0.09),
        "above the baseline": lambda: first_rankers(few, -0.01),
        "retrieval, equal": lambda: retrievals(trials),
        "retrieval, equal, catalogue grown": lambda: retrievals(trials, grown=ITEMS // 10),
    }


def run(options) -> dict:
    """Measures what is not finished, and writes the table into the page."""
    sweep, found = Sweep("verdicts"), {}
    for name, measure in parts(options).items():
        wanted = {"part": name, "trials": options.trials, "chains": options.chains, "samples": options.samples}
        if sweep.find(wanted) is None:
            sweep.add(wanted, {**wanted, "found": measure()})
            print(name, sweep.find(wanted)["found"], flush=True)
        found[name] = sweep.find(wanted)["found"]
    asked = found["equal"]["rows_needed"]
    name, few = f"worse by twice the margin, {asked:,} rows", max(1, options.trials // 4)
    for part, loss in ((name, 2 * MARGIN), (f"equal, {asked:,} rows", 0.0)):
        wanted = {"part": part, "trials": options.trials}
        if sweep.find(wanted) is None:
            sweep.add(wanted, {**wanted, "found": retrains(few, asked, loss)})
            print(part, sweep.find(wanted)["found"], flush=True)
        found[part.partition(",")[0] + ", the rows asked for"] = sweep.find(wanted)["found"]
    takes = found["retrieval, equal"]["takes_needed"]
    wanted = {"part": f"retrieval, worse by twice the margin, {takes:,} takes", "trials": options.trials}
    if sweep.find(wanted) is None:
        sweep.add(wanted, {**wanted, "found": retrievals(max(1, few // 4), takes, 2 * RECALL_MARGIN)})
    found["retrieval, worse, the takes asked for"] = sweep.find(wanted)["found"]
    found = {"margin": MARGIN, "step": STEP, **found}
    before, _, rest = PAGE.read_text("utf-8").partition(MARKS[0])
    PAGE.write_text(
        f"{before}{MARKS[0]}\n\n{table(found)}\n\n{MARKS[1]}{rest.partition(MARKS[1])[2]}", encoding="utf-8"
    )
    return found


def rows_of(found: dict) -> list[tuple[str, str, str]]:
    """What is asked, what was measured, and what must hold."""
    equal, asked, row = found["equal"], found["worse by twice the margin, the rows asked for"], found["in a row"]
    lost, size = f"{2 * found['margin']:g}", f"{equal['rows']:,} rows"
    enough = f"{asked['rows']:,} rows"

    def share(name: str, key: str = "passed") -> str:
        return f"{found[name][key]:.1%} of {found[name]['trials']}"

    told = found["equal, the rows asked for"]
    table = [
        (f"equal retrains that pass, {size} (AUC ± {equal['half_width']:.4f}), live model and anchor", share("equal"),
         "≥ 95%"),
        ("the same where the live model is the anchor", share("equal, no other anchor"), "≥ 95%"),
        (f"the same with anchor, {found['equal, a third of the rows']['rows']:,} rows",
         share("equal, a third of the rows"), "≥ 95%"),
        (f"the same, {size}, `cannot_tell: hold`", share("equal, held"), ""),
        (f"the same, the {enough} that reports ask for: shown to be no worse",
         f"{_told(told):.1%} of {told['trials']}", ""),
        (f"retrains that lose twice the margin ({lost} AUC) and pass, {size}", share("worse by twice the margin"), ""),
        (f"the same, {enough}", share("worse by twice the margin, the rows asked for"), "≤ 5%"),
        (f"{row['days']} retrains in a row, each {found['step']:g} AUC below the live one: chains in which one is live "
         f"that lost more than {lost} to the first", _beyond(row), "0"),
        ("the same over 28 days", _beyond(found["in a row, 28 days"]), ""),
        ("the same over 14 days without an anchor", _beyond(found["in a row, beside the live one alone"]), ""),
    ]  # fmt: skip
    for name, row in found.items():
        if name.startswith("coverage"):
            what = f"95% intervals cover; users say as much as {row['effective_users']:.0f} equal ones, "
            measured = ", ".join(f"{metric} {covered:.1%}" for metric, covered in row["covered"].items())
            table.append((f"{what}{row['positives']:.0f} clicks", measured, "93 to 97%"))
        elif name.startswith("slice of"):
            what = f"a calibrated model that fails by a slice of 1,500 rows and {row['users']} user(s)"
            outside = f"PCOC's value is outside in {row['value_outside']:.0%}, judged {row['judged']:.0%}"
            table.append((what, f"{share(name, 'failed')} ({outside})", "≤ 5%"))
        elif name.endswith("the baseline"):
            what = f"first rankers of AUC {row['auc']:.3f} that pass beside item CTR of {row['baseline_auc']:.3f}"
            table.append((what, share(name), "0%" if name.startswith("below") else ""))
        elif name.startswith("retrieval"):
            what = f"retrievals that lose {row['loss']:g} of a recall@{K} of {row['recall']:.3f} and pass, "
            what += f"{row['takes']:,} takes" + (", 10% more items than the live one" if "grown" in name else "")
            table.append((what, share(name), "≤ 5%" if row["loss"] else "≥ 95%"))
    return table


def _beyond(row: dict) -> str:
    return f"{row['beyond']} of {row['chains']} (most lost: {row['worst']:.4f})"


def _told(row: dict) -> float:
    return (row["verdicts"].get("no_worse", 0) + row["verdicts"].get("better", 0)) / row["trials"]


def table(found: dict) -> str:
    """The table of docs/reference/evaluation.md, which `run` writes there."""
    lines = ["| what | measured | must hold |", "|---|---|---|"]
    return "\n".join([*lines, *(f"| {what} | {measured} | {limit} |" for what, measured, limit in rows_of(found))])


def figures(found: dict) -> list[tuple[str, str]]:
    return [(what, f"{measured}" + (f", must be {limit}" if limit else "")) for what, measured, limit in rows_of(found)]

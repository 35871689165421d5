"""What `clickmill experiment read` shows in the terminal."""

from __future__ import annotations

from evaluation.replay.experiment.experiment_plan import ExperimentReport
from evaluation.replay.experiment.read import ExperimentReading, MetricReading
from evaluation.report import format as fmt
from evaluation.report.replay.experiment_figures import share
from evaluation.results import Estimate
from pipeline.cli.console import out

STYLES = {"better": "green", "worse": "bold red", "cannot_tell": "yellow", "withheld": "dim"}


def show(report: ExperimentReport) -> None:
    """Prints the sample ratio, the metrics by variant, then what slices and days show."""
    reading = report.reading
    _say(f"users: {', '.join(f'{name} {count:,}' for name, count in reading.users.items())}")
    _say(f"sample ratio: p = {reading.sample_ratio:.2g}{'' if reading.reasons else ', sound'}")
    for fault, count in reading.excluded.items():
        if count:
            _say(f"left out: {count:,} {fault}")
    for reason in reading.reasons:
        _say(f"withheld: {reason}", "bold red")
    out().print(_metrics(reading))
    for each in reading.metrics:
        for line in _remarks(each, reading):
            _say(line)
    for of_metric in report.slices:
        judged = [each for each in of_metric.slices if each.outcome in ("better", "worse")]
        told = ", ".join(f"{e.feature}={e.value} {e.outcome} ({_difference(e.difference)})" for e in judged) or "none"
        held = f"{len(of_metric.slices)} slices, {of_metric.omitted} with too few users"
        _say(f"{of_metric.metric} by slice ({held}; {fmt.level(of_metric.level)} for all together): {told}")
    for by_day in report.days:
        trend = f"changes by {_difference(by_day.trend)} a day" if by_day.novelty else "no trend is shown"
        _say(f"{by_day.metric} over {len(by_day.days)} days: {trend}")


def _metrics(reading: ExperimentReading):
    from rich.table import Column, Table
    from rich.text import Text

    numbers = [reading.candidate, reading.baseline, "difference", "relative"]
    table = Table("metric", "verdict", *(Column(name, justify="right") for name in numbers), box=None)
    for each in reading.metrics:
        verdict = Text(fmt.verdict(each.outcome), style=STYLES[each.outcome])
        values = [fmt.metric(value.value) for value in (each.candidate_value, each.baseline_value)]
        table.add_row(each.metric, verdict, *values, _difference(each.difference), share(each.relative))
    return table


def _remarks(each: MetricReading, reading: ExperimentReading) -> list[str]:
    """Why a metric is withheld, and what its covariates and its size were good for."""
    found = [f"{each.metric}: {reason}" for reason in each.reasons if reason not in reading.reasons]
    if each.variance_left is not None and abs(each.variance_left - 1) > 1e-9:
        found.append(f"{each.metric}: covariates left {fmt.percent(each.variance_left)} of the variance")
    if each.outcome == "cannot_tell" and each.power.minimum_detectable is not None:
        wanted = (
            f"; {fmt.number(each.power.effect)} takes {each.power.units_needed:,} users"
            if each.power.units_needed
            else ""
        )
        found.append(
            f"{each.metric}: would have told a difference of {fmt.metric(each.power.minimum_detectable)}{wanted}"
        )
    return found


def _difference(estimate: Estimate) -> str:
    return f"{fmt.signed(estimate.value)} {fmt.interval(estimate)}".strip()


def _say(line: str, style: str | None = None) -> None:
    out().print(line, style=style, soft_wrap=True, highlight=False, markup=False)

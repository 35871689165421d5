"""A finished run on the terminal: what `clickmill report` prints, from the same figures as the page."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from evaluation.report import format as fmt
from evaluation.report.data import ReportData
from evaluation.report.page import JSON_FILE
from evaluation.report.verdicts import Comparison, ModelVerdict, stage_finding
from evaluation.results import Estimate
from features import storage
from features.config import SpecError, parse_model
from features.errors import NotFoundError

METRICS = ("auc", "gauc_user", "log_loss", "normalized_entropy", "pcoc", "ndcg@10")


def load_report(run_dir: storage.AnyPath) -> tuple[ReportData, str]:
    """Reads the figures of a run; returns them and the folder that holds them.

    Args:
      run_dir: a run's folder (`runs/<pipeline>`), or the folder of its report.

    Raises:
      NotFoundError: if no report was written there.
      SpecError: if the report is of another version of Clickmill.
    """
    for folder in (storage.join(run_dir, "report"), os.fspath(run_dir)):
        if storage.is_file(path := storage.join(folder, JSON_FILE)):
            return _read(path), folder
    raise NotFoundError(f"{run_dir}: no {JSON_FILE} in it. `clickmill run` writes one at the end of each run.")


def _read(path: str) -> ReportData:
    try:
        return parse_model(json.loads(storage.read_text(path)), ReportData, source=path)
    except ValueError as error:
        message = f"{path}: {error}\nThe report does not fit this version of Clickmill. Run `clickmill run` again."
        raise SpecError(message) from error


def summary(data: ReportData) -> RenderableType:
    """Returns the verdicts, the rows, the metrics beside the baselines, the gates that failed and the seconds, for
    rich to print."""
    parts: list[RenderableType] = []
    if data.verdicts:
        parts.append(_verdicts_table(data.verdicts))
    if data.stages is not None:
        parts.append(Text(stage_finding(data.stages)[0]))
    if data.counts is not None:
        parts.append(_rows_table(data))
        parts += [Text(f"warning: {warning}") for warning in data.counts.warnings]
    if data.evaluation is not None:
        parts.append(_metrics_table(data))
        for gate in data.evaluation.gates:
            if not gate.passed:
                parts.append(Text(f"gate failed: {gate.name}: {gate.reason}"))
        verdict = "blessed" if data.evaluation.blessed else "not blessed"
        parts.append(
            verdict + (f", pushed as version {data.pushed_version}" if data.pushed_version else ", not pushed")
        )
    for retriever in data.retrievers:
        metric, slices = f"recall@{max(retriever.evaluation.ks)}", retriever.evaluation.model.slices
        found = {name: row[metric] for name, row in slices.items() if row[metric] is not None}
        parts.append(f"{retriever.name} {metric}: " + ", ".join(f"{name} {value:.4f}" for name, value in found.items()))
        for gate in retriever.evaluation.failed_gates:
            parts.append(Text(f"{retriever.name} gate failed: {gate.name}: {gate.reason}"))
    if data.cascade is not None:
        parts.append(data.cascade.headline)
        for gate in data.cascade.failed_gates:
            parts.append(Text(f"cascade gate failed: {gate.name}: {gate.reason}"))
    if data.replay is not None:
        difference = data.replay.comparisons[0].difference
        told = f"{fmt.signed(difference.value)} {fmt.interval(difference)}"
        parts.append(Text(f"replay beside {data.replay.plan.baseline}: {fmt.verdict(data.replay.outcome)}, {told}"))
        parts += [Text(f"replay withheld: {reason}") for reason in data.replay.reasons]
    if data.behavior_tables is not None:
        tables = data.behavior_tables
        parts.append(f"bucket tables of {tables.users:,} users, {tables.record_bytes:,} bytes each")
    if data.timings:
        slowest = sorted(data.timings, key=lambda timing: -timing.seconds)[:3]
        parts.append("slowest components: " + ", ".join(f"{part.component} {part.seconds:.0f} s" for part in slowest))
    return Group(*parts)


def _verdicts_table(verdicts: Sequence[ModelVerdict]) -> Table:
    anchored = any(model.anchor is not None for model in verdicts)
    columns = ["model", "stage", "verdict", "against live", *(["against anchor"] if anchored else [])]
    table = Table(*columns, "headline metric", "failed gates", box=None, pad_edge=False)
    for model in verdicts:
        verdict = "blessed" if model.blessed else "not blessed"
        headline = f"{fmt.metric_title(model.metric)} {fmt.metric(model.value.value)} {fmt.interval(model.value)}"
        failed = ", ".join(gate.name for gate in model.failed) or "none"
        compared = [model.live, *([model.anchor] if anchored else [])]
        cells = [model.name, model.stage, verdict, *(_compared(other) for other in compared), headline, failed]
        table.add_row(*(Text(cell) for cell in cells))
    return table


def _compared(other: Comparison | None) -> str:
    if other is None:
        return fmt.ABSENT
    if other.verdict is None:
        return other.reason
    return fmt.verdict(other.verdict) + (f" ({other.needed})" if other.needed else "")


def _rows_table(data: ReportData) -> Table:
    table = Table("rows of", box=None, pad_edge=False)
    for title in ("in", "kept", "duplicates", "dead letters", "immature", "late", "ignored"):
        table.add_column(title, justify="right")
    for name, rows in data.counts.tables.items():
        numbers = (rows.rows_in, rows.kept, rows.duplicates, rows.dead_letters, rows.immature, rows.late, rows.ignored)
        table.add_row(name, *(f"{number:,}" for number in numbers))
    return table


def _metrics_table(data: ReportData) -> Table:
    result = data.evaluation
    names = [name for name in METRICS if name in result.model.metrics]
    table = Table("", *names, box=None, pad_edge=False)
    table.add_row("model", *(_shown(result.model.metrics[name], interval=True) for name in names))
    for baseline in result.baselines:
        table.add_row(baseline.name, *(_shown(baseline.metrics.get(name)) for name in names))
    return table


def _shown(estimate: Estimate | None, interval: bool = False) -> str:
    if estimate is None or estimate.value is None:
        return "–"
    if interval and estimate.low is not None and estimate.high is not None:
        return f"{estimate.value:.4f} [{estimate.low:.4f}, {estimate.high:.4f}]".replace("[", r"\[")
    return f"{estimate.value:.4f}"

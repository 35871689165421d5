"""Figures of what a run did: rows by outcome, learning curves, time and memory; and the list of all figures."""

from __future__ import annotations

from collections.abc import Callable

from evaluation.report import format as fmt
from evaluation.report.cascade_figures import cascade_figures, list_figures_of
from evaluation.report.data import ComponentTiming, ReportData
from evaluation.report.plots import Axis, Figure, Panel, Points, Rule, bars, label, numeric_axis, slug
from evaluation.report.quality_figures import metrics, reliability, slices
from evaluation.report.training_record import Training
from features.ingest.counts import IngestCounts, TableCounts
from features.log_contract import Reason

ORPHAN = Reason.UNKNOWN_IMPRESSION
"""The reason of clicks that belong to no impression."""


def row_account(table: str, counts: TableCounts) -> Figure:
    """Waterfall of one table: rows in, less each kind of loss, down to what is kept."""
    losses = row_losses(counts)
    base, starts = counts.rows_in, [0]
    for _, rows, _ in losses:
        base -= rows
        starts.append(base)
    # The last bar is what was counted as kept, not the remainder: a balance that is off shows as a step.
    labels = ["rows in", *(f"− {name}" for name, _, _ in losses), "= joined" if table == "clicks" else "= kept"]
    values = [counts.rows_in, *(rows for _, rows, _ in losses), counts.kept]
    texts = [fmt.count(values[0]), *(f"{fmt.count(rows)} ({fmt.share(rows, values[0])})" for rows in values[1:])]
    colors = ["baseline", *(color for _, _, color in losses), "model"]
    alt = f"Waterfall of {table}: " + ", ".join(f"{a} {b}" for a, b in zip(labels, texts, strict=True)) + "."
    return bars(f"rows-{slug(table)}", table, alt, labels, values, texts, colors, [*starts, 0])


def row_losses(counts: TableCounts) -> list[tuple[str, int, str]]:
    """(name, rows, colour) of everything that left a table's rows. Late, ignored and orphaned are of clicks alone."""
    orphans = counts.reasons.get(ORPHAN, 0)
    optional = [("late", counts.late, "warning"), ("other labels", counts.ignored, "muted")]
    return [
        ("duplicates", counts.duplicates, "warning"),
        *(loss for loss in optional if loss[1]),
        *([("orphans", orphans, "bad")] if orphans else []),
        ("dead letters", counts.dead_letters - orphans, "bad"),
        ("immature", counts.immature, "muted"),
    ]


def dead_letters(counts: IngestCounts, limit: int = 15) -> Figure:
    """Bars of refused rows by table and reason, the most frequent first."""
    reasons = [(rows, reason, table) for table, part in counts.tables.items() for reason, rows in part.reasons.items()]
    reasons.sort(key=lambda entry: (-entry[0], entry[1:]))
    labels = [label(f"{reason} · {table}", 36) for _, reason, table in reasons[:limit]]
    values = [rows for rows, _, _ in reasons[:limit]]
    if rest := reasons[limit:]:
        labels.append(f"{len(rest)} further reasons")
        values.append(sum(rows for rows, _, _ in rest))
    texts = [fmt.count(value) for value in values]
    alt = (
        "Dead letters: " + ", ".join(f"{reason} in {table} {fmt.count(rows)}" for rows, reason, table in reasons) + "."
    )
    return bars("dead-letters", "Dead letters by reason", alt, labels, values, texts, "bad")


def trainings(data: ReportData) -> list[tuple[str, Training]]:
    """Every training of the run that is on record, by the model's name; that of the page first."""
    found = [(ranker.name, ranker.training) for ranker in data.rankers if ranker.training is not None]
    found += [(model.name, model.training) for model in data.retrievers if model.training is not None]
    if data.training is not None and all(training != data.training for _, training in found):
        found.insert(0, (data.run.model or "the model", data.training))
    return [(name, training) for name, training in found if training.epochs]


def learning(name: str, training: Training) -> list[Figure]:
    """Curves of one training by epoch, the best epoch marked: the log loss of train and validation, the validation
    metrics, the further losses that were trained with it, and the speed."""
    epochs = training.epochs
    lines: list[tuple[str, str, list[tuple[str, list[float | None], str]]]] = [
        (
            "log-loss",
            "Log loss",
            [
                ("train", [epoch.train_log_loss for epoch in epochs], "baseline"),
                ("validation", [epoch.val_log_loss for epoch in epochs], "model"),
            ],
        ),
        ("auc", "Validation AUC", [("validation", [epoch.val_auc for epoch in epochs], "model")]),
    ]
    for metric in dict.fromkeys(name for epoch in epochs for name in epoch.metrics if name != "auc"):
        values = [epoch.metrics.get(metric) for epoch in epochs]
        lines.append((metric, f"Validation {fmt.metric_title(metric)}", [("validation", values, "model")]))
    for loss in dict.fromkeys(name for epoch in epochs for name in epoch.losses):
        values = [epoch.losses.get(loss) for epoch in epochs]
        lines.append((loss, fmt.loss_title(loss), [("train", values, "baseline")]))
    lines.append(("speed", "Examples a second", [("training", [e.examples_per_second for e in epochs], "model")]))
    figures = []
    for identifier, title, series in lines:
        write = fmt.rate if identifier == "speed" else fmt.metric
        known = [line for line in series if any(value is not None for value in line[1])]
        if known:
            figures.append(_curves(f"{identifier}-{slug(name)}", title, known, training, write))
    return figures


def _curves(
    identifier: str,
    title: str,
    series: list[tuple[str, list[float | None], str]],
    training: Training,
    write: Callable[[float | None], str],
) -> Figure:
    numbers = [epoch.epoch for epoch in training.epochs]
    marks: list[Points | Rule] = []
    if training.best_epoch:
        marks.append(Rule(x=training.best_epoch, color="good", label="best"))
    words: list[str] = []
    for name, values, color in series:
        texts = [f"epoch {number}: {name} {write(value)}" for number, value in zip(numbers, values, strict=True)]
        symbol = "circle" if color == "model" else "square"
        marks.append(Points(numbers, values, texts, color, symbol, name=name, joined=True))
        words += texts
    every = max(1, -(-len(numbers) // 8))
    ticks = tuple((float(n), fmt.count(n)) for n in numbers if (n - numbers[0]) % every == 0)
    x = Axis(numbers[0] - 0.4, numbers[-1] + 0.4, ticks, "epoch", grid=False)
    known = [value for _, values, _ in series for value in values if value is not None]
    panel = Panel(180, numeric_axis(known, zero=write is fmt.rate), tuple(marks))
    alt = f"{title} by epoch. " + "; ".join(words) + "."
    return Figure(identifier, title, alt, x, (panel,), legend=len(series) > 1)


def timings(parts: tuple[ComponentTiming, ...]) -> list[Figure]:
    """Bars of wall time and of peak memory by component."""
    labels = [label(part.component, 30) for part in parts]
    texts = [fmt.seconds(part.seconds) for part in parts]
    alt = "Wall time: " + ", ".join(f"{p.component} {t}" for p, t in zip(parts, texts, strict=True)) + "."
    figures = [bars("seconds", "Wall time", alt, labels, [part.seconds for part in parts], texts)]
    if any(part.peak_rss_mb is not None for part in parts):
        texts = [fmt.megabytes(part.peak_rss_mb) for part in parts]
        alt = "Peak memory: " + ", ".join(f"{p.component} {t}" for p, t in zip(parts, texts, strict=True)) + "."
        values = [part.peak_rss_mb for part in parts]
        figures.append(bars("memory", "Peak memory", alt, labels, values, texts, "baseline"))
    return figures


def all_figures(data: ReportData) -> dict[str, list[Figure]]:
    """Every figure of the report by section; a section without data is empty."""
    counts, result = data.counts, data.evaluation
    tables = counts.tables if counts else {}
    return {
        "rows": [row_account(name, tables[name]) for name in ("impressions", "clicks") if name in tables],
        "dead_letters": [dead_letters(counts)] if counts and any(t.reasons for t in tables.values()) else [],
        "metrics": metrics(result) if result else [],
        "learning": [figure for name, training in trainings(data) for figure in learning(name, training)],
        "reliability": [reliability(result.reliability)] if result and result.reliability else [],
        "slices": slices(result) if result else [],
        "lists": list_figures_of(data.cascade) if data.cascade else [],
        "cascade": cascade_figures(data.cascade) if data.cascade else [],
        "timings": timings(data.timings) if data.timings else [],
    }

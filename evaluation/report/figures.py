"""Figures of what a run did: rows by outcome, learning curves, time and memory; and the list of all figures."""

from __future__ import annotations

from typing import Any

from evaluation.report import format as fmt
from evaluation.report.cascade_figures import cascade_figures
from evaluation.report.data import ComponentTiming, ReportData
from evaluation.report.plots import (
    ROW_HEIGHT,
    Figure,
    bar_trace,
    bars,
    label,
    rows_axis,
    slug,
)
from evaluation.report.quality_figures import metrics, reliability, slices
from evaluation.report.training_record import Training
from features.ingest.counts import IngestCounts, TableCounts
from features.log_contract import Reason

ORPHAN = Reason.UNKNOWN_IMPRESSION
"""The reason of clicks that belong to no impression."""


def row_account(table: str, counts: TableCounts) -> Figure:
    """Waterfall of one table: rows in, less each kind of loss, down to what is kept."""
    losses = row_losses(counts)
    total = counts.rows_in
    base, bases = total, [0]
    for _, rows, _ in losses:
        base -= rows
        bases.append(base)
    # The last bar is what was counted as kept, not the remainder: a balance that is off shows as a step.
    labels = ["rows in", *(f"− {name}" for name, _, _ in losses), "= joined" if table == "clicks" else "= kept"]
    values = [total, *(rows for _, rows, _ in losses), counts.kept]
    texts = [fmt.count(total), *(f"{fmt.count(rows)} ({fmt.share(rows, total)})" for rows in values[1:])]
    colors = ["@baseline", *(color for _, _, color in losses), "@model"]
    # A sliver of a bar must still be seen: a border has a width whatever the value.
    marker = {"color": colors, "line": {"width": 2, "color": colors}}
    data = bar_trace(values, texts, marker) | {"base": [*bases, 0]}
    layout = {
        "xaxis": {"range": [0, max(total, 1) * 2.1], "visible": False, "fixedrange": True},
        "yaxis": rows_axis(labels),
        "margin": {"t": 4, "b": 4},
    }
    alt = f"Waterfall of {table}: " + ", ".join(f"{a} {b}" for a, b in zip(labels, texts, strict=True)) + "."
    return Figure(f"rows-{slug(table)}", table, alt, [data], layout, 16 + ROW_HEIGHT * len(values))


def row_losses(counts: TableCounts) -> list[tuple[str, int, str]]:
    """(name, rows, colour) of everything that left a table's rows. Late, ignored and orphaned are of clicks alone."""
    orphans = counts.reasons.get(ORPHAN, 0)
    optional = [("late", counts.late, "@warning"), ("other labels", counts.ignored, "@muted")]
    return [
        ("duplicates", counts.duplicates, "@warning"),
        *(loss for loss in optional if loss[1]),
        *([("orphans", orphans, "@bad")] if orphans else []),
        ("dead letters", counts.dead_letters - orphans, "@bad"),
        ("immature", counts.immature, "@muted"),
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
    return bars("dead-letters", "Dead letters by reason", alt, labels, values, texts, "@bad")


def learning(training: Training) -> list[Figure]:
    """Log loss of train and validation, validation AUC and speed, each by epoch; the best epoch is marked."""
    series = [
        ("log-loss", "Log loss", [("train_log_loss", "train", "@baseline"), ("val_log_loss", "validation", "@model")]),
        ("val-auc", "Validation AUC", [("val_auc", "validation", "@model")]),
        ("speed", "Examples a second", [("examples_per_second", "training", "@model")]),
    ]
    epochs = [epoch.epoch for epoch in training.epochs]
    figures = []
    for identifier, title, lines in series:
        write = fmt.rate if identifier == "speed" else fmt.metric
        data, words = [], []
        for attribute, name, color in lines:
            values = [getattr(epoch, attribute) for epoch in training.epochs]
            if all(value is None for value in values):
                continue
            texts = [f"epoch {e}: {name} {write(v)}" for e, v in zip(epochs, values, strict=True)]
            data.append(
                {
                    "type": "scatter",
                    "mode": "lines+markers",
                    "name": name,
                    "x": epochs,
                    "y": values,
                    "line": {"color": color, "width": 2},
                    "marker": {"color": color, "size": 7, "symbol": "circle" if color == "@model" else "square"},
                    "hovertext": texts,
                    "hoverinfo": "text",
                }
            )
            words += texts
        if data:
            layout = _epoch_layout(epochs, training.best_epoch, legend=len(data) > 1, zero=identifier == "speed")
            figures.append(Figure(identifier, title, f"{title} by epoch. " + "; ".join(words) + ".", data, layout, 250))
    return figures


def _epoch_layout(epochs: list[int], best: int | None, *, legend: bool, zero: bool) -> dict[str, Any]:
    layout: dict[str, Any] = {
        "xaxis": {
            "title": {"text": "epoch"},
            "dtick": max(1, -(-len(epochs) // 8)),
            "tick0": epochs[0],
            "range": [epochs[0] - 0.4, epochs[-1] + 0.4],
            "zeroline": False,
        },
        "yaxis": {"zeroline": False, "automargin": True, "nticks": 6, **({"rangemode": "tozero"} if zero else {})},
        "margin": {"t": 46 if legend else 26, "b": 44},
        "showlegend": legend,
        "legend": {"orientation": "h", "x": 1, "xanchor": "right", "y": 1.1, "yanchor": "bottom"},
    }
    if best is not None:
        line = {"color": "@good", "dash": "dot", "width": 1.5}
        layout["shapes"] = [{"type": "line", "x0": best, "x1": best, "yref": "paper", "y0": 0, "y1": 1, "line": line}]
        layout["annotations"] = [
            {
                "text": "best",
                "x": best,
                "y": 1,
                "yref": "paper",
                "yanchor": "bottom",
                "showarrow": False,
                "font": {"color": "@good", "size": 12},
            }
        ]
    return layout


def timings(parts: tuple[ComponentTiming, ...]) -> list[Figure]:
    """Bars of wall time and of peak memory by component."""
    labels = [label(part.component, 24) for part in parts]
    texts = [fmt.seconds(part.seconds) for part in parts]
    alt = "Wall time: " + ", ".join(f"{p.component} {t}" for p, t in zip(parts, texts, strict=True)) + "."
    figures = [bars("seconds", "Wall time", alt, labels, [part.seconds for part in parts], texts)]
    if any(part.peak_rss_mb is not None for part in parts):
        texts = [fmt.megabytes(part.peak_rss_mb) for part in parts]
        alt = "Peak memory: " + ", ".join(f"{p.component} {t}" for p, t in zip(parts, texts, strict=True)) + "."
        values = [part.peak_rss_mb for part in parts]
        figures.append(bars("memory", "Peak memory", alt, labels, values, texts, "@baseline"))
    return figures


def all_figures(data: ReportData) -> dict[str, list[Figure]]:
    """Every figure of the report by section; a section without data is empty."""
    counts, result = data.counts, data.evaluation
    tables = counts.tables if counts else {}
    return {
        "rows": [row_account(name, tables[name]) for name in ("impressions", "clicks") if name in tables],
        "dead_letters": [dead_letters(counts)] if counts and any(t.reasons for t in tables.values()) else [],
        "metrics": metrics(result) if result else [],
        "learning": learning(data.training) if data.training and data.training.epochs else [],
        "reliability": [reliability(result.reliability)] if result and result.reliability else [],
        "slices": slices(result) if result else [],
        "cascade": cascade_figures(data.cascade) if data.cascade else [],
        "timings": timings(data.timings) if data.timings else [],
    }

"""Scores from stored bucket tables beside the joint graph's, by precision of the store.

It reads what `make run` left.

For requests of the test split with a long history: each one's long window becomes a table (through the exported
ranker's `encode_behaviors`), goes through a store of each precision, and is read back into `serving_default`. The joint
graph (`rank_requests`) reads the same windows as behaviours.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

import clickmill as cm
from evaluation.metrics.registry import compute_metrics
from evaluation.metrics.rows import ScoredRows
from features.histories.windows import attach_histories, read_behaviors
from serving.requests.tensors import slate_tensors, tensors_from_table
from serving.saved.ranker import SavedRanker
from serving.user_stores.bse.build import StoreBuilder
from serving.user_stores.bse.record import RecordLayout

PRECISIONS = ("fp32", "fp16", "int8")
OPTIONS = {
    "run": ("runs/simulated", "directory of the run"),
    "model": ("serving_models/simulated_autoint", "that it pushed"),
    "requests": (1000, "of the longest histories"),
}


def long_requests(saved: SavedRanker, examples: Path, behaviors: Path, count: int) -> pa.Table:
    """The `count` requests of the test split with the longest histories, windows attached."""
    tables = []
    for path in sorted((examples / "Split-test").glob("requests-*.parquet")):
        history = saved.spec.history
        tables.append(attach_histories(pq.read_table(path), read_behaviors(behaviors, path, history), history))
    rows = pa.concat_tables(tables)
    order = np.argsort(-rows["history_end"].to_numpy(), kind="stable")[:count]
    return rows.take(pa.array(order))


def run(options) -> dict:
    """Scores the requests by the joint graph, and by tables of every precision."""
    saved = SavedRanker(options.model)
    artifacts = Path(options.run, "artifacts", "LogIngest")
    examples, behaviors = (
        max((artifacts / name).iterdir(), key=lambda p: int(p.name)) for name in ("examples", "behaviors")
    )
    rows = long_requests(saved, examples, behaviors, options.requests)
    labels = rows[saved.spec.label].combine_chunks().flatten().to_numpy(zero_copy_only=False)
    joint = np.concatenate(
        [
            saved.run("rank_requests", tensors_from_table(saved.spec, rows.slice(start, 64), saved.history))["score"]
            for start in range(0, len(rows), 64)
        ]
    )
    tables = [saved.long_table(rows.slice(number, 1)) for number in range(len(rows))]
    index = np.arange(len(labels))

    def auc(scores: np.ndarray) -> float:
        return compute_metrics(ScoredRows(labels, scores, index, index), ["auc"])["auc"]

    def scores_with(read) -> np.ndarray:
        parts = []
        for number in range(len(rows)):
            sums = read(number)
            sums = None if sums is None else sums[np.newaxis]
            tensors = slate_tensors(saved.spec, rows.slice(number, 1), saved.history, sums)
            parts.append(saved.run("serving_default", tensors)["score"][0])
        return np.concatenate(parts)

    found = {
        "requests": len(rows),
        "candidates": len(labels),
        "long_behaviors_median": float(np.median([table.counts[0].sum() for table in tables])),
        "auc_joint": auc(joint),
        "without_table": {"largest_change": float(np.abs(scores_with(lambda number: None) - joint).max())},
    }
    for precision in PRECISIONS:
        layout = RecordLayout(*saved.history.table_shape, precision)
        with tempfile.TemporaryDirectory() as root:
            with StoreBuilder(root, saved.history.version, layout) as builder:
                users = pa.array(np.arange(len(rows)))
                sums, counts = (np.stack([getattr(table, part) for table in tables]) for part in ("sums", "counts"))
                builder.writer.write(users, sums, counts)
                builder.publish()
            with cm.BseStore(root, saved.history.version) as store:
                scores = scores_with(lambda number, store=store: store.get(number).sums)
        change = np.abs(scores - joint)
        found[precision] = {
            "largest_change": float(change.max()),
            "mean_change": float(change.mean()),
            "auc_change": auc(scores) - found["auc_joint"],
            "record_bytes": layout.num_bytes,
        }
    return found


def figures(found: dict) -> list[tuple[str, str]]:
    figure = "; ".join(
        f"{name}: {found[name]['largest_change']:.1e} (AUC {found[name]['auc_change']:+.1e})" for name in PRECISIONS
    )
    return [(f"largest change of a score by the store's precision, {found['requests']:,} requests", figure)]

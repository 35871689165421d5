"""Judges a retrieval model on held-out takes: recall and MAP over the whole corpus by slice, gates, the verdict.

A take is one (request, item taken) pair. Popularity, which orders all items by how often they were taken in train, is
the baseline that a personal retrieval has to beat.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from evaluation.config import RetrievalEvaluationConfig
from evaluation.gates import make_gate
from evaluation.metrics.ranks import count_above
from evaluation.metrics.retrieval import (
    OVERALL,
    SLICES,
    item_slices,
    retrieval_metrics,
)
from evaluation.metrics.rows import Array
from evaluation.results import GateResult, Verdict
from features.config import Strict

RETRIEVAL_EVALUATION_FILE = "retrieval_evaluation.json"


@dataclass(frozen=True, eq=False)
class Takes:
    """Held-out takes as one model embeds them.

    Attributes:
      queries: [Q, d] float32, of each take's request.
      items: [n, d] float32, of the whole corpus.
      taken: [Q] index into `items`, from 0.
    """

    queries: Array
    items: Array
    taken: Array


class RetrievalScores(Strict):
    """Metrics of one retrieval: slice → metric → value; None where a slice has no take."""

    name: str
    slices: dict[str, dict[str, float | None]]


class RetrievalEvaluation(Verdict):
    """What one evaluation found.

    Attributes:
      takes: by slice, `all` among them.
      unknown_takes: takes of items that are not in the corpus; they are left out.
      items: size of the corpus.
      ks: cut-offs.
      model: the judged model.
      popularity: items ordered by how often they were taken in train.
      live: the model that serves now, on the same takes; None: there is none.
    """

    file_name: ClassVar[str] = RETRIEVAL_EVALUATION_FILE
    takes: dict[str, int]
    unknown_takes: int = 0
    items: int
    ks: tuple[int, ...]
    model: RetrievalScores
    popularity: RetrievalScores
    live: RetrievalScores | None = None


def evaluate_retrieval(
    model: Takes,
    train_counts: Array,
    config: RetrievalEvaluationConfig | None = None,
    live: Takes | None = None,
    unknown_takes: int = 0,
) -> RetrievalEvaluation:
    """Ranks the whole corpus for every take and decides on the blessing.

    Args:
      model: the takes.
      train_counts: [n] how often each item of the corpus was taken in train.
      config: what to measure and to demand.
      live: the same takes as the live model embeds them; its corpus may be another.
      unknown_takes: takes that were left out, for the record.

    Raises:
      ValueError: if the counts are not of the corpus, or the live model's takes are others.
    """
    config = config or RetrievalEvaluationConfig()
    if len(train_counts) != len(model.items):
        raise ValueError(f"`train_counts` must hold {len(model.items)} items. Received: {len(train_counts)}.")
    if live is not None and len(live.taken) != len(model.taken):
        raise ValueError(f"`live` must hold the same {len(model.taken)} takes. Received: {len(live.taken)}.")
    slices = item_slices(train_counts, config.head_share)[model.taken]
    scores = {
        "model": _scores(*count_above(model.queries, model.items, model.taken), slices, config.ks),
        "popularity": _scores(*_popularity_ranks(train_counts, model.taken), slices, config.ks),
    }
    if live is not None:
        scores["live"] = _scores(*count_above(live.queries, live.items, live.taken), slices, config.ks)
    sets = {name: RetrievalScores(name=name, slices=table) for name, (table, _) in scores.items()}
    takes = scores["model"][1]
    chance = min(1.0, max(config.ks) / len(model.items))
    gates = _judge(config, takes[OVERALL], chance, sets["model"], sets["popularity"], sets.get("live"))
    return RetrievalEvaluation(
        takes=takes,
        unknown_takes=unknown_takes,
        items=len(model.items),
        ks=config.ks,
        **{name: sets.get(name) for name in ("model", "popularity", "live")},
        gates=gates,
        blessed=all(gate.passed for gate in gates),
    )


def _scores(
    above: Array, tied: Array, slices: Array, ks: tuple[int, ...]
) -> tuple[dict[str, dict[str, float | None]], dict[str, int]]:
    table = retrieval_metrics(above, tied, slices, ks)
    takes = {name: int(table[name].pop("pairs")) for name in (OVERALL, *SLICES)}
    return {
        part: {name: None if np.isnan(value) else value for name, value in row.items()} for part, row in table.items()
    }, takes


def _popularity_ranks(counts: Array, taken: Array) -> tuple[Array, Array]:
    """Items that are more popular than each take's, and others that are as popular."""
    ordered = np.sort(counts)
    first, end = (np.searchsorted(ordered, counts[taken], side) for side in ("left", "right"))
    return len(counts) - end, end - first - 1


def _judge(
    config: RetrievalEvaluationConfig,
    takes: int,
    chance: float,
    model: RetrievalScores,
    popularity: RetrievalScores,
    live: RetrievalScores | None,
) -> tuple[GateResult, ...]:
    gates, limits, metric = [], config.gates, f"recall@{max(config.ks)}"

    def add(name: str, value: float | None, minimum: float, field: str, found: str) -> None:
        gates.append(make_gate(limits, field, name, value, minimum, None, found))

    ours, theirs = (scores.slices[OVERALL][metric] for scores in (model, popularity))
    if limits.min_takes is not None:
        add("min_takes", takes, limits.min_takes, "min_takes", f"{takes} takes.")
    if limits.min_lift is not None:
        found = "no take." if ours is None else f"{metric} is {ours:.4f}, of popularity {theirs:.4f}."
        # Where popularity finds nothing, one take at least has to be found.
        minimum = max(limits.min_lift * (theirs or 0.0), 1 / max(takes, 1))
        add("recall_over_popularity", ours, minimum, "min_lift", found)
    if limits.min_lift_over_chance is not None:
        found = "no take." if ours is None else f"{metric} is {ours:.4f}, of chance {chance:.4f}."
        add("recall_over_chance", ours, limits.min_lift_over_chance * chance, "min_lift_over_chance", found)
    if limits.max_recall_loss is not None and live is not None:
        serving = live.slices[OVERALL][metric]
        gain = None if ours is None or serving is None else ours - serving
        found = "no take." if ours is None else f"{metric} is {ours:.4f}, of the live model {serving:.4f}."
        add("live_recall", gain, -limits.max_recall_loss, "max_recall_loss", found)
    return tuple(gates)

"""Judges a retrieval model on held-out takes: recall and MAP over the whole corpus by slice, gates, the verdict.

A take is one (request, item taken) pair. Popularity, which orders all items by how often they were taken in train, is
the baseline that a personal retrieval has to beat. A retrieval that a fine ranker teaches is judged by the items that
its teacher lists for held-out requests: (request, item listed) pairs, which are ranked as takes are.

Two models are compared on the items that both corpora hold, and on the pairs of these: over its own corpus the model
with fewer items finds more. Differences are paired, and their intervals leave users out of both at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import ClassVar

import numpy as np

from evaluation.config import RetrievalEvaluationConfig, RetrievalGates
from evaluation.gates import compare, comparison_gate, estimate_text, make_gate, rows_needed
from evaluation.intervals import estimate
from evaluation.metrics.metric import divide
from evaluation.metrics.ranks import expected_hits, popularity_ranks
from evaluation.metrics.retrieval import OVERALL, SLICES, item_slices, retrieval_metrics
from evaluation.metrics.rows import Array
from evaluation.metrics.takes import Takes, over_shared_items
from evaluation.results import ComparisonVerdict, Estimate, GateResult, Verdict
from features.config import Strict

RETRIEVAL_EVALUATION_FILE = "retrieval_evaluation.json"
MODEL, POPULARITY, LIVE, ANCHOR, TWO_TOWER = "model", "popularity", "live", "anchor", "two_tower"


class RetrievalScores(Strict):
    """Metrics of one retrieval: slice → metric → value; None where a slice has no take."""

    name: str
    slices: dict[str, dict[str, float | None]]


class RecallComparison(Strict):
    """Recall at the largest k of the model and of another, over the items that both corpora hold.

    Attributes:
      items: how many both hold.
      takes: of these items; of a model that is taught, those of the teacher's lists among them.
      model: the model's recall.
      other: the other model's.
      difference: model − other, with its paired interval.
      verdict: what the rows show; None where there is no interval.
      takes_needed: of `cannot_tell`: about as many takes would tell.
      version: the version of the other model, for the record; '' where it is not known.
      unscored: why the other model could not be scored, as a sentence; then there is no figure and no gate judges. ''
        where it was scored.
    """

    items: int = 0
    takes: int = 0
    model: float | None = None
    other: float | None = None
    difference: Estimate = Estimate()
    verdict: ComparisonVerdict | None = None
    takes_needed: int | None = None
    version: str = ""
    unscored: str = ""


class RetrievalEvaluation(Verdict):
    """What one evaluation found.

    Attributes:
      takes: by slice, `all` among them.
      unknown_takes: takes of items that are not in the corpus; they are left out.
      items: size of the corpus.
      ks: cut-offs.
      model: the judged model, over its whole corpus.
      popularity: items ordered by how often they were taken in train.
      live: the model that serves now, over its own corpus, on the takes of what it holds; None: there is none, or it
        could not be scored.
      live_comparison: the model beside the one that serves now: by takes, or by the teacher's lists where it is taught.
      anchor: the same beside the last model that was shown to be better, or was set by hand; None where that
        is the live model, or there is none.
      taught_recall: recall of the teacher's lists at the largest k, by who finds them: `model`, `two_tower` (which
        learns from takes), `popularity`; empty where no teacher was asked.
      taught_pairs: (request, item) pairs of these lists; 0 where there are none.
    """

    file_name: ClassVar[str] = RETRIEVAL_EVALUATION_FILE
    takes: dict[str, int]
    unknown_takes: int = 0
    items: int
    ks: tuple[int, ...]
    model: RetrievalScores
    popularity: RetrievalScores
    live: RetrievalScores | None = None
    live_comparison: RecallComparison | None = None
    anchor: RecallComparison | None = None
    taught_recall: dict[str, Estimate] = {}
    taught_pairs: int = 0

    def figures(self) -> dict[str, float]:
        return {name: value for name, value in self.model.slices.get("all", {}).items() if value is not None}

    @property
    def verdict(self) -> ComparisonVerdict | None:
        """Of the model beside the one that serves now; None: there is none, or nothing to tell by."""
        return None if self.live_comparison is None else self.live_comparison.verdict

    @property
    def becomes_anchor(self) -> bool:
        """Whether the model, once it is pushed, is the anchor of those to come: it is shown to be better than the last.

        The live model is the anchor where no other is on record.
        """
        last = self.anchor or self.live_comparison
        return self.blessed and last is not None and last.verdict == "better"


def evaluate_retrieval(
    model: Takes,
    train_counts: Array,
    config: RetrievalEvaluationConfig | None = None,
    live: Takes | None = None,
    unknown_takes: int = 0,
    *,
    anchor: Takes | None = None,
    taught: Mapping[str, Takes] | None = None,
    unscored: str = "",
) -> RetrievalEvaluation:
    """Ranks the whole corpus for every take and decides on the blessing.

    Args:
      model: the takes.
      train_counts: [n] how often each item of the corpus was taken in train.
      config: what to measure and to demand.
      live: the same takes as the live model embeds them; its corpus may be another.
      unknown_takes: takes that were left out before, for the record.
      anchor: the same takes as the anchor embeds them; None where that is the live model, or there is none.
      taught: items of the teacher's lists, as takes are: of the `model` and of `two_tower`, which learns from takes,
        and of `live` and `anchor` where there are. With them the model is compared by the lists, not by the takes.
      unscored: why the live model could not be scored; '' where it was, or there is none.

    Raises:
      ValueError: if the counts are not of the corpus, or another model's takes are others.
    """
    config = config or RetrievalEvaluationConfig()
    if len(train_counts) != len(model.items):
        raise ValueError(f"`train_counts` must hold {len(model.items)} items. Received: {len(train_counts)}.")
    for name, other in (("live", live), ("anchor", anchor)):
        if other is not None and len(other) != len(model):
            raise ValueError(f"`{name}` must hold the same {len(model)} takes. Received: {len(other)}.")
    slices, k = item_slices(train_counts, config.head_share), max(config.ks)
    known = model.select(model.known)
    ranks = {MODEL: known.ranks(), POPULARITY: popularity_ranks(train_counts, known.taken)}
    sets = {name: _scores(name, *found, slices[known.taken], config.ks) for name, found in ranks.items()}
    takes = {part: int(np.count_nonzero(slices[known.taken] == i)) for i, part in enumerate(SLICES)}
    takes = {OVERALL: len(known), **takes}
    if live is not None:
        both = np.intersect1d(model.known, live.known)
        sets[LIVE] = _scores(LIVE, *live.select(both).ranks(), slices[model.taken[both]], config.ks)

    recalls = _Recalls(known, {name: expected_hits(*found, k) for name, found in ranks.items()}, config.interval_level)
    lists = taught or {}
    others = {LIVE: lists.get(LIVE, live), ANCHOR: lists.get(ANCHOR, anchor)}
    compared = {
        name: _compare(lists.get(MODEL, model), other, config) for name, other in others.items() if other is not None
    }
    if unscored:
        compared[LIVE] = RecallComparison(unscored=unscored)
    listed = _recalls_of_lists(lists, train_counts, k, config) if lists else None
    gates = tuple(_judge(config, recalls, len(known), k / len(model.items), listed, compared))
    return RetrievalEvaluation(
        takes=takes,
        unknown_takes=unknown_takes + len(model) - len(known),
        items=len(model.items),
        ks=config.ks,
        **{name: sets.get(name) for name in (MODEL, POPULARITY, LIVE)},
        live_comparison=compared.get(LIVE),
        anchor=compared.get(ANCHOR),
        taught_recall={} if listed is None else {name: listed.recall(name) for name in listed.names},
        taught_pairs=len(lists[MODEL]) if lists else 0,
        gates=gates,
        blessed=all(gate.passed for gate in gates),
    )


class _Recalls:
    """Recall of several retrievals over the same takes: over all, and over all but those of each user."""

    def __init__(self, takes: Takes, hits: Mapping[str, Array], level: float):
        self.names, self._level = tuple(hits), level
        *sums, takes_of = takes.user_codes().sums(*hits.values(), 1.0).T
        self._value = [float(divide(each.sum(), takes_of.sum())) for each in sums]
        self._without = [divide(each.sum() - each, takes_of.sum() - takes_of) for each in sums]

    def value(self, name: str) -> float | None:
        """A retrieval's recall; None without a take."""
        return self.recall(name).value

    def recall(self, name: str) -> Estimate:
        """A retrieval's recall, with its interval."""
        at = self.names.index(name)
        return estimate(self._value[at], self._without[at], self._level)

    def difference(self, name: str, other: str, share: float = 1.0) -> Estimate:
        """The recall of one less `share` of that of another, paired."""
        at, to = self.names.index(name), self.names.index(other)
        less = self._without[at] - share * self._without[to]
        return estimate(self._value[at] - share * self._value[to], less, self._level)


def _scores(name: str, above: Array, tied: Array, slices: Array, ks: tuple[int, ...]) -> RetrievalScores:
    table = retrieval_metrics(above, tied, slices, ks)
    return RetrievalScores(
        name=name,
        slices={
            part: {metric: None if np.isnan(value) else value for metric, value in row.items() if metric != "pairs"}
            for part, row in table.items()
        },
    )


def _recalls_of_lists(
    lists: Mapping[str, Takes], train_counts: Array, k: int, config: RetrievalEvaluationConfig
) -> _Recalls:
    """Who finds the items of the teacher's lists."""
    hits = {name: lists[name].hits(k) for name in (MODEL, TWO_TOWER) if name in lists}
    hits[POPULARITY] = np.zeros(len(lists[MODEL]))
    known = lists[MODEL].known
    hits[POPULARITY][known] = expected_hits(*popularity_ranks(train_counts, lists[MODEL].taken[known]), k)
    return _Recalls(lists[MODEL], hits, config.interval_level)


def _compare(model: Takes, other: Takes, config: RetrievalEvaluationConfig) -> RecallComparison:
    """Compares two models on the items that both corpora hold."""
    k, margin = max(config.ks), config.gates.max_recall_loss or 0.0
    model, other = over_shared_items(model, other)
    recalls = _Recalls(model, {"model": model.hits(k), "other": other.hits(k)}, config.interval_level)
    difference = recalls.difference("model", "other")
    verdict = None if difference.value is None else compare(difference, margin)
    return RecallComparison(
        items=len(model.items),
        takes=len(model),
        model=recalls.value("model"),
        other=recalls.value("other"),
        difference=difference,
        verdict=verdict,
        takes_needed=rows_needed(difference, margin, len(model)) if verdict == "cannot_tell" else None,
    )


def _judge(
    config: RetrievalEvaluationConfig,
    recalls: _Recalls,
    takes: int,
    chance: float,
    listed: _Recalls | None,
    compared: Mapping[str, RecallComparison],
) -> Iterator[GateResult]:
    limits, metric = config.gates, f"recall@{max(config.ks)}"
    if limits.min_takes is not None:
        yield make_gate(limits, "min_takes", "min_takes", takes, limits.min_takes, None, f"{takes} takes.")
    if limits.min_lift is not None:
        yield _lift(limits, "min_lift", f"recall_over_{POPULARITY}", recalls, POPULARITY, f"{metric} of takes")
    if limits.min_lift_over_chance is not None:
        ours, chance = recalls.value(MODEL), min(1.0, chance)
        found = "no take." if ours is None else f"{metric} is {ours:.4f}, of chance {chance:.4f}."
        least = limits.min_lift_over_chance * chance
        yield make_gate(limits, "min_lift_over_chance", "recall_over_chance", ours, least, None, found)
    if limits.min_taught_lift is not None:
        for other in (TWO_TOWER, POPULARITY):
            name, of_lists = f"taught_over_{other}", f"{metric} of the teacher's lists"
            yield _lift(limits, "min_taught_lift", name, listed, other, of_lists)
    if limits.max_recall_loss is not None:
        for name, comparison in compared.items():
            if not comparison.unscored:
                who = {LIVE: "the live model", ANCHOR: "the anchor"}[name]
                told = f"over the {comparison.items} items that both hold, {metric} of the model less that of {who}"
                difference, of = comparison.difference, comparison.takes
                guards = name == ANCHOR or ANCHOR not in compared  # where no other is on record, the live one is it
                gate = f"{name}_recall"
                yield comparison_gate(limits, "max_recall_loss", gate, difference, of, told, guards=guards)


def _lift(limits: RetrievalGates, field: str, name: str, recalls: _Recalls | None, other: str, what: str) -> GateResult:
    """Judges the model's recall less so many times that of another: fails where a loss is shown.

    A model that finds nothing fails beside any.
    """
    lift = getattr(limits, field)
    if recalls is None or other not in recalls.names or recalls.value(MODEL) is None:
        return make_gate(limits, field, name, None, 0.0, None, f"no {what} to judge by.")
    difference, ours = recalls.difference(MODEL, other, lift), recalls.value(MODEL)
    found = (
        f"{what} is {ours:.4f}, of {other} {recalls.value(other):.4f}; the first less {lift:g} times the second is "
        f"{estimate_text(difference)}, the upper end is judged."
    )
    value = difference.value if difference.high is None else difference.high
    return make_gate(limits, field, name, value if ours else None, 0.0, None, found)

"""How much of the ideal "the fine ranker scores everything" a cascade keeps, request by request.

Three views of one list, each beside the ideal's list, because none says it all (docs/reference/cascade.md):

- `ndcg`: gains are the fine ranker's own probabilities, so the ideal's is 1 and nothing but the cascade's losses is
  measured. Every request has one; its noise is small.
- `clicked_ndcg`: gains are the logged clicks, in the list of the whole catalogue. Unbiased by any model, but a click
  on one of a few shown items is seldom in a list of the whole catalogue: mostly 0.
- `logged_ndcg`: clicks again, in the list reduced to the items that the log judged (a condensed list: Sakai,
  Alternatives to Bpref, SIGIR 2007). Items that a stage drops follow those it passes, in the order of the last stage
  that saw them; what was never retrieved shares the last place.

The log loss is of all logged impressions. An item that reaches the fine ranker has its probability; of a dropped one
the cascade knows nothing but that it was dropped, so all of them share one probability: the fine ranker's mean over
them.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from evaluation.cascade.scores import (
    NOT_RETRIEVED,
    CascadeScores,
    Selection,
    is_member,
)
from evaluation.metrics.pointwise import row_log_loss
from evaluation.metrics.ranking import NDCG
from evaluation.metrics.rows import Array, rank_within_groups


def sigmoid(logits: Array) -> Array:
    """Probabilities float64, 0 for -inf."""
    with np.errstate(over="ignore"):
        probabilities: Array = 1.0 / (1.0 + np.exp(-np.asarray(logits, np.float64)))
    return probabilities


def discounts(k: int) -> Array:
    """[k] of DCG: 1 / log2(1 + rank)."""
    found: Array = 1.0 / np.log2(np.arange(2, k + 2))
    return found


def dcg(gains: Array) -> Array:
    """[R] discounted cumulative gains of lists [R, k]."""
    return gains @ discounts(gains.shape[1])


def kept_ndcg(scores: CascadeScores, logits: Array, k: int) -> Array:
    """[R] NDCG of lists of the given logits [R, n], with the fine ranker's probabilities as gains; the ideal list's
    is 1."""
    return dcg(sigmoid(logits)) / dcg(sigmoid(scores.ideal_logit[:, :k]))


def clicked_ndcg(scores: CascadeScores, listed: Array, k: int | None = None) -> Array:
    """[R] NDCG of lists [R, n] of the whole catalogue, with clicks as gains; NaN for requests without a click.

    `k` is the length that the lists should have, where they are shorter; n by default.
    """
    request, item = _clicked(scores)
    size = scores.catalogue_size + 1
    gains = np.isin(np.arange(len(listed))[:, np.newaxis] * size + listed + 1, request * size + item + 1)
    count = clicks_in_catalogue(scores)
    with np.errstate(invalid="ignore", divide="ignore"):
        found = dcg(gains.astype(np.float64)) / best_clicked_dcg(count, k or listed.shape[1])
        return np.where(count > 0, found, np.nan)


def clicks_in_catalogue(scores: CascadeScores) -> Array:
    """[R] how many items each request clicked."""
    return np.bincount(_clicked(scores)[0], minlength=len(scores))


def best_clicked_dcg(count: Array, k: int) -> Array:
    """[R] the highest DCG of a list of k that clicks as gains allow: all clicked items first."""
    reached: Array = np.concatenate([[0.0], np.cumsum(discounts(k))])[np.minimum(count, k)]
    return reached


def _clicked(scores: CascadeScores) -> tuple[Array, Array]:
    """(request, item) of every click: one an item, even where a request logged it twice."""
    request, item = scores.request[scores.label], scores.item[scores.label]
    if not len(item):
        return request, item
    request, item = np.unique(np.stack([request, item]), axis=1)
    return request, item


def logged_ndcg(scores: CascadeScores, order: Array, k: int) -> Array:
    """[R] NDCG@k of the logged impressions ordered by `order` [I] (higher first, ties share); NaN without a click."""
    found = np.full(len(scores), np.nan)
    ranked = rank_within_groups(scores.label, order, scores.request)
    if len(ranked.keys):
        found[ranked.keys] = NDCG(k).values(ranked)
    return found


def list_columns(scores: CascadeScores, listed: Array, logits: Array, order: Array, k: int) -> dict[str, Array]:
    """Summands [R] by name of what any list is judged by; every metric is a quotient of their sums (`list_figures`).

    Args:
      scores: of the requests.
      listed: [R, n] rows of the items of the list, best first; -1 where it is shorter. n is at most `k`.
      logits: [R, n] the fine ranker's; -inf where it is shorter.
      order: [I] sort key of the impressions, higher first.
      k: length of the list.
    """
    clicked, logged = clicked_ndcg(scores, listed, k), logged_ndcg(scores, order, k)
    return {
        "requests": np.ones(len(scores)),
        "ndcg": kept_ndcg(scores, logits, k),
        "clicked": np.nan_to_num(clicked),
        "clicked_ideal": np.nan_to_num(clicked_ndcg(scores, scores.ideal[:, :k], k)),
        "with_click": (~np.isnan(clicked)).astype(np.float64),
        "logged": np.nan_to_num(logged),
        "logged_ideal": np.nan_to_num(logged_ndcg(scores, sigmoid(scores.logit), k)),
        "with_logged": (~np.isnan(logged)).astype(np.float64),
    }


def list_figures(sums: Mapping[str, Array]) -> dict[str, Array]:
    """Metrics from sums of `list_columns`, elementwise; NaN where undefined."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return {
            "ndcg": sums["ndcg"] / sums["requests"],
            "clicked_ndcg": sums["clicked"] / sums["with_click"],
            "clicked_ndcg_kept": sums["clicked"] / sums["clicked_ideal"],
            "logged_ndcg": sums["logged"] / sums["with_logged"],
            "logged_ndcg_kept": sums["logged"] / sums["logged_ideal"],
        }


def cascade_order(scores: CascadeScores, selection: Selection) -> Array:
    """[I] sort key of the impressions as the whole cascade orders them, higher first: see the module."""
    key = np.full(len(scores.item), -2.0)
    dropped = ~selection.reached_fine & (selection.coarse_rank < NOT_RETRIEVED)
    key[dropped] = -1.0 - selection.coarse_rank[dropped] / NOT_RETRIEVED
    # Among those that the fine ranker saw only the order counts: probabilities lie above every dropped item's key.
    key[selection.reached_fine] = sigmoid(scores.logit[selection.reached_fine])
    return key


def log_losses(scores: CascadeScores, selection: Selection) -> Array:
    """[I] log loss of the impressions by the cascade's probabilities: see the module."""
    probability = sigmoid(scores.logit)
    dropped = ~selection.reached_fine
    if dropped.any():
        probability[dropped] = probability[dropped].mean()
    return row_log_loss(scores.label.astype(np.float64), probability)


def stage_hits(scores: CascadeScores, selection: Selection) -> dict[str, Array]:
    """[I] bool by stage: whether an impression's item passed it."""
    return {
        "retrieve": selection.retrieved_rank < NOT_RETRIEVED,
        "coarse": selection.reached_fine,
        "list": is_member(selection.listed, scores.request, scores.item, scores.catalogue_size),
    }


def ideal_hits(scores: CascadeScores, selection: Selection, retrieve: int) -> dict[str, Array]:
    """[R] by stage: share of the ideal's top k that passed it."""
    k = selection.listed.shape[1]
    ideal = scores.ideal[:, :k]
    request, item = np.repeat(np.arange(len(ideal)), k), ideal.ravel()
    passed = {
        "retrieve": scores.retrieved[:, :retrieve],
        "coarse": np.take_along_axis(scores.retrieved, selection.coarse_passes, axis=1),
        "list": selection.listed,
    }
    return {
        stage: is_member(rows, request, item, scores.catalogue_size).reshape(ideal.shape).mean(axis=1)
        for stage, rows in passed.items()
    }

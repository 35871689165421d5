"""Lists that a cascade is read beside: what NDCG kept is worth is seen only next to what it costs nothing to keep.

With the fine ranker's probabilities as gains, a random list of the catalogue already keeps some of the ideal's NDCG,
and one list for all requests keeps more: .97 is not "97 % of the work". The references are judged on the same requests,
by the same metrics.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from evaluation.cascade.metrics import (
    best_clicked_dcg,
    cascade_order,
    clicks_in_catalogue,
    dcg,
    discounts,
    list_columns,
    sigmoid,
)
from evaluation.cascade.scores import CascadeScores, ReferenceScores, select
from evaluation.metrics.rows import Array

RANDOM_LIST, POPULARITY, ONE_LIST, RANDOM_FINE = "random_list", "popularity", "one_list", "random_fine"
RETRIEVAL_ALONE, COARSE_ALONE = "retrieval_alone", "coarse_alone"


def reference_columns(
    scores: CascadeScores, references: ReferenceScores, retrieve: int, coarse: int | None, k: int
) -> dict[str, dict[str, Array]]:
    """Summands [R] of the list metrics by reference (`list_columns`), from the weakest to the strongest in kind.

    Args:
      scores: of the requests.
      references: of the same requests.
      retrieve: n₁ of the cascade beside which they stand.
      coarse: its n₂; None: it has no coarse stage.
      k: length of the list.
    """
    found = {RANDOM_LIST: _random_list(scores, references, k)}
    shared = {
        POPULARITY: (references.popular, references.popular_logit, references.popularity),
        ONE_LIST: (references.single, references.single_logit, references.single_score),
    }
    for name, (rows, logits, order) in shared.items():
        found[name] = list_columns(scores, rows[:, :k], logits[:, :k], order, k)
    drawn = replace(scores, retrieved=references.random, fine=references.random_logit, coarse=None, references=None)
    picked = select(drawn, references.random.shape[1], None, k)
    found[RANDOM_FINE] = list_columns(drawn, picked.listed, picked.listed_logit, cascade_order(drawn, picked), k)
    passed = select(scores, retrieve, coarse, k)
    rows, fine = scores.retrieved[:, :k], scores.fine[:, :k]
    found[RETRIEVAL_ALONE] = list_columns(scores, rows, _padded(rows, fine), -passed.retrieved_rank, k)
    if coarse is not None:
        columns = passed.coarse_passes[:, :k]
        rows, fine = (np.take_along_axis(values, columns, axis=1) for values in (scores.retrieved, scores.fine))
        found[COARSE_ALONE] = list_columns(scores, rows, _padded(rows, fine), -passed.coarse_rank, k)
    return found


def _padded(rows: Array, logits: Array) -> Array:
    return np.where(rows >= 0, logits, -np.inf)


def _random_list(scores: CascadeScores, references: ReferenceScores, k: int) -> dict[str, Array]:
    """The expected values over all lists of k items of the catalogue, in closed form."""
    places = discounts(min(k, scores.catalogue_size)).sum()
    count = clicks_in_catalogue(scores)
    nothing = np.full((len(scores), 1), -1)
    columns = list_columns(scores, nothing, np.full(nothing.shape, -np.inf), np.zeros(len(scores.item)), k)
    ideal = dcg(sigmoid(scores.ideal_logit[:, :k]))
    with np.errstate(invalid="ignore", divide="ignore"):
        clicked = count / scores.catalogue_size * places / best_clicked_dcg(count, k)
    columns["ndcg"] = references.mean_probability * places / ideal
    columns["clicked"] = np.where(count > 0, clicked, 0.0)
    return columns

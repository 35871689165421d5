"""What every stage of a cascade says of held-out requests, and what passes each stage under any n₁ and n₂.

The requests are scored once, wider than any cascade that is judged: the first W retrieved items of each with coarse and
fine scores, and the fine ranker's best of the whole catalogue. Every (n₁, n₂) is then a selection, in NumPy.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from evaluation.metrics.rows import Array
from features.arrow import to_numpy

_REQUESTS = ("retrieved", "fine", "ideal", "ideal_logit")
_IMPRESSIONS = ("item", "label", "logit")
_REFERENCE_REQUESTS = ("random", "random_logit", "popular", "popular_logit", "single", "single_logit")
_REFERENCE_IMPRESSIONS = ("popularity", "single_score")
NOT_RETRIEVED = np.iinfo(np.int32).max


@dataclass(frozen=True, eq=False)
class ReferenceScores:
    """What the fine ranker says of items that no stage chose, for the R requests and I impressions of `CascadeScores`.

    Attributes:
      mean_probability: [R] its mean probability over the whole catalogue.
      random: [R, S] rows of items drawn uniformly, without replacement.
      random_logit: [R, S] their logits.
      popular: [R, K] rows of the items that were clicked most often in train, the same for all requests, best first.
      popular_logit: [R, K] their logits.
      popularity: [I] how often each impression's item was clicked in train.
      single: [R, K] rows of the best list that is the same for all of these requests, best first: the items of the
        highest sum over requests of probability / DCG of the ideal list, which is the list of the highest NDCG kept.
        It is chosen with the requests known, so that no other single list can keep more of them.
      single_logit: [R, K] their logits.
      single_score: [I] that sum for each impression's item.
    """

    mean_probability: Array
    random: Array
    random_logit: Array
    popular: Array
    popular_logit: Array
    popularity: Array
    single: Array
    single_logit: Array
    single_score: Array


@dataclass(frozen=True, eq=False)
class CascadeScores:
    """R requests, the first W retrieved items of each, and I logged impressions in all.

    Attributes:
      catalogue_size: items that could be retrieved.
      user: [R] int64 code of the user.
      retrieved: [R, W] row of an item in the catalogue, best first; -1 where fewer were found (only at the end).
      coarse: [R, W] float32 coarse scores of those items; None: there is no coarse ranker.
      fine: [R, W] float32 logits of the fine ranker.
      ideal: [R, K] rows of the fine ranker's best items of the whole catalogue, best first.
      ideal_logit: [R, K] their logits.
      request: [I] int64 index of each impression's request, non-decreasing.
      item: [I] row of the impression's item in the catalogue.
      label: [I] bool, whether it was clicked.
      logit: [I] float32 of the fine ranker.
      unknown_items: further impressions, of items that are not in the catalogue: no stage can pass them.
      references: what the fine ranker says of lists that no stage made; None: they were not scored.

    Raises:
      ValueError: if shapes do not fit each other.
    """

    catalogue_size: int
    user: Array
    retrieved: Array
    coarse: Array | None
    fine: Array
    ideal: Array
    ideal_logit: Array
    request: Array
    item: Array
    label: Array
    logit: Array
    unknown_items: int = 0
    references: ReferenceScores | None = None

    def __post_init__(self) -> None:
        requests = len(self.user)
        for name in ("retrieved", "fine", *(["coarse"] if self.coarse is not None else [])):
            if getattr(self, name).shape != self.retrieved.shape or len(self.retrieved) != requests:
                raise ValueError(
                    f"`{name}` must be [{requests}, {self.retrieved.shape[-1]}], one row a request. Received shape "
                    f"{getattr(self, name).shape}."
                )
        if self.ideal.shape != self.ideal_logit.shape or len(self.ideal) != requests:
            raise ValueError(f"`ideal` and `ideal_logit` must be [{requests}, K]. Received: {self.ideal.shape}.")
        for name in ("item", "label", "logit"):
            if getattr(self, name).shape != self.request.shape:
                raise ValueError(f"`{name}` must be [{len(self.request)}]. Received: {getattr(self, name).shape}.")

    @classmethod
    def from_table(cls, table: pa.Table, catalogue_size: int) -> CascadeScores:
        """Reads what `serving.offline.cascade_scoring.score_cascade` made: one row a request."""
        table = table.combine_chunks()

        def flat(name: str) -> Array:
            return to_numpy(table[name].combine_chunks().flatten())

        def matrices(names: tuple[str, ...]) -> dict[str, Array]:
            return {name: flat(name).reshape(len(table), -1) for name in names if name in table.column_names}

        references = None
        if "mean_probability" in table.column_names:
            references = ReferenceScores(
                mean_probability=table["mean_probability"].to_numpy(),
                **matrices(_REFERENCE_REQUESTS),
                **{name: flat(name) for name in _REFERENCE_IMPRESSIONS},
            )
        counts = np.diff(table["item"].combine_chunks().offsets.to_numpy())
        user = table["user_id"].combine_chunks().dictionary_encode().indices.fill_null(-1)
        return cls(
            catalogue_size=catalogue_size,
            user=np.unique(to_numpy(user), return_inverse=True)[1].astype(np.int64),
            **matrices(_REQUESTS),
            coarse=matrices(("coarse",)).get("coarse"),
            request=np.repeat(np.arange(len(table)), counts),
            **{name: flat(name) for name in _IMPRESSIONS} | {"label": flat("label").astype(bool)},
            unknown_items=int(table["unknown_items"].to_numpy().sum()),
            references=references,
        )

    def __len__(self) -> int:
        return len(self.user)

    @property
    def width(self) -> int:
        """W: no n₁ beyond it can be judged, unless it is the whole catalogue."""
        return self.retrieved.shape[1]


@dataclass(frozen=True, eq=False)
class Selection:
    """What passes each stage of one cascade.

    Attributes:
      listed: [R, k] rows of the items of the list, best first; -1 where it is shorter.
      listed_logit: [R, k] their logits; -inf where it is shorter.
      retrieved_rank: [I] rank (from 0) of each impression's item in the retrieval; `NOT_RETRIEVED` beyond n₁.
      coarse_rank: [I] its rank by the coarse score; `NOT_RETRIEVED` beyond n₁. Without a coarse stage, that of the
        retrieval.
      reached_fine: [I] bool, whether the fine ranker sees it.
      coarse_passes: [R, P] columns of `CascadeScores.retrieved` that reach the fine ranker.
    """

    listed: Array
    listed_logit: Array
    retrieved_rank: Array
    coarse_rank: Array
    reached_fine: Array
    coarse_passes: Array


def select(scores: CascadeScores, retrieve: int, coarse: int | None, top_k: int) -> Selection:
    """Selects as `serving.cascade.Cascade` does: of equal scores the earlier item of the catalogue comes first.

    Args:
      scores: of the requests.
      retrieve: n₁.
      coarse: n₂; None: no coarse stage, the fine ranker scores all retrieved items.
      top_k: length of the list.

    Raises:
      ValueError: if n₁ is beyond what was scored, or n₂ is given without coarse scores.
    """
    first = min(retrieve, scores.width)
    if retrieve > scores.width and scores.width < scores.catalogue_size:
        raise ValueError(f"`retrieve` must be at most {scores.width}, the items scored. Received: {retrieve}.")
    items, fine = scores.retrieved[:, :first], scores.fine[:, :first]
    if coarse is None:
        order = np.broadcast_to(np.arange(first), items.shape)
    elif scores.coarse is None:
        raise ValueError("there are no coarse scores: leave `coarse` out.")
    else:
        order = _best_first(scores.coarse[:, :first], items)
    passes = order[:, : coarse or first]
    passed_items, passed_fine = (np.take_along_axis(a, passes, axis=1) for a in (items, fine))
    best = _best_first(passed_fine, passed_items)[:, :top_k]
    listed, logits = (np.take_along_axis(a, best, axis=1) for a in (passed_items, passed_fine))

    column = _columns_of(items, scores.request, scores.item, scores.catalogue_size)
    found = column >= 0
    rank_of_column = np.empty_like(order)
    np.put_along_axis(rank_of_column, order, np.broadcast_to(np.arange(first), order.shape), axis=1)
    ranks = rank_of_column[scores.request, np.maximum(column, 0)]
    return Selection(
        listed=listed,
        listed_logit=np.where(listed >= 0, logits, -np.inf),
        retrieved_rank=np.where(found, column, NOT_RETRIEVED),
        coarse_rank=np.where(found, ranks, NOT_RETRIEVED),
        reached_fine=found & (ranks < passes.shape[1]),
        coarse_passes=passes,
    )


def is_member(rows: Array, request: Array, item: Array, catalogue_size: int) -> Array:
    """Whether each item [I] is in its request's row of `rows` [R, k]."""
    return _columns_of(rows, request, item, catalogue_size) >= 0


def _columns_of(rows: Array, request: Array, item: Array, catalogue_size: int) -> Array:
    """[I] column of each item in its request's row of `rows` [R, W]; -1: not there."""
    size = catalogue_size + 1  # -1, which pads, is shifted to 0
    keys = (np.arange(len(rows))[:, np.newaxis] * size + rows + 1).ravel()
    if not len(keys):
        return np.full(len(item), -1, np.int64)
    order = np.argsort(keys, kind="stable")
    wanted = request * size + item + 1
    at = np.minimum(np.searchsorted(keys[order], wanted), len(keys) - 1)
    return np.where(keys[order[at]] == wanted, order[at] % rows.shape[1], -1)


def _best_first(values: Array, items: Array) -> Array:
    """Columns of each row by falling value, equal ones by rising item; pads (-1) last."""
    values = np.where(items >= 0, values, -np.inf)
    items = np.where(items >= 0, items, NOT_RETRIEVED)
    order: Array = np.lexsort((items, -values), axis=1)
    return order

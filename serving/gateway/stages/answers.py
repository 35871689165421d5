"""An answer as the schema has it, of what the stages said."""

from __future__ import annotations

import math
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from serving.cascade import best_first, stage_scores
from serving.gateway.releases.release_view import ReleaseView
from serving.gateway.schema import (
    AttentionPair,
    Flag,
    Recommendation,
    RecommendedItem,
    RecommendRequest,
    StagedItem,
    StageScore,
)
from serving.gateway.stages.journey import Notes, Passed
from serving.gateway.traffic import Drawn
from serving.saved.attention import FieldAttention

_FLAG_ORDER = {flag: number for number, flag in enumerate(Flag)}
#: Part of `stage_ms`: the whole request, from when it had a place.
TOTAL = "total"


@dataclass(frozen=True)
class Listed:
    """A list, as places among what was ranked.

    Attributes:
      passed: what was ranked.
      drawn: the places [k] of the items, the first slot first, and how they came about.
      ids: [k] of the items.
      attention: [k] the strongest pairs of each item; None: nobody said.
      indices: [k] among a caller's own candidates; None: the items are the catalogue's.
    """

    passed: Passed
    drawn: Drawn
    ids: Sequence[str | int | None]
    attention: Sequence[tuple[FieldAttention, ...]] | None = None
    indices: np.ndarray | None = None


def answer_of(
    view: ReleaseView,
    request: RecommendRequest,
    variants: Mapping[str, str],
    listed: Listed,
    notes: Notes,
    total_ms: float,
) -> Recommendation:
    """Returns the answer to a request.

    Args:
      view: the release that it is of.
      request: that is answered.
      variants: by layer, of the user.
      listed: the list.
      notes: of the stages.
      total_ms: milliseconds of the whole request.
    """
    passed, drawn, places = listed.passed, listed.drawn, listed.drawn.places
    stages: Sequence[dict[str, StageScore] | None] = [None] * len(places)
    if request.explain:
        stages = _stages(passed, places)
    fine = passed.fine
    scores, logits = ([], []) if fine is None else (fine.probabilities[places].tolist(), fine.scores[places].tolist())
    items = [
        RecommendedItem(
            item_id=item_id,
            position=position,
            index=None if listed.indices is None else int(listed.indices[position]),
            score=_number(scores[position]) if scores else None,
            logit=_number(logits[position]) if logits else None,
            propensity=float(drawn.propensities[position]) if drawn.explored else None,
            stages=stages[position],
            attention=None if listed.attention is None else _pairs(listed.attention[position]),
        )
        for position, item_id in enumerate(listed.ids)
    ]
    return Recommendation(
        request_id=request.request_id or uuid.uuid4().hex,
        release=view.id,
        variants=dict(variants),
        explored=drawn.policy if drawn.explored else None,
        items=items,
        scored={name: len(each) for name, (each, _) in passed.scored.items()} if request.explain else None,
        leading=_leading(view, listed) if request.explain and listed.indices is None else None,
        flags=sorted(notes.flags, key=_FLAG_ORDER.__getitem__),
        stage_ms={name: round(value, 3) for name, value in {**notes.stage_ms, TOTAL: total_ms}.items()},
    )


def _stages(passed: Passed, places: np.ndarray) -> list[dict[str, StageScore]]:
    """What each stage said of the listed items."""
    return _said_by_stages(passed.items[places], passed)


def _said_by_stages(rows: np.ndarray, passed: Passed) -> list[dict[str, StageScore]]:
    """What each stage said of items; it says nothing of those that it did not score."""
    found: list[dict[str, StageScore]] = []
    for stages in stage_scores(rows, passed.scored):
        found.append({name: StageScore(score=_number(each.score), rank=each.rank) for name, each in stages.items()})
    return found


def _leading(view: ReleaseView, listed: Listed) -> list[StagedItem]:
    """The best items of every stage, as many as are listed, in the order of the catalogue."""
    passed, count = listed.passed, len(listed.ids)
    best = [items[best_first(scores, items)[:count]] for items, scores in passed.scored.values()]
    rows = np.unique(np.concatenate([np.zeros(0, np.int64), *best]))
    ids = view.catalogue.item_ids.take(pa.array(rows)).to_pylist()
    said = _said_by_stages(rows, passed)
    return [StagedItem(item_id=item_id, stages=stages) for item_id, stages in zip(ids, said, strict=True)]


def _pairs(pairs: tuple[FieldAttention, ...]) -> list[AttentionPair]:
    return [
        AttentionPair(
            field=pair.field, attends_to=pair.attends_to, layer=pair.layer, head=pair.head, weight=pair.weight
        )
        for pair in pairs
    ]


def _number(value: float) -> float | None:
    """A number as JSON holds it: NaN and infinities are none."""
    return value if math.isfinite(value) else None

"""What a ranker's attention maps say of one candidate, in words of its fields.

Attention says where a layer looked, not what the prediction owes to it (`AutoInt.pair_effects` measures that).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class FieldAttention:
    """How much one field attends to another, in one head of one layer (both from 0).

    Attributes:
      field: the query.
      attends_to: the key.
      layer, head: where. They are read apart: their average hides what single heads attend to.
      weight: in [0, 1]; the weights of a field add up to 1 in each head.
    """

    field: str
    attends_to: str
    layer: int
    head: int
    weight: float


def strongest_pairs(maps: np.ndarray, fields: Sequence[str], count: int = 5) -> tuple[FieldAttention, ...]:
    """Returns the strongest attention between two different fields, strongest first.

    Args:
      maps: [layers, H, M, M] of one candidate, query field by key field.
      fields: names of the M fields.
      count: how many.

    Raises:
      ValueError: if there are not as many names as fields.
    """
    size = maps.shape[-1]
    if len(fields) != size:
        raise ValueError(f"`fields` must name {size} fields. Received: {len(fields)}.")
    weights = np.where(np.eye(size, dtype=bool), -1.0, maps)
    order = np.argsort(-weights.ravel(), kind="stable")[: min(count, weights.size - size * len(maps) * maps.shape[1])]
    places = zip(*np.unravel_index(order, weights.shape), strict=True)
    return tuple(
        FieldAttention(fields[query], fields[key], int(layer), int(head), float(maps[layer, head, query, key]))
        for layer, head, query, key in places
    )

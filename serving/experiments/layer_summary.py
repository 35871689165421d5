"""What a layer does with its users, for who checks a file of experiments."""

from __future__ import annotations

from collections import Counter
from typing import Any, NamedTuple

from serving.experiments.config import Layer
from serving.experiments.exploration.config import Exploration
from serving.experiments.user_buckets import NOBODY, BucketHash, owners


class LayerSummary(NamedTuple):
    """A layer in figures.

    Attributes:
      name: of the layer.
      variants: of each, `variant`, `share` in 1/10,000, `users` of those that were assigned, `release`, `policy`; users
        that no variant has stand last, as `-`.
      moved: in 1/10,000 of the users, who have another variant than in the version before; None: there is none.
    """

    name: str
    variants: list[dict[str, Any]]
    moved: int | None


def summarize(layer: Layer, users: int) -> LayerSummary:
    """Assigns the users 0 … `users` - 1 to a layer's variants."""
    owner, hashed = owners(layer.versions), BucketHash(layer.salt)
    counted = Counter(owner[hashed.bucket(user)] for user in range(users))
    rows: list[dict[str, Any]] = [
        {
            "variant": variant.name,
            "share": variant.share,
            "users": counted[variant.name],
            "release": variant.release,
            "policy": None if variant.exploration is None else _told(variant.exploration),
        }
        for variant in layer.variants
    ]
    nobody = owner.count(NOBODY)
    if nobody:
        rows.append({"variant": "-", "share": nobody, "users": counted[NOBODY], "release": None, "policy": None})
    before = owners(layer.earlier) if layer.earlier else None
    moved = None if before is None else sum(old != new for old, new in zip(before, owner, strict=True))
    return LayerSummary(layer.name, rows, moved)


def _told(exploration: Exploration) -> str:
    settings = ", ".join(f"{key} {value:g}" for key, value in exploration if key != "kind")
    return f"{exploration.kind}: {settings}"

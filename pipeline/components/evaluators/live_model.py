"""Which models a candidate has to stand beside: the one that serves now, and the anchor."""

from __future__ import annotations

from features import storage
from pipeline.release.anchor import find_anchor, identity, pushed_versions


def find_live_model(serving_dir: storage.AnyPath, candidate: storage.AnyPath) -> str | None:
    """Returns the latest pushed version that is not the candidate itself; None if there is none.

    The candidate is its own push after a run: leaving it out makes the answer the same before and after, so that a
    second run of the same input finds its evaluation in the cache.

    Args:
      serving_dir: `serving_models/<name>/`, holding versions as directories named by numbers.
      candidate: the SavedModel that is judged.
    """
    own = identity(candidate)
    return next((path for path in pushed_versions(serving_dir) if identity(path) != own), None)


def find_compared_models(serving_dir: storage.AnyPath, candidate: storage.AnyPath) -> dict[str, str]:
    """Returns `live_model` and `anchor_model`: where they lie, '' for none; the same path where they are one model."""
    live = find_live_model(serving_dir, candidate) or ""
    anchor = find_anchor(serving_dir, candidate) or ""
    if live and anchor and identity(live) == identity(anchor):
        anchor = live
    return {"live_model": live, "anchor_model": anchor}

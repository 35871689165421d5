"""Users with planted interests, as batches: each behaves in a few clusters of items and clicks what lies in them.

Items have an id, a brand that says nothing, and a category, which is their cluster.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa

import clickmill as cm

SPEC = cm.FeatureSpec.model_validate(
    {
        "name": "planted",
        "features": [
            {"name": "device", "table": "impressions"},
            {"name": "item_id", "table": "items", "dtype": "int64", "vocabulary": {"oov_buckets": 1}},
            {"name": "category", "table": "items", "dtype": "int64", "vocabulary": {"oov_buckets": 1}},
            {"name": "brand", "table": "items", "dtype": "int64", "vocabulary": {"oov_buckets": 1}},
        ],
        "history": {"features": ["item_id", "category"], "short_length": 12, "long_length": 24},
    }
)
BRANDS = 10


class PlantedInterests:
    """A world of clusters of equally many items; every request is of a new user.

    Args:
      clusters: in all.
      interests: clusters of one user.
      items_per_cluster: items of one cluster.
      click_rates: of candidates within and without the user's clusters.
      shuffle_labels: for a null control: labels are drawn without looking at the clusters.
    """

    def __init__(
        self,
        clusters: int = 12,
        interests: int = 4,
        items_per_cluster: int = 25,
        click_rates: tuple[float, float] = (0.5, 0.05),
        shuffle_labels: bool = False,
    ):
        self.clusters, self.interests, self._rates, self._shuffle = clusters, interests, click_rates, shuffle_labels
        self._per_cluster = items_per_cluster
        size = clusters * items_per_cluster
        self._brands = np.random.default_rng(0).integers(0, BRANDS, size)

        def vocabulary(terms) -> pa.Table:
            return pa.table({"term": pa.array(terms), "count": np.ones(len(terms), np.int64)})

        terms = {"device": ["app", "web"], "item_id": np.arange(size), "brand": np.arange(BRANDS)}
        terms["category"] = np.arange(clusters)
        self.encoding = cm.FeatureEncoding(SPEC, {name: vocabulary(values) for name, values in terms.items()}, {}, {})

    def cluster_of(self, ids: np.ndarray) -> np.ndarray:
        """The cluster of encoded item ids; -1 for padding."""
        return np.where(ids > 0, (ids - 2) // self._per_cluster, -1)

    def batch(self, rng: np.random.Generator, requests: int, candidates: int = 12) -> dict:
        """Draws requests of full windows: interests in equal parts, half of the candidates from them."""
        own = rng.random((requests, self.clusters)).argsort(axis=1)[:, : self.interests]

        def items_of(clusters: np.ndarray) -> np.ndarray:
            return 2 + clusters * self._per_cluster + rng.integers(0, self._per_cluster, clusters.shape)

        def window(length: int) -> dict:
            ids = items_of(np.take_along_axis(own, rng.integers(0, self.interests, (requests, length)), axis=1))
            category = (self.cluster_of(ids) + 2).astype(np.int32)
            return {"item_id": ids.astype(np.int32), "category": category, "item_row": (ids - 1).astype(np.int32)}

        of_own = np.take_along_axis(own, rng.integers(0, self.interests, (requests, candidates)), axis=1)
        clusters = np.where(rng.random(of_own.shape) < 0.5, of_own, rng.integers(0, self.clusters, of_own.shape))
        inside = (clusters[..., np.newaxis] == own[:, np.newaxis]).any(axis=2)
        clicked = rng.random(inside.shape) < np.where(inside, *self._rates)
        labels = clicked.ravel().astype(np.float32)
        ids = items_of(clusters).ravel()
        history = SPEC.history
        return {
            "features": {
                "device": rng.integers(2, 4, requests).astype(np.int32),
                "item_id": ids.astype(np.int32),
                "category": (clusters.ravel() + 2).astype(np.int32),
                "brand": (self._brands[ids - 2] + 2).astype(np.int32),
            },
            "request_index": np.repeat(np.arange(requests, dtype=np.int32), candidates),
            "label": rng.permutation(labels) if self._shuffle else labels,
            "position": np.tile(np.arange(candidates, dtype=np.int32), requests),
            "item_row": (ids - 1).astype(np.int32),
            "history": {
                "short": window(history.short_length),
                "short_length": np.full(requests, history.short_length, np.int32),
                "long": window(history.long_length),
                "long_length": np.full(requests, history.long_length, np.int32),
            },
        }


def train_on_planted(model, world: PlantedInterests, steps: int, seed: int, learning_rate: float = 3e-3) -> None:
    """Trains a ranking model for some steps on batches of 128 new users."""
    import tensorflow as tf

    from models.training.optimizers import LazyAdam

    rng, optimizer = np.random.default_rng(seed), LazyAdam(learning_rate)
    model(world.batch(rng, 2))

    @tf.function(autograph=False, reduce_retracing=True)
    def step(batch):
        with tf.GradientTape() as tape:
            loss = model.compute_loss(batch, training=True)
        gradients = tape.gradient(loss, model.trainable_variables)
        pairs = [(g, v) for g, v in zip(gradients, model.trainable_variables, strict=True) if g is not None]
        optimizer.apply_gradients(pairs)
        return loss

    for _ in range(steps):
        step(tf.nest.map_structure(tf.constant, world.batch(rng, 128)))


def purity(clusters: np.ndarray, assigned: np.ndarray) -> float:
    """The mean over users of how pure their centres are: the share of behaviours whose cluster is their centre's own.

    A centre's own cluster is its most frequent one. 1: no centre mixes clusters. With as many centres as clusters
    every two merged clusters cost; centres that are left empty cost nothing by themselves.

    Args:
      clusters: [B, L] of behaviours, -1 for padding.
      assigned: [B, L] the centre of each behaviour.

    Returns:
      0 to 1; NaN where there is no behaviour.
    """
    real = clusters >= 0
    users = np.broadcast_to(np.arange(len(clusters))[:, np.newaxis], clusters.shape)[real]
    if not real.any():
        return float("nan")
    shape = (len(clusters), int(assigned.max()) + 1, int(clusters.max()) + 1)
    counts = np.zeros(shape, np.int64)
    np.add.at(counts, (users, assigned[real], clusters[real]), 1)
    totals = counts.sum(axis=(1, 2))
    return float((counts.max(axis=2).sum(axis=1)[totals > 0] / totals[totals > 0]).mean())

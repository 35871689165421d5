"""Users with planted interests, as batches: each behaves in a few clusters of items and clicks what lies in them.

Items have an id, a brand that says nothing, and a category, which is their cluster.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa

import clickmill as cm
from features.encoding.columns import BATCH_TIME_GAP
from features.histories.time_gaps import gap_buckets

NOW = 1_700_000_000_000
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
        own = self._draw_interests(rng, requests)
        of_own = np.take_along_axis(own, rng.integers(0, self.interests, (requests, candidates)), axis=1)
        clusters = np.where(rng.random(of_own.shape) < 0.5, of_own, rng.integers(0, self.clusters, of_own.shape))
        inside = (clusters[..., np.newaxis] == own[:, np.newaxis]).any(axis=2)
        clicked = rng.random(inside.shape) < np.where(inside, *self._rates)
        labels = clicked.ravel().astype(np.float32)
        ids = self._items_of(rng, clusters).ravel()
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
            "history": self._histories(rng, own),
        }

    def _draw_interests(self, rng: np.random.Generator, users: int) -> np.ndarray:
        """The clusters of each user, [users, interests]."""
        return rng.random((users, self.clusters)).argsort(axis=1)[:, : self.interests]

    def _items_of(self, rng: np.random.Generator, clusters: np.ndarray) -> np.ndarray:
        """Encoded ids of items of clusters."""
        return 2 + clusters * self._per_cluster + rng.integers(0, self._per_cluster, clusters.shape)

    def _histories(self, rng: np.random.Generator, own: np.ndarray) -> dict:
        """A batch's `history` of users by their interests."""
        history = {}
        for window, length in (("short", SPEC.history.short_length), ("long", SPEC.history.long_length)):
            places = rng.integers(0, self.interests, (len(own), length))
            history[window] = self._window(self._items_of(rng, np.take_along_axis(own, places, axis=1)))
            history[f"{window}_length"] = np.full(len(own), length, np.int32)
        return history

    def _window(self, ids: np.ndarray) -> dict:
        category = (self.cluster_of(ids) + 2).astype(np.int32)
        return {"item_id": ids.astype(np.int32), "category": category, "item_row": (ids - 1).astype(np.int32)}


class DriftingInterests(PlantedInterests):
    """The same world, whose users had other interests once.

    A user's behaviours are as old as a minute to over a year, by the logarithm; so is when the interests moved, ten
    minutes to a hundred days ago. Clicks follow the interests of now. Nothing but the age tells which behaviours do.

    Args:
      moves: for a null control: whether they moved at all.
      **world: of `PlantedInterests`.
    """

    def __init__(self, moves: bool = True, **world):
        super().__init__(**world)
        self._moves = moves

    AGES, MOVED = (6e4, 3.5e10), (6e5, 8.64e9)

    def _histories(self, rng: np.random.Generator, own: np.ndarray) -> dict:
        users, (short, long) = len(own), (SPEC.history.short_length, SPEC.history.long_length)
        ages = np.sort(np.exp(rng.uniform(*np.log(self.AGES), (users, short + long))), axis=1)[:, ::-1]
        moved = np.exp(rng.uniform(*np.log(self.MOVED), (users, 1)))
        places = rng.integers(0, self.interests, ages.shape)
        former = self._draw_interests(rng, users) if self._moves else own
        clusters = np.where(
            ages > moved, np.take_along_axis(former, places, axis=1), np.take_along_axis(own, places, axis=1)
        )
        ids, gaps = self._items_of(rng, clusters), gap_buckets(NOW, NOW - ages.astype(np.int64))
        history: dict = {}
        for window, part in (("short", slice(long, None)), ("long", slice(0, long))):
            history[window] = self._window(ids[:, part]) | {BATCH_TIME_GAP: gaps[:, part]}
            history[f"{window}_length"] = np.full(users, ids[:, part].shape[1], np.int32)
        return history


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

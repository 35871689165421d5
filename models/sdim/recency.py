"""How long ago a behaviour was, by time and by rank, as what is added to its embedding and as its weight."""

from __future__ import annotations

from typing import NamedTuple

import tensorflow as tf

from features.histories.time_gaps import GAP_BOUNDS, NUM_GAP_BUCKETS
from features.log_contract import MAX_TIMESTAMP, MIN_TIMESTAMP

_RANK_BUCKETS = 16

# A step of training moves each number alike, and a vector has many. Eight steps in one let a weight keep up with it.
_PACE = 8.0


class Aging(NamedTuple):
    """What behaviours get for their age; the shapes broadcast to `[B, L, d]` and `[B, L]`.

    Attributes:
      offset: is added to their embeddings; 0 without vectors.
      bias: the logarithm of their weight; 0 without weights.
    """

    offset: tf.Tensor
    bias: tf.Tensor


class Recency(tf.keras.layers.Layer):
    """A vector and a weight for every bucket of the gap between a behaviour and its request, and of its rank.

    Attention over a set knows no order. The vector lets what a candidate finds in a behaviour depend on its age; the
    weight `exp(bias)` says how much it counts beside others, whatever the candidate. Both begin at 0: a new model is
    the one without recency. A gap that is not known adds nothing.

    Args:
      dim: width of the vectors; None: there are none.
      gaps: whether the time counts.
      ranks: whether the place counts, from 1 for the newest.
      weighs: whether behaviours get weights.
    """

    def __init__(
        self, dim: int | None, gaps: bool = True, ranks: bool = True, weighs: bool = True, name: str = "recency"
    ):
        super().__init__(name=name)
        self.dim, self.gaps, self.ranks, self.weighs = dim, gaps, ranks, weighs
        self.build(None)

    def build(self, input_shape):
        # Row 0 of the gaps, not known, stays 0.
        for part, size in (("gap", NUM_GAP_BUCKETS - 1), ("rank", _RANK_BUCKETS)):
            for kind, shape in (("offsets", (size, self.dim)), ("biases", (size,))):
                wanted = getattr(self, f"{part}s") and (self.dim is not None if kind == "offsets" else self.weighs)
                name = f"{part}_{kind}"
                setattr(self, name, self.add_weight(name, shape, initializer="zeros") if wanted else None)
        super().build(input_shape)

    def call(self, gap: tf.Tensor | None, rank: tf.Tensor | None) -> Aging:
        """Returns what behaviours get.

        Args:
          gap: int32 buckets of any shape, `features.histories.time_gaps`; None: not known.
          rank: [L] int32, 1 for the newest; None: not known.
        """
        ranks = None if rank is None else rank_buckets(rank)
        found = []
        for kind in ("offsets", "biases"):
            of_gap, of_rank = getattr(self, f"gap_{kind}"), getattr(self, f"rank_{kind}")
            total = tf.zeros([])
            if of_gap is not None and gap is not None:
                total += tf.gather(tf.concat([tf.zeros_like(of_gap[:1]), of_gap], axis=0), gap)
            if of_rank is not None and ranks is not None:
                total += tf.gather(of_rank, ranks)
            found.append(total)
        return Aging(found[0], _PACE * found[1])


def rank_buckets(rank: tf.Tensor) -> tf.Tensor:
    """Returns `floor(log2(rank))`, at most 15, of ranks from 1: int32."""
    return tf.searchsorted([2**power for power in range(1, _RANK_BUCKETS)], rank, side="right")


def gap_buckets(request_times: tf.Tensor, behavior_times: tf.Tensor) -> tf.Tensor:
    """`features.histories.time_gaps.gap_buckets`, in a graph: int32 `[B, S]` of int64 `[B]` and `[B, S]`."""
    requests, behaviors = tf.broadcast_to(request_times[:, tf.newaxis], tf.shape(behavior_times)), behavior_times
    known = tf.math.logical_and(_is_time(requests), _is_time(behaviors))
    gaps = tf.reshape(tf.where(known, requests, 0) - tf.where(known, behaviors, 0), [-1])
    found = tf.searchsorted(tf.constant(GAP_BOUNDS, tf.int64), gaps, side="right")
    return tf.where(known, 1 + tf.reshape(found, tf.shape(behaviors)), 0)


def _is_time(times: tf.Tensor) -> tf.Tensor:
    return (times >= MIN_TIMESTAMP) & (times <= MAX_TIMESTAMP)

"""How long ago a behaviour was, by time and by rank, as what is added to its embedding and as its weight."""

from __future__ import annotations

from typing import NamedTuple

import tensorflow as tf

from features.histories.time_gaps import GAP_BOUNDS, NUM_GAP_BUCKETS
from features.log_contract import MAX_TIMESTAMP, MIN_TIMESTAMP

_RANK_BUCKETS = 16


class Aging(NamedTuple):
    """What behaviours get for their age; the shapes broadcast to `[B, L, d]` and `[B, L]`.

    Attributes:
      offset: is added to their embeddings.
      bias: the logarithm of their weight.
    """

    offset: tf.Tensor
    bias: tf.Tensor


class Recency(tf.keras.layers.Layer):
    """A vector and a weight for every bucket of the gap between a behaviour and its request, and of its rank.

    Attention over a set knows no order. The vector lets what is made of a behaviour depend on its age; the weight
    `exp(bias)` says how much it counts beside others, which a vector cannot say where behaviours are added up or
    compared by products. Both begin at 0: a new model is the one without recency. A gap that is not known adds nothing.

    Args:
      dim: d, width of a behaviour's embedding.
      gaps: whether the time counts.
      ranks: whether the place counts, from 1 for the newest.
      weighs: whether behaviours get weights.
    """

    def __init__(self, dim: int, gaps: bool = True, ranks: bool = True, weighs: bool = True, name: str = "recency"):
        super().__init__(name=name)
        self.dim, self.gaps, self.ranks, self.weighs = dim, gaps, ranks, weighs
        self.build(None)

    def build(self, input_shape):
        for part, size in (("gap", NUM_GAP_BUCKETS - 1), ("rank", _RANK_BUCKETS)):
            if getattr(self, f"{part}s"):
                setattr(
                    self, f"{part}_offsets", self.add_weight(f"{part}_offsets", (size, self.dim), initializer="zeros")
                )
                if self.weighs:
                    setattr(self, f"{part}_biases", self.add_weight(f"{part}_biases", (size,), initializer="zeros"))
        super().build(input_shape)

    def call(self, gap: tf.Tensor | None, rank: tf.Tensor | None) -> Aging:
        """Returns what behaviours get.

        Args:
          gap: int32 buckets of any shape, `features.histories.time_gaps`; None: not known.
          rank: [L] int32, 1 for the newest; None: not known.
        """
        offset, bias = tf.zeros([self.dim]), tf.zeros([])
        if self.gaps and gap is not None:
            offset += tf.gather(_with_unknown(self.gap_offsets), gap)
            if self.weighs:
                bias += tf.gather(_with_unknown(self.gap_biases), gap)
        if self.ranks and rank is not None:
            bucket = rank_buckets(rank)
            offset += tf.gather(self.rank_offsets, bucket)
            if self.weighs:
                bias += tf.gather(self.rank_biases, bucket)
        return Aging(offset, bias)


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


def _with_unknown(rows: tf.Tensor) -> tf.Tensor:
    """A table whose row 0 is zeros, and is not trained."""
    return tf.concat([tf.zeros_like(rows[:1]), rows], axis=0)

"""The contrastive loss on gates: like those of the same history with behaviours missing, unlike other users'."""

from __future__ import annotations

from typing import NamedTuple

import tensorflow as tf

_NEVER = -1e9


class Contrast(NamedTuple):
    """Scalars: the loss and `log(1 + negatives)`, the loss of gates that are all alike, in nats, means over anchors;
    the number of anchors."""

    loss: tf.Tensor
    chance: tf.Tensor
    anchors: tf.Tensor


def draw_others(users: tf.Tensor, count: int) -> tuple[tf.Tensor, tf.Tensor]:
    """Draws for each request requests of other users, every set of them equally likely.

    Requests sorted by user stand in a circle, where the others of a user are one run. Of a run of n, l different places
    are drawn by Floyd's algorithm (Bentley and Floyd, CACM 1987): for j = n - l … n - 1 a place of 0 … j, or j itself
    where that was drawn before. The cost is O(B log B + B l²), not the O(B²) of comparing all with all.

    Args:
      users: [B] int32, the requests' users. Users of one number are one user, also those without a number (-1): nobody
        knows that they differ, and their gates are alike.
      count: l, at most.

    Returns:
      [B, l] int32 request indices and [B, l] bool, whether there is such a request.
    """
    size = tf.size(users)
    order = tf.argsort(users, stable=True)
    _, group, group_sizes = tf.unique_with_counts(tf.gather(users, order))
    ends = tf.gather(tf.cumsum(group_sizes), group)  # of a request's own user, in the order
    others = size - tf.gather(group_sizes, group)
    drawn, exists = [], []
    for last in (others - count + step for step in range(count)):
        uniform = tf.random.uniform([size]) * tf.cast(last + 1, tf.float32)
        place = tf.clip_by_value(tf.cast(uniform, tf.int32), 0, tf.maximum(last, 0))
        if drawn:
            before = tf.stack(drawn, axis=1) == place[:, tf.newaxis]
            place = tf.where(tf.reduce_any(before & tf.stack(exists, axis=1), axis=1), last, place)
        drawn.append(place)
        exists.append(last >= 0)
    places = (ends[:, tf.newaxis] + tf.stack(drawn, axis=1)) % tf.maximum(size, 1)
    back = tf.argsort(order)
    requests = tf.gather(tf.gather(order, places), back)
    return requests, tf.gather(tf.stack(exists, axis=1), back)


def contrast(
    gates: tf.Tensor,
    views: tf.Tensor,
    negatives: tf.Tensor,
    exists: tf.Tensor,
    anchors: tf.Tensor,
    temperature: float,
) -> Contrast:
    """InfoNCE with a few negatives a gate (reconstruction of AW-MoE's contrastive loss, arXiv 2306.05011):

        L = -mean_i log[ e^{cos(g_i, g'_i)/T} / (e^{cos(g_i, g'_i)/T} + Σ_{n ∈ N(i)} e^{cos(g_i, g_n)/T}) ]

    Args:
      gates: [G, K], g.
      views: [G, K], g': the gates of masked histories.
      negatives: [G, l] int32: rows of `gates`.
      exists: [G, l] bool: whether the negative is one.
      anchors: [G] bool: gates that are to be compared. A gate without a negative never is.
      temperature: T.

    Returns:
      The loss; 0 where there is no anchor.
    """
    gates, views = tf.math.l2_normalize(gates, axis=-1), tf.math.l2_normalize(views, axis=-1)
    positive = tf.reduce_sum(gates * views, axis=-1, keepdims=True) / temperature
    others = tf.einsum("gk,glk->gl", gates, tf.gather(gates, negatives)) / temperature
    logits = tf.concat([positive, tf.where(exists, others, _NEVER)], axis=1)
    losses = tf.reduce_logsumexp(logits, axis=1) - positive[:, 0]
    counts = tf.reduce_sum(tf.cast(exists, gates.dtype), axis=1)
    counted = tf.cast(anchors & (counts > 0), gates.dtype)
    total = tf.reduce_sum(counted)
    mean = lambda values: tf.math.divide_no_nan(tf.reduce_sum(values * counted), total)  # noqa: E731
    return Contrast(mean(losses), mean(tf.math.log1p(counts)), total)


def one_candidate_each(requests: tf.Tensor, request_index: tf.Tensor, num_requests: tf.Tensor) -> tf.Tensor:
    """Draws a candidate of each of some requests.

    Args:
      requests: int32 of any shape: requests that have candidates.
      request_index: [N] int32, non-decreasing.
      num_requests: B, scalar.

    Returns:
      int32 of the shape of `requests`: rows of the flat batch.
    """
    counts = tf.math.bincount(request_index, minlength=num_requests, maxlength=num_requests)
    starts = tf.cumsum(counts, exclusive=True)
    counts = tf.gather(counts, requests)
    draws = tf.random.uniform(tf.shape(requests)) * tf.cast(counts, tf.float32)
    return tf.gather(starts, requests) + tf.minimum(tf.cast(draws, tf.int32), counts - 1)

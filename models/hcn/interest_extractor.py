"""From a user's behaviours to K interest centres: iterative and competing (HCN), or by self-attention (ComiRec-SA)."""

from __future__ import annotations

from typing import NamedTuple

import tensorflow as tf

from models.hcn.config import Routing

_EPSILON = 1e-6


class Interests(NamedTuple):
    """What an extractor found.

    Attributes:
      centres: [B, K, d].
      valid: [B, K] bool; False: the centre is empty, no behaviour is its own.
      assignment: [B, K, L] what share of each behaviour (hierarchical: sums to 1 over K) or of each centre
        (self-attention: sums to 1 over L) the other has; 0 for padding.
    """

    centres: tf.Tensor
    valid: tf.Tensor
    assignment: tf.Tensor


def layer_normalization(name: str) -> tf.keras.layers.LayerNormalization:
    """Returns a LayerNorm over the last axis that a server can run from several threads.

    Keras writes it as `FusedBatchNormV3` in training mode where epsilon is 1.001e-5 or more; oneDNN's kernel of that
    corrupts memory when two calls run it at a time on several threads of one session (`serving.export.graph_check`).
    """
    return tf.keras.layers.LayerNormalization(epsilon=1e-5, name=name)


class HierarchicalExtractor(tf.keras.layers.Layer):
    """K centres that compete for behaviours, refined layer by layer.

    A reconstruction of the hierarchical multi-interest extraction layer of HCN (arXiv 2210.10547), of which only the
    abstract is public, in the form of slot attention (Locatello et al., NeurIPS 2020). From learnt
    prototypes `C^0 = P`, for t = 1 … T:

        Z = s (C^(t-1) W_q) (H W_k)ᵀ / √d          [B, K, L]; without W_q and W_k by `k_means`
        A = softmax over the K centres of Z, 0 for padding: a behaviour is shared out, centres compete for it
        C^t = LayerNorm(C^(t-1) + (A_kj / Σ_j A_kj) (H W_v))

    All W start as identities, so that the layers start as steps of soft k-means.

    A centre is valid if it has the largest share of at least one behaviour in the last layer: a user with n behaviours
    has at most n.

    Args:
      num_interests: K.
      dim: d.
      num_layers: T.
      routing: who gets which behaviour. `k_means`: plain inner products, without weights, and no gradient flows through
        the shares, as in capsules' routing: layers stay steps of soft k-means on behaviours that learn. `learnt`:
        trained W_q and W_k; what they learn from clicks mixes clusters again (docs/models/hcn.md).
      share_layers: one W_q, W_k, W_v, LayerNorm for all layers (then T changes no parameter count), or each its own.
      sharpness: s, of the competition: at 1 a new model's behaviours belong to all centres alike, and centres to none.
    """

    def __init__(
        self,
        num_interests: int,
        dim: int,
        num_layers: int,
        share_layers: bool = False,
        sharpness: float = 4.0,
        routing: Routing = "k_means",
        name: str = "hierarchical_extractor",
    ):
        super().__init__(name=name)
        self.num_interests, self.dim, self.num_layers = num_interests, dim, num_layers
        self._share, self._sharpness, self._routing = share_layers, sharpness, routing
        self._norms = [layer_normalization(f"norm_{t}") for t in range(1 if share_layers else num_layers)]

    def build(self, input_shape):
        # Orthogonal rows of length √d, as a LayerNorm leaves them: equal ones would get equal gradients for ever.
        orthogonal = tf.keras.initializers.Orthogonal(gain=float(self.dim) ** 0.5)
        self.prototypes = self.add_weight("prototypes", (self.num_interests, self.dim), initializer=orthogonal)
        self.projections = [
            {
                part: self.add_weight(f"{part}_{t}", (self.dim, self.dim), initializer="identity")
                for part in (("query", "key", "value") if self._routing == "learnt" else ("value",))
            }
            for t in range(len(self._norms))
        ]
        super().build(input_shape)

    def call(self, behaviors: tf.Tensor, mask: tf.Tensor) -> Interests:
        """Returns the centres of behaviours `[B, L, d]`; `mask` [B, L] is 1 for behaviours, 0 for padding."""
        return self._trace(behaviors, mask)[-1]

    def trace(self, behaviors: tf.Tensor, mask: tf.Tensor) -> list[Interests]:
        """Returns C^0 (nothing assigned, nothing valid) and what each layer made of it."""
        if not self.built:
            self(behaviors, mask)
        return self._trace(behaviors, mask)

    def _trace(self, behaviors: tf.Tensor, mask: tf.Tensor) -> list[Interests]:
        shape = tf.shape(behaviors)
        centres = tf.repeat(self.prototypes[tf.newaxis], shape[0], axis=0)
        nothing = tf.zeros([shape[0], self.num_interests, shape[1]], centres.dtype)
        found = [Interests(centres, tf.zeros([shape[0], self.num_interests], tf.bool), nothing)]
        for t in range(self.num_layers):
            weights, norm = (parts[0 if self._share else t] for parts in (self.projections, self._norms))
            values, keys, queries = _project(behaviors, weights["value"]), behaviors, centres
            if self._routing == "learnt":
                keys, queries = _project(behaviors, weights["key"]), _project(centres, weights["query"])
            scores = tf.matmul(queries, keys, transpose_b=True)
            scores *= self._sharpness / self.dim**0.5
            assignment = tf.nn.softmax(scores, axis=1) * mask[:, tf.newaxis]
            if self._routing == "k_means":
                assignment = tf.stop_gradient(assignment)
            share = assignment / (tf.reduce_sum(assignment, axis=2, keepdims=True) + _EPSILON)
            centres = norm(centres + tf.matmul(share, values))
            found.append(Interests(centres, _owners(scores, mask, self.num_interests), assignment))
        return found


class SelfAttentiveExtractor(tf.keras.layers.Layer):
    """ComiRec-SA (Cen et al., KDD 2020, arXiv 2005.09347): `A = softmax over L of W_2 tanh(W_1 Hᵀ)`, `C = A H`.

    Each centre attends to the history on its own; nothing keeps two of them apart. With K = 1 it is attention pooling:
    one vector a user. Centres are valid where there is a behaviour.

    Args:
      num_interests: K.
      dim: d.
      attention_units: rows of W_1.
    """

    def __init__(self, num_interests: int, dim: int, attention_units: int, name: str = "self_attentive_extractor"):
        super().__init__(name=name)
        self.num_interests, self.dim, self._units = num_interests, dim, attention_units

    def build(self, input_shape):
        self.inner = self.add_weight("inner", (self.dim, self._units), initializer="glorot_uniform")
        self.outer = self.add_weight("outer", (self._units, self.num_interests), initializer="glorot_uniform")
        super().build(input_shape)

    def call(self, behaviors: tf.Tensor, mask: tf.Tensor) -> Interests:
        """Returns the centres of behaviours `[B, L, d]`; `mask` [B, L] is 1 for behaviours, 0 for padding."""
        scores = _project(tf.tanh(_project(behaviors, self.inner)), self.outer)
        scores = tf.transpose(scores, [0, 2, 1]) + (1.0 - mask[:, tf.newaxis]) * -1e9
        # Softmax over padding alone is uniform, so it is masked once more.
        attention = tf.nn.softmax(scores) * mask[:, tf.newaxis]
        some = tf.reduce_any(mask > 0, axis=1, keepdims=True)
        valid = tf.repeat(some, self.num_interests, axis=1)
        return Interests(tf.matmul(attention, behaviors), valid, attention)


def _project(values: tf.Tensor, weights: tf.Tensor) -> tf.Tensor:
    """`[B, n, d]` times `[d, m]`, as one product."""
    return tf.einsum("bnd,dm->bnm", values, weights)


def _owners(scores: tf.Tensor, mask: tf.Tensor, num_interests: int) -> tf.Tensor:
    """[B, K]: which centres have the largest share of some behaviour."""
    winner = tf.one_hot(tf.argmax(scores, axis=1), num_interests, dtype=mask.dtype) * mask[..., tf.newaxis]
    return tf.reduce_max(winner, axis=1) > 0

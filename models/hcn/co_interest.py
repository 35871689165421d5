"""HCN's co-interest network: what the short history wants now and the long one always wanted, as one set."""

from __future__ import annotations

import tensorflow as tf

from models.hcn.interest_extractor import Interests, layer_normalization


class CoInterest(tf.keras.layers.Layer):
    """Lets short-term centres C_s and long-term centres C_l read each other, then gates them together.

    A reconstruction of the Co-Interest Network of HCN (arXiv 2210.10547; its equations are not public):

        M = C_s W_co C_lᵀ / √d                                  [B, K, K]
        C_s' = LN(C_s + softmax(M) C_l W_1),   C_l' = LN(C_l + softmax(Mᵀ) C_s W_2)
        β = σ([C_s'; C_l'] W_g + b),   U = β ⊙ C_s' + (1 - β) ⊙ softmax(M) C_l'

    Softmaxes run over the centres that are not empty; without a long history U = C_s'. An interest is valid if its
    short-term or its long-term centre is.

    Args:
      dim: d.
    """

    def __init__(self, dim: int, name: str = "co_interest"):
        super().__init__(name=name)
        self.dim = dim
        self._short_norm = layer_normalization("short_norm")
        self._long_norm = layer_normalization("long_norm")
        self._gate = tf.keras.layers.Dense(dim, activation="sigmoid", name="gate")

    def build(self, input_shape):
        for part in ("affinity", "of_long", "of_short"):
            setattr(self, part, self.add_weight(part, (self.dim, self.dim), initializer="glorot_uniform"))
        super().build(input_shape)

    def call(self, short: Interests, long: Interests) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns interests `[B, K, d]` and which are valid `[B, K]`."""
        # Products are scaled by √d as in all attention here: unit-scale centres would saturate the softmax.
        affinity = tf.einsum("bkd,de,ble->bkl", short.centres, self.affinity, long.centres) / self.dim**0.5
        to_long = _masked_softmax(affinity, long.valid)
        to_short = _masked_softmax(tf.transpose(affinity, [0, 2, 1]), short.valid)
        of_long = tf.einsum("bld,de->ble", long.centres, self.of_long)
        of_short = tf.einsum("bkd,de->bke", short.centres, self.of_short)
        short_term = self._short_norm(short.centres + tf.matmul(to_long, of_long))
        long_term = self._long_norm(long.centres + tf.matmul(to_short, of_short))
        gate = self._gate(tf.concat([short_term, long_term], axis=2))
        has_long = tf.reduce_any(long.valid, axis=1)[:, tf.newaxis, tf.newaxis]
        gate = tf.where(has_long, gate, 1.0)
        united = gate * short_term + (1.0 - gate) * tf.matmul(to_long, long_term)
        return united, short.valid | long.valid


def _masked_softmax(scores: tf.Tensor, valid: tf.Tensor) -> tf.Tensor:
    """Softmax over the last axis of `[B, K, K]` where `valid` [B, K]; all 0 where nothing is."""
    mask = tf.cast(valid, scores.dtype)[:, tf.newaxis]
    return tf.nn.softmax(scores + (1.0 - mask) * -1e9) * mask

"""Gates of a mixture of experts that read a user's behaviours: attention-weighted, and the plain one beside it.

A gate takes contexts `[N, d]` (what the experts are to be weighed for), the number of each one's history `[N]`, the
histories `[B, L, d]` and weights of their behaviours `[B, L]`, 0 for what is not there. It returns `[N, K]`: a weight
an expert.
"""

from __future__ import annotations

import tensorflow as tf

from models.aw_moe.config import Normalisation


def keep_some(mask: tf.Tensor, rate: float) -> tf.Tensor:
    """Drops behaviours, each with probability `rate`, but never all of them.

    Args:
      mask: [B, L], 1 for behaviours and 0 for padding.
      rate: in [0, 1).

    Returns:
      [B, L]: `mask` with some ones made 0; a row that had a one still has one. Padding stays 0.
    """
    draws = tf.where(mask > 0, tf.random.uniform(tf.shape(mask), dtype=mask.dtype), -1.0)
    # A row whose draws all fall below the rate keeps the highest: each behaviour with the same probability.
    threshold = tf.minimum(rate, tf.reduce_max(draws, axis=1, keepdims=True))
    return tf.where(draws >= threshold, mask, 0.0)


class BehaviorGate(tf.keras.layers.Layer):
    """What both gates share: a learnt behaviour that stands for having none.

    Without it a user without behaviours has a gate of 0: the same score for every item, and a cosine that is not a
    number.
    """

    def build(self, input_shape):
        # A size at which gates differ from the start; embeddings start at a hundredth of it, and grow.
        self.no_history = self.add_weight("no_history", (input_shape[-1],), initializer=_normal(0.1))
        super().build(input_shape)

    def fill(self, behaviors: tf.Tensor, weights: tuple[tf.Tensor, ...]) -> tuple[tf.Tensor, list[tf.Tensor]]:
        """Puts the token where there is no behaviour: `[B, L, d]`, and `[B, L]` without a row of zeros."""
        empty = tf.reduce_sum(weights[0], axis=1, keepdims=True) == 0
        filled = empty & (tf.range(tf.shape(behaviors)[1]) == tf.shape(behaviors)[1] - 1)
        behaviors = tf.where(filled[..., tf.newaxis], self.no_history, behaviors)
        return behaviors, [tf.where(filled, 1.0, view) for view in weights]


class AttentionGate(BehaviorGate):
    """The attention-weighted gate (AW-MoE, arXiv 2306.05011; a reconstruction: only its abstract is public).

    Each behaviour h_j votes for the experts, in view of the context c, and the votes are added up:

        u_j = GU([h_j, c, h_j ⊙ c]) ∈ R^K      the gate unit
        α_j = AU([h_j, c, h_j ⊙ c]) ∈ R        the activation unit
        g   = Σ_j m_j α_j u_j                  no softmax, neither over j nor over the experts

    Both units are MLPs of one hidden layer. It is linear before its ReLU, so what it makes of h_j and of c is computed
    once each, and only the product's part for each pair: in one matrix product, for which histories are repeated for
    their contexts. (As a product a history, with the context in the kernel, it takes four times as long on a CPU.)

    At the start α_j is 1 and u_j is 1/K, up to the inputs' small size: the experts' mean, as often as there are
    behaviours.

    Args:
      num_experts: K.
      units: width of the hidden layer, of each unit.
      normalisation: `count` divides the sum by Σ_j m_j, so that scores do not grow with the history; `none` does not.
      softmax: over the experts.
    """

    def __init__(
        self,
        num_experts: int,
        units: int = 32,
        normalisation: Normalisation = "count",
        softmax: bool = False,
        name: str = "attention_gate",
    ):
        super().__init__(name=name)
        if num_experts < 1 or units < 1:
            raise ValueError(
                f"`num_experts` and `units` must be positive. Received: `num_experts`={num_experts}, `units`={units}"
            )
        self.num_experts, self.units = num_experts, units
        self.normalisation, self.softmax = normalisation, softmax

    def build(self, input_shape):
        width = input_shape[-1]
        for part in ("of_behavior", "of_context", "of_product"):
            # Gate unit and activation unit side by side.
            setattr(
                self, part, self.add_weight(part, (width, 2 * self.units), initializer=_glorot(3 * width, self.units))
            )
        self.hidden_bias = self.add_weight("hidden_bias", (2 * self.units,), initializer="zeros")
        self.gate_kernel = self.add_weight("gate_kernel", (self.units, self.num_experts))
        self.gate_bias = self.add_weight("gate_bias", (self.num_experts,), initializer=_constant(1 / self.num_experts))
        self.activation_kernel = self.add_weight("activation_kernel", (self.units, 1))
        self.activation_bias = self.add_weight("activation_bias", (1,), initializer="ones")
        super().build(input_shape)

    def call(
        self, contexts: tf.Tensor, history_of: tf.Tensor, behaviors: tf.Tensor, *weights: tf.Tensor
    ) -> tuple[tf.Tensor, ...]:
        """Returns a gate `[N, K]` for each of the `weights` `[B, L]`: views of the same behaviours cost one pass.

        A row of zeros stands for no history in all of them.
        """
        behaviors, weights = self.fill(behaviors, weights)
        votes = self.votes(contexts, history_of, behaviors)
        return tuple(self._add_up(votes, tf.gather(view, history_of)) for view in weights)

    def votes(self, contexts: tf.Tensor, history_of: tf.Tensor, behaviors: tf.Tensor) -> tf.Tensor:
        """Returns `α_j u_j`, `[N, L, K]`."""
        products = tf.gather(behaviors, history_of) * contexts[:, tf.newaxis]
        hidden = tf.tensordot(products, self.of_product, 1)
        hidden += tf.gather(tf.tensordot(behaviors, self.of_behavior, 1), history_of)
        hidden += (tf.matmul(contexts, self.of_context) + self.hidden_bias)[:, tf.newaxis]
        of_gate, of_activation = tf.split(tf.nn.relu(hidden), 2, axis=-1)
        # tensordot, not matmul: TensorFlow 2.16's batched product by a kernel of one column writes past its buffer.
        gate_units = tf.tensordot(of_gate, self.gate_kernel, 1) + self.gate_bias
        return gate_units * (tf.tensordot(of_activation, self.activation_kernel, 1) + self.activation_bias)

    def _add_up(self, votes: tf.Tensor, weights: tf.Tensor) -> tf.Tensor:
        gates = tf.einsum("nlk,nl->nk", votes, weights)
        if self.normalisation == "count":
            gates /= tf.reduce_sum(weights, axis=1, keepdims=True)
        return tf.nn.softmax(gates) if self.softmax else gates


class PooledGate(BehaviorGate):
    """The gate of a plain mixture of experts: `softmax(MLP([h, c, h ⊙ c]))` of the behaviours' mean h.

    Args:
      num_experts: K.
      units: width of the hidden layer.
    """

    def __init__(self, num_experts: int, units: int = 32, name: str = "pooled_gate"):
        super().__init__(name=name)
        self._hidden = tf.keras.layers.Dense(units, activation="relu")
        self._last = tf.keras.layers.Dense(num_experts)

    def call(
        self, contexts: tf.Tensor, history_of: tf.Tensor, behaviors: tf.Tensor, *weights: tf.Tensor
    ) -> tuple[tf.Tensor, ...]:
        """Returns a gate `[N, K]` for each of the `weights` `[B, L]`."""
        behaviors, weights = self.fill(behaviors, weights)
        return tuple(self._gate(contexts, history_of, behaviors, view) for view in weights)

    def _gate(self, contexts: tf.Tensor, history_of: tf.Tensor, behaviors: tf.Tensor, weights: tf.Tensor) -> tf.Tensor:
        pooled = tf.einsum("bl,bld->bd", weights, behaviors) / tf.reduce_sum(weights, axis=1, keepdims=True)
        pooled = tf.gather(pooled, history_of)
        return tf.nn.softmax(self._last(self._hidden(tf.concat([pooled, contexts, pooled * contexts], axis=-1))))


def _normal(stddev: float):
    return tf.keras.initializers.RandomNormal(stddev=stddev)


def _constant(value: float):
    return tf.keras.initializers.Constant(value)


def _glorot(fan_in: int, fan_out: int):
    limit = (6.0 / (fan_in + fan_out)) ** 0.5
    return tf.keras.initializers.RandomUniform(-limit, limit)

"""What the long-history part of a ranker costs: SDIM beside target attention, on one user with many candidates.

Training: forward and backward through the interest of C candidates in L behaviours, from embeddings and signatures to
gradients of the embeddings. Serving: forward alone; SDIM reads the stored table of raw sums. `dot_product` and `din`
are our forms, which hold a history once a request: two matrix products, a factored MLP. `dot_product_plain` and
`din_plain` are the same functions as they are written in most libraries, on examples that each carry their history, DIN
as an MLP over concatenated pairs. A graph holds ten steps, each with its own reads of all inputs, as the interest is a
part of a larger graph, not a call by itself. All variants take turns in every round, so that a busy machine slows them
alike; ratios are of medians, less the time of the call and of the update that all share.

Target attention's two products, with two gradients each, are 6 C L d multiplications. SDIM's sums and their gradient
are G L d additions, as two groups share a table, and 2 G C d for the candidates: memory and calls, not arithmetic, are
what it costs.
"""

from __future__ import annotations

import json
import os
import statistics
import time

import numpy as np

OPTIONS = {"threads": (1, "of TensorFlow"), "rounds": (100, "in which the variants take turns")}
LENGTH, SIGNATURE_BITS = 1024, 3
BUCKETS = 1 << SIGNATURE_BITS
#: Candidates, dimension, groups of three bits: the paper's 48 bits, and 24, the least that it tries.
SIZES = [(200, 64, 16), (200, 32, 16), (200, 128, 16), (1000, 64, 16), (1000, 128, 16), (200, 64, 8), (200, 128, 8)]
DIN_UNITS = (80, 40)
SLOW = ("dot_product_plain", "din", "din_plain")
STEPS = 10
RATE = 1e-6
TARGETS = {"training": {"dot_product": 5, "din_plain": 50}, "serving": {"dot_product": 5, "din_plain": 200}}


class Request:
    """One user's history and the candidates, at random: the cost does not depend on the values.

    All are variables: the steps of a graph read them anew, and TensorFlow cannot do what they share once.
    """

    def __init__(self, candidates: int, dim: int, groups: int):
        import tensorflow as tf

        from models.sdim.target_attention import DinAttention

        rng = np.random.default_rng(0)
        self.candidates = tf.Variable(rng.normal(size=(candidates, dim)).astype(np.float32))
        self.history = tf.Variable(rng.normal(size=(LENGTH, dim)).astype(np.float32))
        self.upstream = tf.constant(rng.normal(size=(candidates, dim)).astype(np.float32))
        self.of_candidates = tf.Variable(rng.integers(0, BUCKETS, (candidates, groups)), dtype=tf.int32)
        self.of_history = tf.Variable(rng.integers(0, BUCKETS, (1, LENGTH, groups)), dtype=tf.int32)
        self.mask = tf.Variable(tf.ones((1, LENGTH)))
        self.request_index = tf.Variable(tf.zeros([candidates], tf.int32))
        self.table = tf.Variable(self.sums())
        self._din = DinAttention(DIN_UNITS)
        self._plain = [tf.keras.layers.Dense(units, "sigmoid") for units in DIN_UNITS] + [tf.keras.layers.Dense(1)]
        self.din(), self.din_plain()  # creates their weights
        self.weights = {
            "din": self._din.trainable_variables,
            "din_plain": [weight for layer in self._plain for weight in layer.trainable_variables],
        }

    def histories(self):
        """[1, L, d]. Not by a slice, whose gradient would be another copy."""
        import tensorflow as tf

        return tf.expand_dims(self.history, 0)

    def sums(self):
        from models.sdim import buckets as sdim

        return sdim.bucket_sums(self.histories(), self.of_history.read_value(), self.mask > 0, BUCKETS)

    def sdim(self):
        return self._look_up(self.sums())

    def stored_table(self):
        return self._look_up(self.table.read_value())

    def layout(self):
        """Every variant finds its candidates in a batch of requests as a ranker does."""
        from models.sdim.request_layout import RequestLayout

        return RequestLayout(self.request_index.read_value(), 1)

    def _look_up(self, sums):
        from models.sdim import buckets as sdim

        return sdim.look_up(sums, self.of_candidates.read_value(), self.request_index.read_value())

    def _attend(self, attention):
        layout = self.layout()
        return layout.to_flat(attention(layout.to_grid(self.candidates), self.histories(), self.mask))

    def dot_product(self):
        from models.sdim.target_attention import dot_product_attention

        return self._attend(dot_product_attention)

    def din(self):
        return self._attend(self._din)

    def dot_product_plain(self):
        import tensorflow as tf

        from models.sdim.target_attention import dot_product_attention

        count = self.candidates.shape[0]
        histories = tf.repeat(self.histories(), count, axis=0)
        masks = tf.repeat(self.mask, count, axis=0)
        return dot_product_attention(self.candidates[:, np.newaxis], histories, masks)[:, 0]

    def din_plain(self):
        import tensorflow as tf

        count = self.candidates.shape[0]
        q = tf.repeat(self.candidates[:, np.newaxis], LENGTH, axis=1)
        s = tf.repeat(self.histories(), count, axis=0)
        weights = tf.concat([s, q, s - q, s * q], axis=-1)
        for layer in self._plain:
            weights = layer(weights)
        return tf.reduce_sum(weights * s, axis=1)


def training_steps(request: Request, name: str, steps: int):
    """A graph of `steps` times forward and backward through the interest `name`, and gradient descent."""
    import tensorflow as tf

    interest = getattr(request, name)
    sources = [request.candidates, request.history, *request.weights.get(name, [])]

    @tf.function(autograph=False)
    def run():
        for _ in range(steps):
            with tf.GradientTape() as tape:
                loss = tf.reduce_sum(interest() * request.upstream)
            for source, gradient in zip(sources, tape.gradient(loss, sources), strict=True):
                if isinstance(gradient, tf.IndexedSlices):
                    source.scatter_sub(tf.IndexedSlices(RATE * gradient.values, gradient.indices))
                elif gradient is not None:  # SDIM has none for the candidates
                    source.assign_sub(RATE * gradient)

    return run


def training_base(request: Request, steps: int):
    """What no variant is to be blamed for: the call, and the update of the history's embeddings."""
    import tensorflow as tf

    gradient = tf.constant(np.ones(request.history.shape, np.float32))

    @tf.function(autograph=False)
    def run():
        for _ in range(steps):
            request.history.assign_sub(RATE * gradient)

    return run


def serving_calls(request: Request, name: str, calls: int):
    """A graph of `calls` times the interest `name`."""
    import tensorflow as tf

    return tf.function(lambda: [getattr(request, name)() for _ in range(calls)], autograph=False)


def serving_base(request: Request, calls: int):
    import tensorflow as tf

    return tf.function(lambda: [request.candidates + 1.0 for _ in range(calls)], autograph=False)


def measure(graphs: dict, rounds: int) -> dict[str, float]:
    """Median milliseconds of a step or call: `graphs` are pairs of a graph and how many it holds.

    The order is drawn anew in every round, as what a call finds in the caches is what the one before it left there.
    Those that are slow, with a single step, run in every tenth round.
    """
    rng = np.random.default_rng(0)
    times: dict[str, list[float]] = {name: [] for name in graphs}
    for run, _ in graphs.values():
        run()
    for number in range(rounds):
        for name in rng.permutation(list(graphs)):
            run, steps = graphs[name]
            if steps == 1 and number % 10:
                continue
            started = time.perf_counter()
            run()
            times[name].append(1e3 * (time.perf_counter() - started) / steps)
    return {name: round(statistics.median(values), 4) for name, values in times.items()}


def compare(candidates: int, dim: int, groups: int, rounds: int) -> dict:
    request = Request(candidates, dim, groups)
    found = {"candidates": candidates, "dim": dim, "length": LENGTH, "bits": groups * SIGNATURE_BITS}
    for stage, graph, base, ours in (
        ("training", training_steps, training_base, "sdim"),
        ("serving", serving_calls, serving_base, "stored_table"),
    ):
        graphs = {"base": (base(request, STEPS), STEPS)}
        graphs |= {name: (graph(request, name, STEPS), STEPS) for name in (ours, "dot_product")}
        graphs |= {name: (graph(request, name, 1), 1) for name in SLOW}
        ms = measure(graphs, rounds)
        own = ms[ours] - ms["base"]
        ratios = {name: round((ms[name] - ms["base"]) / own, 1) for name in ("dot_product", *SLOW)}
        found[stage] = {"ms": ms, "times_slower": ratios}
    table = groups * BUCKETS * dim
    found["bytes"] = {"history_fp32": LENGTH * dim * 4, "table_fp32": table * 4, "table_fp16": table * 2}
    return found


def run(options) -> dict:
    """Compares at every size."""
    runs = []
    for size in SIZES:
        runs.append(compare(*size, options.rounds))
        print(json.dumps(runs[-1]), flush=True)
    return {"threads": options.threads, "load_average": os.getloadavg()[0], "targets": TARGETS, "runs": runs}


def figures(found: dict) -> list[tuple[str, str]]:
    table = []
    for made in (made for made in found["runs"] if made["dim"] == 64):
        sizes = "1 user x {candidates} candidates, {length} behaviours, d = {dim}, m = {bits}".format(**made)
        for stage, of in (("training", "SDIM, training step"), ("serving", "SDIM from a stored table")):
            times = made[stage]["times_slower"]
            measured = (
                f"{times['dot_product_plain']:.0f} times faster than dot-product target attention on examples that "
                f"each carry their history, {times['dot_product']:.1f} times than on requests as here; "
                f"{times['din_plain']:.0f} and {times['din']:.0f} times than DIN's"
            )
            table.append((f"{of}, long-history part alone ({sizes})", measured))
    return table

"""What the long-history part of a ranker costs: SDIM beside target attention, on one user with many candidates.

    python -m benchmarks.sdim [--threads 1] [--rounds 30]

Training: forward and backward through the interest of C candidates in L behaviours, from embeddings and signatures to
gradients of the embeddings. Serving: forward alone; SDIM reads the stored table of raw sums. `dot_product` and `din`
are our forms, which hold a history once a request: two matrix products, a factored MLP. `dot_product_plain` and
`din_plain` are the same functions as they are written in most libraries, on examples that each carry their history, DIN
as an MLP over concatenated pairs. All variants take turns in every round, so that a busy machine slows them alike;
ratios are of medians, less the time of a call that does nothing.

What is to be expected of the first at C = 200, L = 1024, in multiplications per dimension: dot product 6 C L (two
products, each with two gradients), SDIM with 128 buckets 2 · 128 L and 2 · 128 C: a quotient of 3.9. It grows with C.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from pathlib import Path

import numpy as np

from benchmarks.run_records import limit_threads

RESULTS = Path(__file__).parent / "results" / "sdim.json"
LENGTH, GROUPS, BUCKETS = 1024, 16, 8
SIZES = [(200, 64), (200, 32), (200, 128), (1000, 64), (1000, 128)]
DIN_UNITS = (80, 40)
TARGETS = {"training": {"dot_product": 5, "din_plain": 50}, "serving": {"dot_product": 5, "din_plain": 200}}


class Request:
    """One user's history and the candidates, at random: the cost does not depend on the values."""

    def __init__(self, candidates: int, dim: int):
        import tensorflow as tf

        from models.target_attention import DinAttention

        rng = np.random.default_rng(0)
        self.candidates = tf.Variable(rng.normal(size=(candidates, dim)).astype(np.float32))
        self.history = tf.Variable(rng.normal(size=(LENGTH, dim)).astype(np.float32))
        self.upstream = tf.constant(rng.normal(size=(candidates, dim)).astype(np.float32))
        self.of_candidates = tf.constant(rng.integers(0, BUCKETS, (candidates, GROUPS)), tf.int32)
        self.of_history = tf.constant(rng.integers(0, BUCKETS, (1, LENGTH, GROUPS)), tf.int32)
        self.mask = tf.ones((1, LENGTH))
        self.request_index = tf.zeros([candidates], tf.int32)
        self.table = tf.constant(self.sums().numpy())
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
        from models import sdim

        return sdim.bucket_sums(self.histories(), self.of_history, self.mask > 0, BUCKETS)

    def sdim(self):
        return self._look_up(self.sums())

    def stored_table(self):
        return self._look_up(self.table)

    def layout(self):
        """Every variant finds its candidates in a batch of requests as a ranker does."""
        from models.request_layout import RequestLayout

        return RequestLayout(self.request_index, 1)

    def _look_up(self, sums):
        from models import sdim

        return sdim.look_up(sums, self.of_candidates, self.layout())

    def _attend(self, attention):
        layout = self.layout()
        return layout.to_flat(attention(layout.to_grid(self.candidates), self.histories(), self.mask))

    def dot_product(self):
        from models.target_attention import dot_product_attention

        return self._attend(dot_product_attention)

    def din(self):
        return self._attend(self._din)

    def dot_product_plain(self):
        import tensorflow as tf

        from models.target_attention import dot_product_attention

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


def training_step(request: Request, name: str):
    """A graph of forward and backward through the interest `name`."""
    import tensorflow as tf

    interest = getattr(request, name)
    sources = [request.candidates, request.history, *request.weights.get(name, [])]

    @tf.function(autograph=False)
    def step():
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(interest() * request.upstream)
        return [gradient for gradient in tape.gradient(loss, sources) if gradient is not None]

    return step


def serving_call(request: Request, name: str):
    import tensorflow as tf

    return tf.function(getattr(request, name), autograph=False)


def nothing():
    """The cost of calling a graph, which is none of the variants'."""
    import tensorflow as tf

    value = tf.Variable(1.0)
    return tf.function(lambda: value + 1.0, autograph=False)


def measure(calls: dict, rounds: int, slow: tuple[str, ...]) -> dict[str, float]:
    """Median milliseconds of each call; all take turns, those in `slow` in every tenth round."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for call in calls.values():
        call()
    for number in range(rounds):
        for name, call in calls.items():
            if name in slow and number % 10:
                continue
            started = time.perf_counter()
            call()
            times[name].append(1e3 * (time.perf_counter() - started))
    return {name: round(statistics.median(values), 4) for name, values in times.items()}


def compare(candidates: int, dim: int, rounds: int) -> dict:
    request = Request(candidates, dim)
    slow = ("dot_product_plain", "din", "din_plain")
    training = {name: training_step(request, name) for name in ("sdim", "dot_product", *slow)}
    serving = {name: serving_call(request, name) for name in ("stored_table", "dot_product", *slow)}
    found = {"candidates": candidates, "dim": dim, "length": LENGTH}
    for stage, calls, ours in (("training", training, "sdim"), ("serving", serving, "stored_table")):
        ms = measure({"nothing": nothing(), **calls}, rounds, slow)
        base = ms["nothing"]
        ratios = {name: round((ms[name] - base) / (ms[ours] - base), 1) for name in ("dot_product", *slow)}
        found[stage] = {"ms": ms, "times_slower": ratios}
    table = GROUPS * BUCKETS * dim
    found["bytes"] = {"history_fp32": LENGTH * dim * 4, "table_fp32": table * 4, "table_fp16": table * 2}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=100)
    arguments = parser.parse_args()
    limit_threads(arguments.threads)
    import models  # noqa: F401

    runs = []
    for candidates, dim in SIZES:
        runs.append(compare(candidates, dim, arguments.rounds))
        print(json.dumps(runs[-1]), flush=True)
    results = {"threads": arguments.threads, "load_average": os.getloadavg()[0], "targets": TARGETS, "runs": runs}
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()

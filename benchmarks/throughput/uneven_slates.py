"""What a training step costs when the slates of a batch are uneven: one request of 256 candidates beside 768 of one.

AutoInt with the last 50 behaviours by DIN or by target attention, forward, backward and optimiser, on batches of about
1,020 candidates: `even`, 102 requests of 10 each; `users`, as many requests as the uneven batch has, each of one
candidate: what that many histories cost by themselves; `uneven`, 256 + 768 × 1. Each runs in a process of its own; time
is the median of the steps, memory the peak of the process over what it held before the first step.
"""

from __future__ import annotations

import statistics
import time

from benchmarks.processes import in_own_process, peak_mb

OPTIONS = {"threads": (2, "of TensorFlow"), "steps": (20, "of a round"), "rounds": (3, "of each, in turns")}
SLATES = {"even": [10] * 102, "users": [1] * 1024, "uneven": [256] + [1] * 768}
KINDS = ("din", "target_attention")
LENGTH, ITEMS, CATEGORIES, WIDTH = 50, 10_000, 50, 16


def batch_of(slates: list[int]) -> dict:
    """A batch of requests with these numbers of candidates, each with a full history: ids at random."""
    import numpy as np

    rng = np.random.default_rng(0)
    requests, candidates = len(slates), sum(slates)

    def ids(*shape: int) -> dict:
        return {
            "item_id": rng.integers(1, ITEMS, shape).astype(np.int32),
            "category": rng.integers(1, CATEGORIES, shape).astype(np.int32),
            "brand": rng.integers(1, CATEGORIES, shape).astype(np.int32),
        }

    return {
        "features": {"device": rng.integers(1, 3, requests).astype(np.int32), **ids(candidates)},
        "request_index": np.repeat(np.arange(requests, dtype=np.int32), slates),
        "label": (rng.random(candidates) < 0.1).astype(np.float32),
        "history": {"short": ids(requests, LENGTH), "short_length": np.full(requests, LENGTH, np.int32)},
    }


def measure(kind: str, slates: str, steps: int) -> dict:
    """Trains on one batch over and over, in this process.

    Args:
      kind: attention over the short history.
      slates: a key of `SLATES`.
      steps: that are timed, after two that are not.
    """
    import numpy as np
    import pyarrow as pa
    import tensorflow as tf

    import clickmill as cm
    from models.training.loop import step_runner
    from models.training.optimizers import LazyAdam

    terms = {"device": 2, "item_id": ITEMS, "category": CATEGORIES, "brand": CATEGORIES}
    features = [
        {"name": name, "table": "impressions" if name == "device" else "items", "dtype": "int64"} for name in terms
    ]
    history = {"features": ["item_id", "category", "brand"], "short_length": LENGTH, "long_length": LENGTH}
    spec = cm.FeatureSpec.model_validate(
        {"name": "slates", "embedding_dim": WIDTH, "features": features, "history": history}
    )
    vocabulary = {
        name: pa.table({"term": np.arange(count), "count": np.ones(count, np.int64)}) for name, count in terms.items()
    }
    config = {"variant": "reference", "num_layers": 2, "head_dim": 16, "history": {"short": kind, "long": "none"}}
    model = cm.AutoInt(cm.FeatureEncoding(spec, vocabulary, {}, {}), cm.AutoIntConfig.model_validate(config))
    model.compile(optimizer=LazyAdam(1e-3))
    dataset = tf.data.Dataset.from_tensors(batch_of(SLATES[slates])).cache().repeat()
    signature = tf.nest.map_structure(lambda s: tf.TensorSpec([None] * len(s.shape), s.dtype), dataset.element_spec)
    batches = iter(tf.data.Dataset.from_generator(lambda: iter(dataset), output_signature=signature))
    model(next(batches))
    model.optimizer._create_all_weights(model.trainable_variables)
    before, run_steps, times = peak_mb(), step_runner(model), []
    run_steps(batches, 2)
    for _ in range(steps):
        started = time.perf_counter()
        run_steps(batches, 1)
        times.append(time.perf_counter() - started)
    return {"ms": round(1e3 * statistics.median(times), 2), "mib": round(peak_mb() - before, 1)}


def run(options) -> dict:
    """Measures both attentions with all three kinds of batches."""
    found: dict = {}
    for number in range(options.rounds):
        for kind in KINDS:
            for slates in SLATES:
                measured = in_own_process(measure, kind, slates, options.steps)
                print(f"round {number + 1} of {options.rounds}:", kind, slates, measured, flush=True)
                found.setdefault(kind, {}).setdefault(slates, []).append(measured)
    least = lambda rounds: {name: min(each[name] for each in rounds) for name in ("ms", "mib")}  # noqa: E731
    attentions = {kind: {slates: least(rounds) for slates, rounds in of.items()} for kind, of in found.items()}
    return {"threads": options.threads, "steps": options.steps, "attentions": attentions}


def figures(found: dict) -> list[tuple[str, str]]:
    table = []
    for kind, of in found["attentions"].items():
        even, uneven, users = of["even"], of["uneven"], of["users"]
        table.append(
            (
                f"AutoInt, `{kind}` over 50 behaviours: a training step on 256 + 768 × 1 candidates",
                f"{uneven['ms']:.0f} ms and {uneven['mib']:.0f} MiB; 102 × 10: {even['ms']:.0f} ms and "
                f"{even['mib']:.0f} MiB; 1,024 × 1: {users['ms']:.0f} ms and {users['mib']:.0f} MiB",
            )
        )
    return table

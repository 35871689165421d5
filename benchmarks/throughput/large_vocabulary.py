"""What a vocabulary of a million terms costs when a ranker is exported, and when the export is loaded.

AutoInt over a text feature of as many terms and a numeric one, untrained, in processes of their own; the embedding
table and one batch through it are in memory before, as they are after a training.
"""

from __future__ import annotations

import statistics
import time
from typing import Any

import clickmill as cm
from benchmarks.processes import in_own_process, peak_mb

TERMS = 1_000_000
OPTIONS = {"rounds": (3, "of which the median counts")}
_SPEC = {
    "name": "large",
    "embedding_dim": 8,
    "features": [
        {"name": "item_id", "table": "items", "vocabulary": {"oov_buckets": 4}},
        {"name": "price", "table": "items", "kind": "numeric", "transform": "standardize"},
    ],
}


def run(options) -> dict[str, Any]:
    """Returns the seconds and MiB of each round."""
    rounds = []
    for number in range(options.rounds):
        directory = options.work / f"export-{number}"
        rounds.append({**in_own_process(export, directory), **in_own_process(load, directory)})
    return {"terms": TERMS, "rounds": rounds}


def export(directory: str) -> dict[str, float]:
    """Exports the model; seconds, the peak's MiB beyond what was in memory before, and the size of the graph."""
    import numpy as np
    import pyarrow as pa
    import tensorflow as tf

    from features import storage
    from features.encoding.feature_encoding import Moments

    spec = cm.FeatureSpec.model_validate(_SPEC)
    terms = pa.array([f"item-{number:09d}" for number in range(TERMS)])
    vocabulary = pa.table({"term": terms, "count": np.ones(TERMS, np.int64)})
    moments = Moments(count=2, mean=0.0, variance=1.0, minimum=-1.0, maximum=1.0)
    encoding = cm.FeatureEncoding(spec, {"item_id": vocabulary}, {"price": moments}, {})
    model = cm.AutoInt(encoding, cm.AutoIntConfig())
    features = {"item_id": tf.zeros([1024], tf.int32), "price": tf.zeros([1024])}
    model({"features": features, "request_index": tf.range(1024)})
    before, started = peak_mb(), time.perf_counter()
    cm.export_ranker(model, encoding, directory, overwrite=True)
    seconds = time.perf_counter() - started
    graph = storage.size(storage.join(directory, "saved_model.pb")) / 2**20
    return {"export_seconds": seconds, "export_mb": peak_mb() - before, "graph_mb": graph}


def load(directory: str) -> dict[str, float]:
    """Loads the export; seconds until its first answer, which is compared with an unknown item's, and MiB."""
    import tensorflow as tf

    before, started = peak_mb(), time.perf_counter()
    loaded = tf.saved_model.load(directory)
    seconds = time.perf_counter() - started
    items = {"item_id": tf.constant([["item-000000000", "no item"]]), "price": tf.constant([[0.0, 0.0]], tf.float64)}
    found = loaded.signatures["serving_default"](num_candidates=tf.constant([2]), **items)
    known, unknown = found["logit"].numpy()[0]
    if known == unknown:
        raise RuntimeError("the loaded vocabulary tells no term from an unknown one.")
    return {"load_seconds": seconds, "load_mb": peak_mb() - before}


def figures(found: dict[str, Any]) -> list[tuple[str, str]]:
    """Returns the rows of the figure table."""
    rounds = found["rounds"]
    median = {name: statistics.median(each[name] for each in rounds) for name in rounds[0]}
    what = f"of a ranker with a vocabulary of {found['terms']:,} terms"
    return [
        (
            f"export {what}",
            f"{median['export_seconds']:.1f} s, {median['export_mb']:.0f} MiB beyond the model in memory, a graph of "
            f"{median['graph_mb']:.1f} MiB",
        ),
        (f"loading the export {what}", f"{median['load_seconds']:.2f} s"),
    ]

"""What a request costs in process: from its JSON to the ranked list, on one thread.

AutoInt as the simulated profile has it (reference variant, both windows by subcategory, SDIM with signatures of six
bits), at random weights, over vocabularies of random terms; 200 candidates. Once the long history is read from a store,
and the request holds the 50 last behaviours; once the request holds all 1,050.
"""

from __future__ import annotations

import json
import statistics
import time
from typing import Any

import numpy as np

import clickmill as cm
from benchmarks.preparation import CONFIGS
from benchmarks.processes import in_own_process
from benchmarks.throughput.json_request import CANDIDATES, make_request

OPTIONS = {"rounds": (200, "requests of each kind")}


def run(options) -> dict[str, Any]:
    """Returns milliseconds by number of behaviours: median and p99 of the clock, and the processor's median."""
    directory = options.work / "export"
    in_own_process(export, directory)
    return {"candidates": CANDIDATES, "ms": in_own_process(measure, directory, options.rounds)}


def export(directory: str) -> dict:
    """Exports the ranker, and nothing else."""
    import pyarrow as pa
    import tensorflow as tf

    from features.encoding.feature_encoding import Moments
    from features.items.config import SimHashConfig
    from features.items.signatures import sign_items

    spec = cm.load_spec(CONFIGS / "features_simulated.yaml")
    words = {
        "user_id": [f"u{n}" for n in range(20_000)],
        "age_band": ["18-24", "25-34", "35-44", "45-54", "55+"],
        "city": [f"city_{n}" for n in range(50)],
        "device": ["ios", "android", "web"],
        "hour": range(24),
        "weekday": range(7),
        "item_id": range(100_000),
        "category": [f"category_{n}" for n in range(20)],
        "subcategory": [f"category_{n}_{m}" for n in range(20) for m in range(9)],
        "brand": [f"brand_{n}" for n in range(500)],
        "title": [f"word{n}" for n in range(5000)],
    }
    vocabularies = {name: pa.table({"term": list(terms), "count": [1] * len(terms)}) for name, terms in words.items()}
    moments = Moments(count=2, mean=20.0, variance=100.0, minimum=0.0, maximum=100.0)
    encoding = cm.FeatureEncoding(spec, vocabularies, {"price": moments}, {})
    ids, simhash = pa.array(words["item_id"]), SimHashConfig(num_bits=96, bits_per_signature=6)
    signatures = sign_items(ids, np.random.default_rng(0).normal(size=(len(ids), 32)), simhash)
    config = cm.AutoIntConfig.model_validate({"variant": "reference", "history": {"features": ["subcategory"]}})
    tf.keras.utils.set_random_seed(0)
    model = cm.AutoInt(encoding, config, signatures)
    model.embedding.build(None)  # the version of its tables is asked for before it is traced
    cm.export_ranker(model, encoding, directory, item_signatures=signatures, overwrite=True)
    return {}


def measure(directory: str, rounds: str) -> dict[str, dict[str, float]]:
    """Ranks requests; milliseconds from their JSON to their lists."""
    import tensorflow as tf

    from features.histories.bucket_table import BucketTable

    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    ranker = cm.Ranker(directory)
    layout = ranker._saved.history.table_shape
    sums = np.random.default_rng(0).normal(size=layout).astype(np.float32)
    table = BucketTable(sums, np.ones(sums.shape[:2], np.int32))
    with_store = cm.Ranker(directory, tables=lambda user_id: table)
    found = {}
    for each, behaviors in ((with_store, 50), (ranker, 1050)):
        text = json.dumps(make_request(CANDIDATES, behaviors))
        each.rank(json.loads(text))  # the first prepares the graph
        times: list[float] = []
        cpu: list[float] = []
        for _ in range(int(rounds)):
            started, worked = time.perf_counter(), time.process_time()
            each.rank(json.loads(text))
            times.append(1e3 * (time.perf_counter() - started))
            cpu.append(1e3 * (time.process_time() - worked))
        p99 = float(np.quantile(times, 0.99))
        found[str(behaviors)] = {"median": statistics.median(times), "p99": p99, "cpu": statistics.median(cpu)}
    return found


def figures(found: dict[str, Any]) -> list[tuple[str, str]]:
    """Returns the rows of the figure table."""
    what = f"JSON request to a ranked list in process, {found['candidates']} candidates, one thread"
    where = {"50": "long history from a store", "1050": "1,050 behaviours in the request"}
    return [
        (f"{what}, {where[n]}", f"{ms['median']:.1f} ms (p99 {ms['p99']:.1f}; {ms['cpu']:.1f} of processor)")
        for n, ms in found["ms"].items()
    ]

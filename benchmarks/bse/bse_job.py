"""The BSE batch job: users a second at 1,000 behaviours, and its peak memory at 10,000 and at 200,000 users.

Every measurement runs in a process of its own: behaviour log in, published and synced store out, embeddings and
signatures by the signature of a SavedModel (an embedding table of 50,000 items, width 48, and the hash). Loading
TensorFlow is part of the memory and not of the time. The users whose memory is compared have 150 behaviours, so that
it takes minutes; the store is in int8 there.
"""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path

from benchmarks.processes import Stopwatch, in_own_process, peak_mb

# No pyarrow here: a child's peak memory counts from the memory of its parent.
TARGETS = {"users_per_second": 1_000, "memory_growth": 1.1}
ITEMS, DIM, SHARDS = 50_000, 48, 8
SHORT, LONG = 50, 1000
LENGTHS = {"speed": SHORT + LONG, "memory": 150}
OPTIONS = {
    "users": (10_000, "whose tables are timed"),
    "few": (10_000, "users for peak memory"),
    "many": (200_000, "users for peak memory"),
}


def write_log(directory: str, users: int, length: int) -> dict:
    """Writes a behaviour log in the shards and row groups of ingestion; popular items are met often."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    from features.ingest.joining.write import ROW_GROUP_REQUESTS

    generator = np.random.default_rng(0)
    Path(directory).mkdir(parents=True)
    for shard in range(SHARDS):
        ids = np.arange(shard, users, SHARDS)
        schema = pa.schema({"user_id": pa.int64(), "timestamp": pa.list_(pa.int64()), "item_id": pa.list_(pa.int64())})
        with pq.ParquetWriter(
            f"{directory}/behaviors-{shard:05d}-of-{SHARDS:05d}.parquet", schema, compression="zstd"
        ) as out:
            for start in range(0, len(ids), ROW_GROUP_REQUESTS):
                mine = ids[start : start + ROW_GROUP_REQUESTS]
                offsets = pa.array(np.arange(len(mine) + 1, dtype=np.int32) * length)
                items = (ITEMS * generator.random(len(mine) * length) ** 3).astype(np.int64)
                times = np.tile(np.arange(length), len(mine))
                lists = [pa.ListArray.from_arrays(offsets, pa.array(each)) for each in (times, items)]
                out.write_table(pa.table([pa.array(mine), *lists], schema=schema))
    return {}


def export_model(directory: str) -> dict:
    """A SavedModel with the signature `encode_behaviors`: a look-up and a hash."""
    import numpy as np
    import tensorflow as tf

    import clickmill as cm
    from features.items.config import SimHashConfig
    from features.items.simhash import SimHash
    from models.sdim.buckets import signatures
    from serving.saved.signature_specs import BSE_FILE, SPEC_FILE, HistoryInputs

    table = tf.Variable(np.random.default_rng(0).standard_normal((ITEMS, DIM), dtype=np.float32))
    hashing = SimHash(DIM, SimHashConfig())

    def encode(item_id):
        values = tf.gather(table, item_id)
        return {"embedding": values, "signature": signatures(hashing, values), "known": item_id >= 0}

    module = tf.Module()
    module.table = table
    concrete = tf.function(encode).get_concrete_function(item_id=tf.TensorSpec([None], tf.int64))
    tf.saved_model.save(module, directory, signatures={"encode_behaviors": concrete})
    features = [{"name": "item_id", "table": "items", "dtype": "int64"}]
    history = {"features": ["item_id"], "short_length": SHORT, "long_length": LONG}
    spec = cm.FeatureSpec.model_validate({"name": "benchmark", "features": features, "history": history})
    inputs = HistoryInputs(
        short_features=("item_id",),
        long_features=("item_id",),
        short_length=SHORT,
        long_length=LONG,
        version="benchmark",
        simhash=hashing.config,
        dim=DIM,
    )
    Path(directory, SPEC_FILE).parent.mkdir(exist_ok=True)
    Path(directory, SPEC_FILE).write_text(spec.model_dump_json())
    Path(directory, BSE_FILE).write_text(inputs.model_dump_json())
    return {}


def run_job(model: str, log: str, store: str, precision: str) -> dict:
    """Builds the tables; the clock starts when the libraries are loaded."""
    import tensorflow  # noqa: F401

    from serving.user_stores.bse.table_job import build_behavior_tables

    clock = Stopwatch()
    built = build_behavior_tables(model, log, store, precision=precision)
    took = clock.read()
    return {
        **built,
        "seconds": round(took["seconds"], 2),
        "users_per_second": round(built["users"] / took["seconds"]),
        "users_per_cpu_second": round(built["users"] / took["cpu_seconds"]),
        "peak_mb": round(peak_mb()),
    }


def measure(work: str, model: str, name: str, users: int, precision: str) -> dict:
    with tempfile.TemporaryDirectory(dir=work) as directory:
        in_own_process(write_log, f"{directory}/log", users, LENGTHS[name])
        found = in_own_process(run_job, model, f"{directory}/log", f"{directory}/store", precision)
        # A job that has nothing to do, for what it costs to find that out.
        again = in_own_process(run_job, model, f"{directory}/log", f"{directory}/store", precision)
    if found["users"] != users or again["built"]:
        raise AssertionError(f"{users} users were to be built once: {found}, {again}")
    print(name, json.dumps(found), flush=True)
    return found | {"nothing_to_do_seconds": again["seconds"], "behaviors_a_user": LENGTHS[name]}


def run(options) -> dict:
    """Times the job at 1,000 behaviours, and compares its memory at few users and many."""
    options.work.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=options.work) as work:
        model = f"{work}/model"
        in_own_process(export_model, model)
        load = os.getloadavg()[0]
        speed = {name: measure(work, model, "speed", options.users, name) for name in ("fp32", "int8")}
        few, many = (measure(work, model, "memory", users, "int8") for users in (options.few, options.many))
    return {
        "cores": os.cpu_count(),
        "load_average": load,
        "items": ITEMS,
        "dim": DIM,
        "targets": TARGETS,
        "speed": speed,
        "memory": {
            "users": [options.few, options.many],
            "peak_mb": [few["peak_mb"], many["peak_mb"]],
            "growth": round(many["peak_mb"] / few["peak_mb"], 3),
            "runs": [few, many],
        },
    }


def figures(found: dict) -> list[tuple[str, str]]:
    users, speed = found["memory"]["users"], found["speed"]
    figure = ", ".join(f"{made['users_per_second']:,} users/s ({name})" for name, made in speed.items())
    return [
        (f"BSE job, {speed['fp32']['behaviors_a_user']:,} behaviours a user, d = {found['dim']}, 2 cores", figure),
        (f"its peak memory, {users[1]:,} users against {users[0]:,}", f"{found['memory']['growth']:.2f} times"),
    ]

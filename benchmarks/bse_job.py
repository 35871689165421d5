"""The BSE batch job: users a second at 1,000 behaviours, and its peak memory at 10,000 and at 200,000 users.

    python -m benchmarks.bse_job [--users 10000] [--few 10000] [--many 200000]

Every measurement runs in a process of its own: behaviour log in, published and synced store out, embeddings and
signatures by the signature of a SavedModel (an embedding table of 50,000 items, width 48, and the hash). Loading
TensorFlow is part of the memory and not of the time. The users whose memory is compared have 150 behaviours, so that
it takes minutes; the store is in int8 there.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

# No pyarrow here: a child's peak memory counts from the memory of its parent.
RESULTS = Path(__file__).parent / "results" / "bse_job.json"
TARGETS = {"users_per_second": 1_000, "memory_growth": 1.1}
ITEMS, DIM, SHARDS = 50_000, 48, 8
SHORT, LONG = 50, 1000
LENGTHS = {"speed": SHORT + LONG, "memory": 150}


def write_log(directory: str, users: int, length: int) -> dict:
    """Writes a behaviour log in the shards and row groups of ingestion; popular items are met often."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    from features.ingest.write import ROW_GROUP_REQUESTS

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
    import models  # noqa: F401  # isort: skip  # Keras 2 before TensorFlow
    import numpy as np
    import tensorflow as tf

    from features.items.simhash import SimHash, SimHashConfig
    from features.spec import FeatureSpec
    from models.sdim.buckets import signatures
    from serving.signature_specs import BSE_FILE, SPEC_FILE, HistoryInputs

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
    spec = FeatureSpec.model_validate({"name": "benchmark", "features": features, "history": history})
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
    import resource
    import time

    import tensorflow  # noqa: F401

    from serving.bse.table_job import build_behavior_tables

    started, cpu = time.perf_counter(), time.process_time()
    built = build_behavior_tables(model, log, store, precision=precision)
    seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
    return {
        **built,
        "seconds": round(seconds, 2),
        "users_per_second": round(built["users"] / seconds),
        "users_per_cpu_second": round(built["users"] / cpu),
        "peak_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
    }


STAGES = {"log": write_log, "model": export_model, "job": run_job}


def in_own_process(stage: str, *arguments) -> dict:
    """Runs a stage in a new interpreter; returns what it returned."""
    command = [sys.executable, "-m", "benchmarks.bse_job", "--stage", stage, json.dumps(arguments)]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"})
    if done.returncode:
        sys.stderr.write(done.stderr[-4_000:])
        done.check_returncode()
    return json.loads(done.stdout.splitlines()[-1])


def measure(work: str, model: str, name: str, users: int, precision: str) -> dict:
    with tempfile.TemporaryDirectory(dir=work) as directory:
        in_own_process("log", f"{directory}/log", users, LENGTHS[name])
        found = in_own_process("job", model, f"{directory}/log", f"{directory}/store", precision)
        # A job that has nothing to do, for what it costs to find that out.
        again = in_own_process("job", model, f"{directory}/log", f"{directory}/store", precision)
    if found["users"] != users or again["built"]:
        raise AssertionError(f"{users} users were to be built once: {found}, {again}")
    print(name, json.dumps(found), flush=True)
    return found | {"nothing_to_do_seconds": again["seconds"], "behaviors_a_user": LENGTHS[name]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--users", type=int, default=10_000, help="whose tables are timed (default: %(default)s)")
    parser.add_argument("--few", type=int, default=10_000, help="users for peak memory (default: %(default)s)")
    parser.add_argument("--many", type=int, default=200_000, help="users for peak memory (default: %(default)s)")
    parser.add_argument("--work", type=Path, help="where logs and stores are built (default: a temporary directory)")
    parser.add_argument("--out", type=Path, default=RESULTS, help="where the figures go")
    parser.add_argument("--stage", choices=STAGES, help=argparse.SUPPRESS)
    parser.add_argument("arguments", nargs="?", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.stage:
        print(json.dumps(STAGES[options.stage](*json.loads(options.arguments))))
        return
    with tempfile.TemporaryDirectory(dir=options.work) as work:
        model = f"{work}/model"
        in_own_process("model", model)
        load = os.getloadavg()[0]
        speed = {name: measure(work, model, "speed", options.users, name) for name in ("fp32", "int8")}
        few, many = (measure(work, model, "memory", users, "int8") for users in (options.few, options.many))
    facts = {
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
    options.out.parent.mkdir(parents=True, exist_ok=True)
    aside = options.out.with_suffix(".tmp")
    aside.write_text(json.dumps(facts, indent=2) + "\n")
    os.replace(aside, options.out)
    print(f"{speed['fp32']['users_per_second']:,} users a second; memory {facts['memory']['growth']:.2f} times")


if __name__ == "__main__":
    main()

"""AutoInt against the item-CTR baseline and the oracle on simulated logs, and the same on shuffled labels.

The profile of `make run` (tfx_config/simulated.yaml) on logs of several seeds: test AUC of AutoInt, of item CTR and of
the oracle, and AutoInt's share of the oracle's lead. Control: the same training after the clicks were moved to
impressions drawn at random; nothing is left to learn, so its AUC is 0.5.
"""

from __future__ import annotations

import json
import shutil
import statistics
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

import clickmill as cm
from benchmarks.preparation import CONFIGS, ingest_and_encode
from evaluation.baselines import count_items, oracle
from evaluation.metrics.registry import compute_metrics
from evaluation.metrics.rows import ScoredRows

TABLES = ("impressions", "clicks", "items", "users")
TARGETS = {"lead": 0.03, "shuffled": 0.01}
OPTIONS = {
    "impressions": (300_000, "of each log"),
    "shuffled_impressions": (1_000_000, "of the shuffled log: more rows, a tighter 0.5"),
    "seeds": ([7, 8, 9], "of logs and trainings"),
}


def shuffle_clicks(log: Path, out: Path, seed: int) -> None:
    """Copies a log, its clicks moved to as many distinct impressions drawn uniformly, a minute after each."""
    rng = np.random.default_rng(seed)
    for table in TABLES:
        if table != "clicks":
            shutil.copytree(log / table, out / table)
    impressions = pa.concat_tables([pq.read_table(path) for path in sorted((log / "impressions").glob("*.parquet"))])
    clicks = sum(pq.read_metadata(path).num_rows for path in (log / "clicks").glob("*.parquet"))
    rows = impressions.take(pa.array(rng.choice(len(impressions), clicks, replace=False)))
    (out / "clicks").mkdir()
    moved = {
        "request_id": rows["request_id"],
        "item_id": rows["item_id"],
        "timestamp": pa.array(rows["timestamp"].to_numpy() + 60_000),
        "label": pa.array(["click"] * len(rows)),
    }
    pq.write_table(pa.table(moved), out / "clicks" / "clicks.parquet")


def measure(log: Path, work: Path, truth: Path | None, seed: int) -> dict:
    """Trains the profile's AutoInt on a log. Returns the AUC of everything on its test split."""
    from models.inputs.input_pipeline import make_dataset
    from models.training.loop import predict

    profile = cm.load_config(CONFIGS / "simulated.yaml")
    spec = cm.load_spec(CONFIGS / "features_simulated.yaml")
    config = cm.IngestConfig.model_validate({"tables": {table: str(log / table) for table in TABLES}})
    raw, encoded, encoding_dir = ingest_and_encode(config, spec, work)
    encoding = cm.FeatureEncoding.load(encoding_dir)
    # The features alone, by the schedule that they need: what histories add has a benchmark of its own.
    profiled = profile.models["autoint"]
    model_config = profiled.parameters.model_copy(update={"history": None})
    training = profiled.training.model_copy(update={"epochs": 7, "seed": seed})
    model, history = cm.train(
        lambda: cm.AutoInt(encoding, model_config), encoding, encoded, training, work / "training", show_progress=True
    )
    labels, logits = predict(model, make_dataset(encoded, "test", encoding, training.input))
    columns = ["request_id", "user_id", "item_id"]
    table = pa.concat_tables(
        [pq.read_table(p, columns=columns) for p in sorted((raw / "Split-test").glob("*.parquet"))]
    )
    items = table["item_id"].combine_chunks()
    parent = pa.array(np.repeat(np.arange(len(table)), np.diff(items.offsets.to_numpy())))
    rows = pa.table({"request_id": table["request_id"].take(parent), "item_id": items.flatten()})

    index = np.arange(len(labels))

    def auc(scores) -> float:
        return compute_metrics(ScoredRows(labels, np.asarray(scores), index, index), ["auc"])["auc"]

    item_ctr = count_items(raw, spec.label).click_rate(rows["item_id"]).score
    found = {"autoint": auc(logits), "item_ctr": auc(item_ctr), "epochs": len(history.epochs)}
    if truth is not None:
        found["oracle"] = auc(oracle(rows, truth).score)
        found["lead"] = found["autoint"] - found["item_ctr"]
        found["share_of_oracle_lead"] = found["lead"] / (found["oracle"] - found["item_ctr"])
    return found


def run(options) -> dict:
    """Trains on a log of each seed, then on shuffled labels."""
    runs = []
    for seed in options.seeds:
        work = options.work / f"{options.impressions}-{seed}"
        cm.simulate(cm.SimulatorConfig(impressions=options.impressions, seed=seed), work / "log")
        runs.append({"seed": seed, **measure(work / "log", work, work / "log" / "truth", seed)})
        print(json.dumps(runs[-1]))
    work = options.work / f"{options.shuffled_impressions}-shuffled"
    shutil.rmtree(work, ignore_errors=True)
    cm.simulate(cm.SimulatorConfig(impressions=options.shuffled_impressions, seed=options.seeds[0]), work / "log")
    shuffle_clicks(work / "log", work / "shuffled", seed=1)
    shuffled = measure(work / "shuffled", work, None, options.seeds[0])
    return {
        "impressions": options.impressions,
        "targets": TARGETS,
        "runs": runs,
        "lead": {"mean": statistics.mean(r["lead"] for r in runs), "min": min(r["lead"] for r in runs)},
        "share_of_oracle_lead": statistics.mean(r["share_of_oracle_lead"] for r in runs),
        "shuffled": {"impressions": options.shuffled_impressions, **shuffled},
    }


def figures(found: dict) -> list[tuple[str, str]]:
    lead, shuffled, share = found["lead"], found["shuffled"], found["share_of_oracle_lead"]
    of = f"{found['impressions']:,} simulated impressions, {len(found['runs'])} seeds"
    return [
        (
            f"AutoInt's test AUC above item CTR, {of}",
            f"{lead['mean']:+.3f} (lowest {lead['min']:+.3f}), {share:.0%} of the oracle's lead",
        ),
        ("the same training on shuffled labels", f"AUC {shuffled['autoint']:.4f}"),
    ]

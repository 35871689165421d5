"""What it adds to a ranker to know how long ago a behaviour was.

AutoInt on a simulated log whose users drift: before one request in ten what a user's session is after moves on, so that
the last clicks say more than those before. Every attention over the short history alone, and SDIM over the long one
beside a short one without recency, each with no recency, with that of ranks, and with that of times and ranks (SDIM: of
times). Each is trained on `train` with each seed, stopped on `eval`, and scored on `test`.
"""

from __future__ import annotations

import json
from pathlib import Path

import clickmill as cm
from benchmarks.preparation import CONFIGS, encode_by_time, of_training, quality_of_splits
from benchmarks.records import Sweep, show, spread

#: Few users, so that windows are full.
SIMULATION = {"impressions": 150_000, "num_users": 60, "activity_exponent": 0.2, "session_drift": 0.1, "seed": 5}
MODEL = {"variant": "reference", "num_layers": 2, "head_dim": 16, "exclude_features": ["item_id", "title"]}
TRAINING = {"epochs": 6, "patience": 2, "optimizer": {"learning_rate": 2e-3, "schedule": "cosine"}}
ATTENTIONS = {
    **{kind: {"short": kind, "long": "none"} for kind in ("mean", "target_attention", "cosine_attention", "din")},
    "sdim": {"short": "none", "long": "sdim", "signature_source": "end_to_end"},
}
RECENCY = {"none": "without", "rank": "ranks", "gap_and_rank": "times and ranks"}

OPTIONS = {
    "attentions": (list(ATTENTIONS), "what reads the history", ATTENTIONS),
    "recency": (list(RECENCY), "what it knows of how long ago a behaviour was", RECENCY),
    "seeds": ([1, 2, 3], "of each"),
}


def settings(attention: str, recency: str, seed: int) -> dict:
    """What makes a run: the key of its record."""
    return {
        "attention": attention,
        "recency": recency,
        "seed": seed,
        "simulation": SIMULATION,
        "model": {**MODEL, "history": {**ATTENTIONS[attention], "recency": recency}},
        "training": TRAINING,
    }


def measure(wanted: dict, work: Path) -> dict:
    """Trains one model and returns its figures."""
    examples, encoding_dir = encode_by_time(
        work, wanted["simulation"], cm.load_spec(CONFIGS / "features_simulated.yaml")
    )
    encoding, config = cm.FeatureEncoding.load(encoding_dir), cm.AutoIntConfig.model_validate(wanted["model"])
    training = cm.TrainingConfig.model_validate({**wanted["training"], "seed": wanted["seed"]})
    histories = {"histories": True, "long_history": config.history.long != "none"}
    model, history = cm.train(
        lambda: cm.AutoInt(encoding, config),
        encoding,
        examples,
        training,
        work / "training" / "-".join(str(wanted[key]) for key in ("attention", "recency", "seed")),
        fingerprint=json.dumps(wanted),
        **histories,
    )
    return {**of_training(history), **quality_of_splits(model, examples, encoding, training.input, **histories)}


def run(options) -> dict:
    """Trains what is not finished."""
    sweep = Sweep("recency")
    for seed in options.seeds:
        for attention in options.attentions:
            for recency in options.recency:
                if attention == "sdim" and recency == "rank":
                    continue  # a table knows no ranks
                sweep.do(settings(attention, recency, seed), lambda wanted: measure(wanted, options.work))
    return {"summary": summarise(sweep.runs)}


def summarise(runs: list[dict]) -> list[dict]:
    """Mean and standard deviation of test metrics by attention and recency, and what recency adds, seed by seed."""
    tests = {(run["attention"], run["recency"], run["seed"]): run["test"] for run in runs}
    rows = []
    for attention in ATTENTIONS:
        for recency in RECENCY:
            seeds = sorted(seed for *key, seed in tests if key == [attention, recency])
            if not seeds:
                continue
            row: dict = {"attention": attention, "recency": recency, "seeds": seeds}
            for metric in ("auc", "log_loss"):
                found = {seed: tests[attention, recency, seed][metric] for seed in seeds}
                row[metric] = spread(list(found.values()))
                added = [
                    found[seed] - tests[attention, "none", seed][metric]
                    for seed in seeds
                    if (attention, "none", seed) in tests
                ]
                if added and recency != "none":
                    row[f"{metric}_added"] = spread(added)
            rows.append(row)
    return rows


def figures(found: dict) -> list[tuple[str, str]]:
    table = []
    for row in found["summary"]:
        figure = f"test AUC {show(row['auc'])}, log loss {show(row['log_loss'])}"
        if "auc_added" in row:
            auc, loss = (row[f"{metric}_added"] for metric in ("auc", "log_loss"))
            figure += f"; added {auc[0]:+.4f} ± {auc[1]:.4f}, {loss[0]:+.4f} ± {loss[1]:.4f}"
        table.append((f"AutoInt, `{row['attention']}`, recency {RECENCY[row['recency']]}", figure))
    return table

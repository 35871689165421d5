"""What it adds to a ranker to know how long ago a behaviour was.

AutoInt over one window of 24 behaviours, in a planted world (benchmarks/candidates/planted_interests.py): users have
two of twelve clusters as interests. `drifting`: they had others until ten minutes to a hundred days ago, and only the
age of a behaviour tells which it follows. `steady`: they have always had them, the null control. Every attention, and
SDIM, without recency, with that of ranks, and with that of times and ranks (SDIM: of times); batches of new users, the
same for all of a seed.
"""

from __future__ import annotations

import numpy as np

import clickmill as cm
from benchmarks.candidates.planted_interests import DriftingInterests, train_on_planted
from benchmarks.preparation import quality
from benchmarks.records import Sweep, spread

WORLDS = {"drifting": {"interests": 2}, "steady": {"interests": 2, "moves": False}}
MODEL = {"variant": "reference", "num_layers": 1, "head_dim": 16, "exclude_features": ["item_id"]}
ATTENTIONS = {
    **{kind: {"long": kind} for kind in ("mean", "target_attention", "cosine_attention", "din")},
    "sdim": {"long": "sdim", "signature_source": "end_to_end"},
}
RECENCY = {"none": "none", "rank": "ranks", "gap_and_rank": "times and ranks"}
TRAINING = {"steps": 300, "learning_rate": 3e-3}
TEST_REQUESTS = 4000

OPTIONS = {
    "worlds": (list(WORLDS), "planted worlds", WORLDS),
    "attentions": (list(ATTENTIONS), "what reads the history", ATTENTIONS),
    "recency": (list(RECENCY), "what it knows of how long ago a behaviour was", RECENCY),
    "seeds": ([1, 2, 3], "of each"),
}


def settings(world: str, attention: str, recency: str, seed: int) -> dict:
    """What makes a run: the key of its record."""
    history = {"short": "none", **ATTENTIONS[attention], "recency": recency}
    return {
        "world": world,
        "attention": attention,
        "recency": recency,
        "seed": seed,
        "planted": WORLDS[world],
        "model": {**MODEL, "history": history},
        "training": TRAINING,
    }


def measure(wanted: dict) -> dict:
    """Trains one model and returns its figures on new users."""
    import tensorflow as tf

    tf.keras.utils.set_random_seed(wanted["seed"])
    world = DriftingInterests(**wanted["planted"])
    model = cm.AutoInt(world.encoding, cm.AutoIntConfig.model_validate(wanted["model"]))
    train_on_planted(model, world, wanted["training"]["steps"], wanted["seed"], wanted["training"]["learning_rate"])
    rng, labels, logits = np.random.default_rng([99, wanted["seed"]]), [], []
    for _ in range(TEST_REQUESTS // 400):
        batch = world.batch(rng, 400)
        labels.append(batch["label"])
        logits.append(model(tf.nest.map_structure(tf.constant, batch)).numpy())
    return {"test": quality(np.concatenate(labels), np.concatenate(logits)), "weights": weights_by_age(model)}


def weights_by_age(model) -> list[float]:
    """What a behaviour counts by the bucket of its gap, beside one of the youngest; none: not known to the model."""
    import tensorflow as tf

    from features.histories.time_gaps import NUM_GAP_BUCKETS

    recency = model.history_interest.recency_of("long")
    if recency is None or not recency.gaps:
        return []
    bias = recency(tf.range(1, NUM_GAP_BUCKETS), None).bias.numpy()
    return np.exp(bias - bias[1]).round(3).tolist()


def run(options) -> dict:
    """Trains what is not finished."""
    sweep = Sweep("recency")
    for seed in options.seeds:
        for world in options.worlds:
            for attention in options.attentions:
                for recency in options.recency:
                    if not (attention == "sdim" and recency == "rank"):  # a table knows no ranks
                        sweep.do(settings(world, attention, recency, seed), measure)
    return {"summary": summarise(sweep.runs)}


def summarise(runs: list[dict]) -> dict:
    """By world, attention and recency: means and standard deviations on test, and what recency adds, seed by seed."""
    found = {(run["world"], run["attention"], run["recency"], run["seed"]): run for run in runs}
    table: dict = {}
    for world, attention, recency in dict.fromkeys(key[:3] for key in found):
        seeds = sorted(key[3] for key in found if key[:3] == (world, attention, recency))
        row: dict = {"seeds": seeds}
        for metric in ("auc", "log_loss"):
            values = [found[world, attention, recency, seed]["test"][metric] for seed in seeds]
            row[metric] = spread(values)
            without = [found.get((world, attention, "none", seed)) for seed in seeds]
            if recency != "none" and None not in without:
                row[f"{metric}_added"] = spread(
                    [value - other["test"][metric] for value, other in zip(values, without, strict=True)]
                )
        if weights := found[world, attention, recency, seeds[0]]["weights"]:
            row["weights_by_age"] = weights
        table.setdefault(world, {}).setdefault(attention, {})[recency] = row
    return table


def figures(found: dict) -> list[tuple[str, str]]:
    table = []
    for world, attentions in found["summary"].items():
        for attention, rows in attentions.items():
            parts = []
            for recency, row in rows.items():
                part = f"{RECENCY[recency]} {row['auc'][0]:.4f}"
                if "auc_added" in row:
                    mean, deviation = row["auc_added"]
                    part += f" ({mean:+.4f}" + (f" ± {deviation:.4f})" if deviation is not None else ")")
                parts.append(part)
            seeds = len(next(iter(rows.values()))["seeds"])
            table.append((f"AutoInt, {world} interests, `{attention}`, {seeds} seed(s): test AUC", "; ".join(parts)))
    return table

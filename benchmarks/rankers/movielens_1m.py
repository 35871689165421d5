"""AutoInt's protocol on MovieLens-1M: mean test AUC and log loss over seeds, beside the paper's.

Each (candidate, seed) is trained on split `train`, stopped on `eval`, and scored once on `test`. An
interrupted run goes on after its last epoch. Which variant of
AutoInt stands for it is decided by validation log loss; the test split decides nothing. Two processes may run side by
side, on different candidates, seeds or both.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import clickmill as cm
from benchmarks.preparation import CONFIGS, ingest_and_encode, log_tables, of_training, quality_of_splits
from benchmarks.records import Sweep, show, spread

PAPER = {"autoint": {"auc": 0.8456, "log_loss": 0.3797}, "autoint_plus": {"auc": 0.8488, "log_loss": 0.3753}}

# The reference's dropout (attention 0.4, embedding 0.1). Tuned on validation with one seed: the peak learning rate, its
# schedule and the number of epochs; the reference has a constant 1e-3 for 50 epochs. Validation log loss of
# AutoInt, seed 1: 0.3790 as below, 0.3821 with 30 epochs, 0.3806 with embedding dropout 0.2.
MODEL = {"attention_dropout": 0.4, "embedding_dropout": 0.1}
CANDIDATES = {
    "autoint_paper": {"of": "autoint", "model": {**MODEL, "variant": "paper"}, "epochs": 40, "learning_rate": 4e-3},
    "autoint_reference": {
        "of": "autoint",
        "model": {**MODEL, "variant": "reference"},
        "epochs": 40,
        "learning_rate": 4e-3,
    },
    "autoint_plus": {
        "of": "autoint_plus",
        "model": {**MODEL, "variant": "reference", "deep_layers": [400, 400], "deep_dropout": 0.4},
        "epochs": 20,
        "learning_rate": 3e-3,
    },
}


OPTIONS = {
    "candidates": (list(CANDIDATES), "to train", CANDIDATES),
    "seeds": ([1, 2, 3], "of each"),
}


def settings(candidate: str, seed: int) -> dict:
    """What makes a run: the key of its record."""
    return {
        "candidate": candidate,
        "seed": seed,
        "model": CANDIDATES[candidate]["model"],
        "training": training_settings(candidate),
    }


def training_settings(candidate: str) -> dict:
    """How a candidate is trained; Adam with dense moments, as the reference (the tables are small)."""
    settings = CANDIDATES[candidate]
    return {
        "epochs": settings["epochs"],
        "patience": 5,
        "input": {"batch_size": 1024, "buffer_shards": 8},
        "optimizer": {"name": "adam", "learning_rate": settings["learning_rate"], "schedule": "cosine"},
        # The protocol's: dropout alone. Every user and item of the test split was trained on.
        "regularization": {"embedding_l2": 0.0, "weight_decay": 0.0, "averaging": None},
    }


def prepare(work: Path) -> tuple[Path, Path]:
    """Downloads, ingests and encodes once. Returns the directories of the encoded examples and of the encoding."""
    split = {"by": "column", "column": "split"}
    config = {"tables": log_tables(work, simulation=None), "split": split, "num_shards": 8}
    spec = cm.load_spec(CONFIGS / "features_movielens_1m.yaml")
    return ingest_and_encode(cm.IngestConfig.model_validate(config), spec, work)[1:]


def measure(wanted: dict, work: Path) -> dict:
    """Trains one candidate with one seed and returns its figures."""
    examples, encoding_dir = prepare(work)
    encoding = cm.FeatureEncoding.load(encoding_dir)
    model_config = cm.AutoIntConfig.model_validate(wanted["model"])
    config = cm.TrainingConfig.model_validate({**wanted["training"], "seed": wanted["seed"]})
    identity = f"{wanted['candidate']} {model_config.model_dump_json()}"
    key = hashlib.sha256(f"{identity} {config.model_dump_json()}".encode()).hexdigest()[:8]
    directory = work / "training" / f"{wanted['candidate']}-{wanted['seed']}-{key}"
    model, history = cm.train(
        lambda: cm.AutoInt(encoding, model_config), encoding, examples, config, directory, fingerprint=identity
    )
    return {**of_training(history), **quality_of_splits(model, examples, encoding, config.input)}


def run(options) -> dict:
    """Trains what is not finished."""
    sweep = Sweep("movielens_1m")
    for seed in options.seeds:
        for candidate in options.candidates:
            sweep.do(settings(candidate, seed), lambda wanted: measure(wanted, options.work))
    return summarise(sweep)


def summarise(sweep: Sweep) -> dict:
    """Mean and deviation by candidate, and the AutoInt variant that validation chose."""
    table = {}
    for candidate in CANDIDATES:
        # Runs of an earlier configuration are kept, but means are of one.
        mine = [r for r in sweep.runs if r == sweep.find(settings(candidate, r["seed"]))]
        if mine:
            mine.sort(key=lambda run: run["seed"])
            table[candidate] = {"of": CANDIDATES[candidate]["of"], "seeds": [run["seed"] for run in mine]}
            for split in ("eval", "test"):
                table[candidate] |= {f"{split}_{m}": spread([r[split][m] for r in mine]) for m in ("auc", "log_loss")}
            table[candidate]["test_auc_by_seed"] = [run["test"]["auc"] for run in mine]
    variants = {name: row for name, row in table.items() if row["of"] == "autoint"}
    chosen = min(variants, key=lambda name: variants[name]["eval_log_loss"][0], default=None)
    return {"summary": table, "autoint_variant_chosen_on_validation": chosen}


def figures(found: dict) -> list[tuple[str, str]]:
    table = []
    for name, row in found["summary"].items():
        paper = " / ".join(str(value) for value in PAPER[row["of"]].values())
        what = f"MovieLens-1M, the AutoInt paper's protocol: `{name}`, {len(row['seeds'])} seed(s); paper {paper}"
        table.append((what, f"test AUC {show(row['test_auc'])}, log loss {show(row['test_log_loss'])}"))
    return table

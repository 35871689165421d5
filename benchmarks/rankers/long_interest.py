"""What long histories add to a ranker, and what SDIM keeps of full target attention.

AutoInt with the short history by target attention, and beside it no long history, its mean, SDIM with signatures of
either source, or full target attention (dot product, the same over unit vectors, DIN). `simulated`: a log whose users
have planted interests that only behaviours older than the last 50 show. `movielens_1m`: split by time. Each candidate
is trained on `train` with each seed (the two-tower too, whose item embeddings are signed), stopped on `eval`, and
scored on `test`.
"""

from __future__ import annotations

import json
from pathlib import Path

import clickmill as cm
from benchmarks.preparation import CONFIGS, encode_by_time, of_training, quality_of_splits
from benchmarks.records import Sweep, show, spread
from features.items.config import SimHashConfig

#: Few users with long histories: in the last fifth of the log the long-term term is on for 12 % of the impressions, and
#: the AUC of the true attraction is 0.807 with it, 0.743 without.
SIMULATION = {"impressions": 300_000, "num_users": 60, "activity_exponent": 0.2, "seed": 5}
DATA = {
    "simulated": {
        "spec": "features_simulated.yaml",
        # Chosen on eval for `make run`: item ids and title tokens are memorised in a log of two weeks.
        "model": {"exclude_features": ["item_id", "title"]},
        "long_length": 1000,
        "training": {"epochs": 6, "learning_rate": 2e-3},
        "two_tower": {"epochs": 6},
    },
    "movielens_1m": {
        "spec": "features_movielens_1m_time.yaml",
        "model": {"attention_dropout": 0.1, "embedding_dropout": 0.1},
        # One candidate a request: every row has windows of its own. Nine users in ten have fewer behaviours than these.
        "long_length": 200,
        "training": {"epochs": 4, "learning_rate": 1e-3},
        "two_tower": {"epochs": 4},
    },
}
MODEL = {"variant": "reference", "num_layers": 2, "head_dim": 16}
CANDIDATES = {
    "short_only": {"long": "none"},
    "mean": {"long": "mean"},
    "sdim_two_tower": {"long": "sdim", "signature_source": "two_tower"},
    # The fewest bits that the paper tries: half the table, half the time.
    "sdim_24_bits": {"long": "sdim", "signature_source": "two_tower", "simhash": {"num_bits": 24}},
    "sdim_end_to_end": {"long": "sdim", "signature_source": "end_to_end"},
    "target_attention": {"long": "target_attention"},
    "cosine_attention": {"long": "cosine_attention"},
    "din": {"long": "din"},
}


OPTIONS = {
    "data": (list(DATA), "logs", DATA),
    "candidates": (list(CANDIDATES), "long histories", CANDIDATES),
    "seeds": ([1, 2, 3], "of each"),
}


def settings(data: str, candidate: str, seed: int) -> dict:
    """What makes a run: the key of its record."""
    chosen = DATA[data]
    return {
        "data": data,
        "candidate": candidate,
        "seed": seed,
        "simulation": SIMULATION if data == "simulated" else None,
        "model": {**MODEL, **chosen["model"], "history": {"short": "target_attention", **CANDIDATES[candidate]}},
        "training": {
            "epochs": chosen["training"]["epochs"],
            "patience": 2,
            "optimizer": {"learning_rate": chosen["training"]["learning_rate"], "schedule": "cosine"},
        },
    }


def item_signatures(data: str, seed: int, work: Path, examples: Path, encoding, simhash: SimHashConfig):
    """Signatures of the items' embeddings by a two-tower of this seed; made once."""
    from features.items.signatures import ItemSignatures, sign_items
    from models.inputs.item_corpus import ItemCorpus
    from models.training.retrieval_stage import train_two_tower

    directory = work / "signatures" / f"{seed}-{simhash.num_bits}"
    if not directory.exists():
        training = {"epochs": DATA[data]["two_tower"]["epochs"], "patience": 2, "seed": seed}
        training |= {"input": {"batch_size": 512}, "optimizer": {"name": "adagrad", "learning_rate": 0.03}}
        model, _ = train_two_tower(
            encoding,
            examples,
            cm.TwoTowerConfig(),
            cm.TrainingConfig.model_validate(training),
            work / f"two_tower-{seed}",
        )
        sign_items(ItemCorpus.load(examples, encoding).item_ids, model.embed_corpus(), simhash).save(directory)
    return ItemSignatures.load(directory)


def measure(wanted: dict, work: Path) -> dict:
    """Trains one candidate with one seed and returns its figures."""
    data, candidate, seed = wanted["data"], wanted["candidate"], wanted["seed"]
    spec = cm.load_spec(CONFIGS / DATA[data]["spec"])
    if "long_length" in DATA[data]:
        history = spec.history.model_copy(update={"long_length": DATA[data]["long_length"]})
        spec = spec.model_copy(update={"history": history})
    examples, encoding_dir = encode_by_time(work, wanted["simulation"], spec)
    encoding = cm.FeatureEncoding.load(encoding_dir)
    config = cm.AutoIntConfig.model_validate(wanted["model"])
    training = cm.TrainingConfig.model_validate({**wanted["training"], "seed": seed})
    histories = {"histories": True, "long_history": config.history.long != "none"}
    signed = config.history.long == "sdim" and config.history.signature_source == "two_tower"
    signatures = item_signatures(data, seed, work, examples, encoding, config.history.simhash) if signed else None
    model, history = cm.train(
        lambda: cm.AutoInt(encoding, config, signatures),
        encoding,
        examples,
        training,
        work / "training" / f"{candidate}-{seed}",
        fingerprint=json.dumps(wanted),
        **histories,
    )
    entropy = signatures.occupancy_entropy() if signatures else None
    found = quality_of_splits(model, examples, encoding, training.input, **histories)
    return {**of_training(history), "occupancy_entropy": entropy, **found}


def run(options) -> dict:
    """Trains what is not finished."""
    sweep = Sweep("long_interest")
    for data in options.data:
        for seed in options.seeds:
            for candidate in options.candidates:
                sweep.do(
                    settings(data, candidate, seed), lambda wanted, data=data: measure(wanted, options.work / data)
                )
    return {"summary": summarise(sweep.runs)}


def summarise(runs: list[dict]) -> dict:
    """Mean and standard deviation of test metrics by data and candidate, and what each adds to the short history."""
    table: dict = {}
    for data in DATA:
        tests = {(run["candidate"], run["seed"]): run["test"] for run in runs if run["data"] == data}
        for candidate in CANDIDATES:
            seeds = sorted(seed for name, seed in tests if name == candidate)
            if not seeds:
                continue
            by_seed = [tests[candidate, seed]["auc"] for seed in seeds]
            row = {"seeds": seeds, "auc": spread(by_seed), "auc_by_seed": by_seed}
            row["log_loss"] = spread([tests[candidate, seed]["log_loss"] for seed in seeds])
            for other in ("short_only", "target_attention", "cosine_attention"):
                gains = [tests[candidate, s]["auc"] - tests[other, s]["auc"] for s in seeds if (other, s) in tests]
                if gains and other != candidate:
                    row[f"auc_over_{other}"] = spread(gains)
            table.setdefault(data, {})[candidate] = row
    return table


def figures(found: dict) -> list[tuple[str, str]]:
    names = {"simulated": "planted long-term interest", "movielens_1m": "MovieLens-1M by time"}
    table = []
    for data, candidates in found["summary"].items():
        for name, row in candidates.items():
            figure, over = f"test AUC {show(row['auc'])}", row.get("auc_over_short_only")
            if over is not None:
                figure += f"; over `short_only` {'+' if over[0] >= 0 else ''}{show(over)}"
            table.append((f"AutoInt, {names[data]}: `{name}`, {len(row['seeds'])} seed(s)", figure))
    return table

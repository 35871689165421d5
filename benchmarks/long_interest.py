"""What long histories add to a ranker, and what SDIM keeps of full target attention.

    python -m benchmarks.long_interest [--data simulated movielens_1m] [--candidates …] [--seeds 1 2 3] [--threads 1]

AutoInt with the short history by target attention, and beside it no long history, its mean, SDIM with signatures of
either source, or full target attention (dot product, the same over unit vectors, DIN). `simulated`: a log whose users
have planted interests that only behaviours older than the last 50 show. `movielens_1m`: split by time. Each candidate
is trained on `train` with each seed (the two-tower too, whose item embeddings are signed), stopped on `eval`, and
scored on `test`. Finished runs are kept in benchmarks/results/long_interest.json and skipped.
"""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path

import numpy as np

from benchmarks.run_records import RunRecords, limit_threads, spread
from features.items.simhash import SimHashConfig

RESULTS = Path(__file__).parent / "results" / "long_interest.json"
CONFIGS = Path(__file__).parents[1] / "tfx_config"

#: Few users with long histories: in the last fifth of the log the long-term term is on for 12 % of the impressions, and
#: the AUC of the true attraction is 0.807 with it, 0.743 without.
SIMULATION = {"impressions": 300_000, "num_users": 60, "activity_exponent": 0.2, "seed": 5}
DATA = {
    "simulated": {
        "spec": "features_simulated.yaml",
        # Chosen on eval for `make run`: item ids and title tokens are memorised in a log of two weeks.
        "model": {"exclude_features": ["item_id", "title"]},
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
    from models.training.loop import TrainingConfig
    from models.training.retrieval_stage import train_two_tower
    from models.two_tower.model import TwoTowerConfig

    directory = work / "signatures" / f"{seed}-{simhash.num_bits}"
    if not directory.exists():
        training = {"epochs": DATA[data]["two_tower"]["epochs"], "patience": 2, "seed": seed}
        training |= {"input": {"batch_size": 512}, "optimizer": {"name": "adagrad", "learning_rate": 0.03}}
        model, _ = train_two_tower(
            encoding, examples, TwoTowerConfig(), TrainingConfig.model_validate(training), work / f"two_tower-{seed}"
        )
        sign_items(ItemCorpus.load(examples, encoding).item_ids, model.embed_corpus(), simhash).save(directory)
    return ItemSignatures.load(directory)


def run(wanted: dict, work: Path) -> dict:
    """Trains one candidate with one seed and returns its record."""
    from benchmarks.preparation import encode_by_time
    from evaluation.metrics.registry import compute_metrics
    from evaluation.metrics.rows import ScoredRows
    from features.encoding.feature_encoding import FeatureEncoding
    from features.spec import load_spec
    from models.autoint.model import AutoInt, AutoIntConfig
    from models.inputs.input_pipeline import make_dataset
    from models.training.loop import TrainingConfig, predict, train

    data, candidate, seed = wanted["data"], wanted["candidate"], wanted["seed"]
    spec = load_spec(CONFIGS / DATA[data]["spec"])
    if "long_length" in DATA[data]:
        history = spec.history.model_copy(update={"long_length": DATA[data]["long_length"]})
        spec = spec.model_copy(update={"history": history})
    examples, encoding_dir = encode_by_time(work, wanted["simulation"], spec)
    encoding = FeatureEncoding.load(encoding_dir)
    config = AutoIntConfig.model_validate(wanted["model"])
    training = TrainingConfig.model_validate({**wanted["training"], "seed": seed})
    long_history = config.history.long != "none"
    signed = config.history.long == "sdim" and config.history.signature_source == "two_tower"
    signatures = item_signatures(data, seed, work, examples, encoding, config.history.simhash) if signed else None
    model, history = train(
        lambda: AutoInt(encoding, config, signatures),
        encoding,
        examples,
        training,
        work / "training" / f"{candidate}-{seed}",
        fingerprint=json.dumps(wanted),
        histories=True,
        long_history=long_history,
    )

    def quality(split: str) -> dict:
        dataset = make_dataset(examples, split, encoding, training.input, histories=True, long_history=long_history)
        labels, logits = predict(model, dataset)
        rows, scores = np.arange(len(labels)), 1.0 / (1.0 + np.exp(-logits.astype(np.float64)))
        return compute_metrics(ScoredRows(labels, scores, rows, rows), ["auc", "log_loss", "pcoc"])

    return {
        **wanted,
        "parameters": history.parameters,
        "best_epoch": history.best_epoch,
        "epochs": len(history.epochs),
        "examples_per_second": round(statistics.median(r.examples_per_second for r in history.epochs)),
        "occupancy_entropy": signatures.occupancy_entropy() if signatures else None,
        "eval": quality("eval"),
        "test": quality("test"),
    }


def summarise(runs: list[dict]) -> dict:
    """Mean and standard deviation of test metrics by data and candidate, and what each adds to the short history."""
    table: dict = {}
    for data in DATA:
        mine = [run for run in runs if run["data"] == data]
        by_seed = {(run["candidate"], run["seed"]): run["test"]["auc"] for run in mine}
        for candidate in CANDIDATES:
            seeds = sorted(run["seed"] for run in mine if run["candidate"] == candidate)
            if not seeds:
                continue
            row = {"seeds": seeds}
            for metric in ("auc", "log_loss"):
                row[metric] = spread([r["test"][metric] for r in mine if r["candidate"] == candidate])
            for other in ("short_only", "target_attention", "cosine_attention"):
                both = [s for s in seeds if (other, s) in by_seed]
                if both and other != candidate:
                    row[f"auc_over_{other}"] = spread([by_seed[candidate, s] - by_seed[other, s] for s in both])
            table.setdefault(data, {})[candidate] = row
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="+", choices=DATA, default=list(DATA))
    parser.add_argument("--candidates", nargs="+", choices=CANDIDATES, default=list(CANDIDATES))
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--work", type=Path, default=Path("data/benchmark_long_interest"))
    parser.add_argument("--threads", type=int, default=None, help="of TensorFlow; with two processes, 1 each")
    arguments = parser.parse_args()
    limit_threads(arguments.threads)
    keys = list(settings("simulated", "mean", 0))
    records = RunRecords(RESULTS, key=lambda run: json.dumps([run[key] for key in keys]), summarise=summarise)
    for data in arguments.data:
        for seed in arguments.seeds:
            for candidate in arguments.candidates:
                wanted = settings(data, candidate, seed)
                if records.find(wanted) is None:
                    done = run(wanted, arguments.work / data)
                    records.add(done)
                    print(data, candidate, seed, json.dumps(done["test"]), done["examples_per_second"], flush=True)
    print(json.dumps(summarise(records.load()), indent=1))


if __name__ == "__main__":
    main()

"""What the attention-weighted gate and its contrastive loss add, over all users and over those of short histories.

AutoInt, a single expert, plain MoE, AW-MoE without and with its contrastive loss, and the controls: gate dropout of the
loss's mask rate without the loss, and K experts whose weights are the same for everybody. All have the same fields and
about as many parameters. `simulated`: users come in groups that weigh the same features differently, and a user's
behaviours show the group. `movielens_1m`: split by time. Each candidate is trained on `train` with each seed, stopped
on `eval`, and scored on `test`.
What was tuned was tuned on `eval` (`--tune`). `--compare` then gives differences of means over seeds, with intervals by
resampling users, of the candidates whose runs of all seeds are in `--work`: aw_moe_compared.json.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

import clickmill as cm
from benchmarks.preparation import CONFIGS, encode_by_time, of_training
from benchmarks.records import Sweep, show, spread, write
from evaluation.metrics.registry import compute_metrics
from evaluation.metrics.rows import ScoredRows

#: 2,000 users of 150 impressions, some 15 clicks, each on average: enough behaviours to tell the four groups apart for
#: many users, too few for others, and none to begin with.
SIMULATION = {"impressions": 300_000, "num_users": 2_000, "activity_exponent": 0.6, "seed": 21}
SHORT_LENGTH = 10
METRICS = ("auc", "gauc_request", "log_loss", "pcoc")

#: A behaviour's feature must be categorical: groups differ in what prices are to them.
PRICE_BAND = {"name": "price_band", "table": "items", "column": "price", "kind": "numeric"}
PRICE_BAND |= {"transform": "bucketize", "num_buckets": 8}

DATA = {
    "simulated": {
        "exclude_features": ["item_id", "title"],  # memorised in a log of two weeks, as in long_interest.py
        "query_features": ["age_band", "city", "device", "hour"],
        # Feed-forward experts learn slowly from small embeddings. AutoInt, as in long_interest.py.
        "training": {"epochs": 4, "learning_rate": 5e-3},
        "autoint_learning_rate": 2e-3,
    },
    "movielens_1m": {
        "exclude_features": [],
        "query_features": ["gender", "age", "occupation"],
        "training": {"epochs": 3, "learning_rate": 1e-3},
        "autoint_learning_rate": 1e-3,
    },
}
HISTORY = {"short": "target_attention", "long": "none"}
AUTOINT = {"variant": "reference", "num_layers": 2, "head_dim": 34}

#: Widths are such that all candidates have about as many parameters.
MIXTURE = {"num_experts": 4, "expert_units": [24, 12]}
#: The log has no query. A gate of the candidate is better on `eval` than one of the request, the mean than the sum.
GATE = {"mode": "recommendation", "gate_normalisation": "count", "gate_units": 16}
CONTRASTIVE = {"weight": 0.003, "mask_rate": 0.3, "negatives": 3, "temperature": 0.5}
CANDIDATES = {
    "autoint": AUTOINT,
    "single_expert": {"gate": "none", "num_experts": 1, "expert_units": [118, 30], "contrastive": None},
    "plain_moe": {**MIXTURE, **GATE, "gate": "softmax_pooled", "gate_units": 31, "contrastive": None},
    "aw_moe_no_loss": {**MIXTURE, **GATE, "contrastive": None},
    "aw_moe": {**MIXTURE, **GATE, "contrastive": CONTRASTIVE},
    "gate_dropout": {**MIXTURE, **GATE, "contrastive": None, "gate_dropout": CONTRASTIVE["mask_rate"]},
    "constant_gate": {**MIXTURE, "gate": "constant", "expert_units": [32, 12], "contrastive": None},
}

#: What `--tune` tries beside the candidates, with one seed.
TRIED = {
    "no_loss_sum": {**CANDIDATES["aw_moe_no_loss"], "gate_normalisation": "none"},
    "no_loss_search": {**CANDIDATES["aw_moe_no_loss"], "mode": "search", "gate_units": 16},
} | {
    f"loss_{weight:g}_{rate:g}": {
        **CANDIDATES["aw_moe"],
        "contrastive": {**CONTRASTIVE, "weight": weight, "mask_rate": rate},
    }
    for weight in (0.0003, 0.001, 0.01, 0.03)
    for rate in (0.1, 0.3)
}


OPTIONS = {
    "data": (["simulated"], "logs", DATA),
    "candidates": (list(CANDIDATES), "to train", {**CANDIDATES, **TRIED}),
    "seeds": ([1, 2, 3], "of each"),
    "tune": (False, "try the settings of TRIED with the first seed"),
    "compare": (False, "then compare the candidates that have all seeds"),
}


def feature_spec(data: str):
    """The data's feature spec, with behaviours that tell users apart, and the last `SHORT_LENGTH` of them."""
    name = {"simulated": "features_simulated", "movielens_1m": "features_movielens_1m_time"}[data]
    spec = cm.load_spec(CONFIGS / f"{name}.yaml").model_dump(exclude_unset=True)
    history = {"features": list(spec["history"]["features"]), "short_length": SHORT_LENGTH, "long_length": 0}
    if data == "simulated":
        spec["features"] = [*spec["features"], PRICE_BAND]
        history["features"] += ["brand", "price_band"]
    return cm.FeatureSpec.model_validate({**spec, "history": history})


def prepare(data: str, work: Path) -> tuple[Path, Path]:
    """Ingests and encodes once, split by time. Returns directories of the encoded examples and of the encoding."""
    return encode_by_time(work / data, SIMULATION if data == "simulated" else None, feature_spec(data))


def settings(data: str, candidate: str, seed: int) -> dict:
    """What makes a run: the key of its record."""
    chosen = DATA[data]
    model = {**{**CANDIDATES, **TRIED}[candidate], "history": HISTORY, "exclude_features": chosen["exclude_features"]}
    if model.get("mode") == "search":
        model["query_features"] = chosen["query_features"]
    training = chosen["training"]
    rate = chosen["autoint_learning_rate"] if candidate == "autoint" else training["learning_rate"]
    return {
        "data": data,
        "candidate": candidate,
        "seed": seed,
        "simulation": SIMULATION if data == "simulated" else None,
        "short_length": SHORT_LENGTH,
        "model": model,
        "training": {
            "epochs": training["epochs"],
            "patience": 2,
            "optimizer": {"learning_rate": rate, "schedule": "cosine"},
        },
    }


def measure(wanted: dict, work: Path) -> dict:
    """Trains one candidate with one seed, leaves its test scores in `work` and returns its figures."""
    data, candidate, seed = wanted["data"], wanted["candidate"], wanted["seed"]
    examples, encoding_dir = prepare(data, work)
    from models.inputs.input_pipeline import make_dataset
    from models.training.loop import predict

    encoding = cm.FeatureEncoding.load(encoding_dir)
    make, config_class = (cm.AutoInt, cm.AutoIntConfig) if candidate == "autoint" else (cm.AwMoe, cm.AwMoeConfig)
    config = config_class.model_validate(wanted["model"])
    training = cm.TrainingConfig.model_validate({**wanted["training"], "seed": seed})
    training_dir = work / data / "training" / f"{candidate}-{seed}"
    histories = {"histories": True, "long_history": False}
    model, history = cm.train(
        lambda: make(encoding, config), encoding, examples, training, training_dir,
        fingerprint=json.dumps(wanted), **histories,
    )  # fmt: skip
    found = of_training(history)
    for split in ("eval", "test"):
        dataset = make_dataset(examples, split, encoding, training.input, **histories)
        labels, logits = predict(model, dataset)
        scores = 1.0 / (1.0 + np.exp(-logits.astype(np.float64)))
        table = Rows.read(examples, split)
        found[split] = compute_metrics(table.scored(labels, scores), METRICS)
    path = scores_path(work, wanted)
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, labels=labels, scores=scores)
    shutil.rmtree(training_dir)
    gated = candidate not in ("autoint", "single_expert")
    return {**found, "gate": gate_record(model, dataset, table) if gated else None}


def gate_record(model, dataset, table: Rows) -> dict:
    """Diagnostics of the gate on the test split; losses are the last epoch's of training, in nats."""
    from models.aw_moe import gate_diagnostics as of

    labels, gates, scores = [], [], []
    for batch in dataset:
        gate = model.gates(batch).numpy()
        labels.append(batch["label"].numpy())
        gates.append(gate[batch["request_index"].numpy()] if model.config.mode == "search" else gate)
        scores.append(model.expert_scores(batch).numpy())
    labels, gates, scores = (np.concatenate(parts) for parts in (labels, gates, scores))
    record = {
        "usage_entropy": of.usage_entropy(gates),
        "other_users_cosine": of.other_users_cosine(gates, table.user),
        "expert_auc_drops": of.expert_auc_drops(labels, gates, scores).tolist(),
        "mean_gate_auc_drop": of.mean_gate_auc_drop(labels, gates, scores),
    }
    if model.config.contrastive:
        record["contrastive_loss"] = float(model.contrastive_loss.result())
        record["contrastive_chance"] = float(model.contrastive_chance.result())
    return record


@dataclass(frozen=True)
class Rows:
    """Whose a split's impressions are, [N]: user and request codes, and the behaviours that the user had before."""

    user: np.ndarray
    request: np.ndarray
    history: np.ndarray

    @classmethod
    def read(cls, examples: Path, split: str) -> Rows:
        columns = ["_user_id", "_history_end", "_position"]
        shards = sorted((examples / f"Split-{split}").glob("*.parquet"))
        table = pa.concat_tables([pq.read_table(path, columns=columns) for path in shards])
        sizes = pc.list_value_length(table["_position"]).to_numpy()
        users = np.unique(table["_user_id"].to_numpy(), return_inverse=True)[1]
        per_request = (users, np.arange(len(table)), table["_history_end"].to_numpy())
        return cls(*(np.repeat(values, sizes) for values in per_request))

    def scored(self, labels: np.ndarray, scores: np.ndarray) -> ScoredRows:
        return ScoredRows(labels, scores, self.user, self.request)

    def slices(self) -> dict[str, np.ndarray]:
        """Rows of all impressions, and the long tails: what a user's behaviours number when the impression is made."""
        quartile = np.quantile(self.history, 0.25)
        masks = {"all": self.history >= 0, "lowest_quartile": self.history <= quartile, "at_most_3": self.history <= 3}
        return {name: np.flatnonzero(mask) for name, mask in masks.items()}


def scores_path(work: Path, wanted: dict) -> Path:
    return work / wanted["data"] / "scores" / f"{wanted['candidate']}-{wanted['seed']}.npz"


def compare(data: str, seeds: list[int], work: Path) -> dict:
    """AW-MoE less each other candidate, by slice, with 95 % intervals by user: means over seeds."""
    from evaluation.intervals import MetricStatistics, estimate

    names = [name for name in CANDIDATES if all(scores_path(work, settings(data, name, s)).exists() for s in seeds)]
    table, metrics = Rows.read(prepare(data, work)[0], "test"), METRICS
    users = int(table.user.max()) + 1

    def of_seed(slice_rows: np.ndarray, name: str, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Metrics [M] over a slice, and without each user [M, U]; one that has no row there changes nothing."""
        with np.load(scores_path(work, settings(data, name, seed))) as scored:
            rows = table.scored(scored["labels"], scored["scores"]).take(slice_rows)
        found = MetricStatistics(rows, metrics)
        without = np.repeat(found.values[:, np.newaxis], users, axis=1)
        without[:, np.unique(rows.user)] = found.without
        return found.values, without

    measured = {
        (slice_name, name): [
            np.mean(parts, axis=0) for parts in zip(*(of_seed(rows, name, s) for s in seeds), strict=True)
        ]
        for slice_name, rows in table.slices().items()
        for name in names
    }

    def gain(slice_name: str, name: str, other: str):
        return [
            ours - theirs for ours, theirs in zip(measured[slice_name, name], measured[slice_name, other], strict=True)
        ]

    def listed(pair) -> dict:
        found = [estimate(value, without) for value, without in zip(*pair, strict=True)]
        return {m: [f.value, f.low, f.high] for m, f in zip(metrics, found, strict=True)}

    table_of, sizes = table.slices(), {}
    for slice_name, rows in table_of.items():
        sizes[slice_name] = {"rows": len(rows), "users": len(np.unique(table.user[rows])),
                             "behaviours_at_most": int(table.history[rows].max())}  # fmt: skip
    found = {"seeds": seeds, "slices": sizes, "metrics": {}, "aw_moe_over": {}, "gain_over_no_loss": {}}
    for slice_name in table_of:
        found["metrics"][slice_name] = {
            name: dict(zip(metrics, measured[slice_name, name][0].tolist(), strict=True)) for name in names
        }
        found["aw_moe_over"][slice_name] = {
            other: listed(gain(slice_name, "aw_moe", other))
            for other in names
            if "aw_moe" in names and other != "aw_moe"
        }
    # What the loss (and the control) adds in the tail, less what it adds overall.
    for name in [name for name in ("aw_moe", "gate_dropout") if name in names]:
        gains = {slice_name: gain(slice_name, name, "aw_moe_no_loss") for slice_name in table_of}
        found["gain_over_no_loss"][name] = {slice_name: listed(pair) for slice_name, pair in gains.items()} | {
            f"{tail}_less_all": listed(tuple(x - y for x, y in zip(gains[tail], gains["all"], strict=True)))
            for tail in table_of
            if tail != "all"
        }
    return found


def summarise(runs: list[dict]) -> dict:
    """Mean and deviation over seeds by data and candidate, on `eval` and on `test`."""
    summary: dict = {}
    for data in DATA:
        for candidate in {**CANDIDATES, **TRIED}:
            mine = [r for r in runs if r["data"] == data and r["candidate"] == candidate]
            mine.sort(key=lambda run: run["seed"])
            if mine:
                summary.setdefault(data, {})[candidate] = {
                    "parameters": mine[0]["parameters"],
                    "seeds": [run["seed"] for run in mine],
                    **{s: {m: spread([r[s][m] for r in mine]) for m in METRICS} for s in ("eval", "test")},
                    "test_auc_by_seed": [run["test"]["auc"] for run in mine],
                }
    return summary


def run(options) -> dict:
    """Trains what is not finished, and compares where that is asked for."""
    sweep = Sweep("aw_moe")
    candidates, seeds = (list(TRIED), options.seeds[:1]) if options.tune else (options.candidates, options.seeds)
    for data in options.data:
        for seed in seeds:
            for candidate in candidates:
                sweep.do(settings(data, candidate, seed), lambda wanted: measure(wanted, options.work))
        if options.compare:
            compared = compare(data, seeds, options.work)
            print("written:", write("rankers", "aw_moe_compared", {"summary": {data: compared}}))
    return {"summary": summarise(sweep.runs)}


def figures(found: dict) -> list[tuple[str, str]]:
    table = []
    for data, candidates in found["summary"].items():
        for candidate, row in candidates.items():
            what = f"rankers, {data} log, {row['parameters']:,} parameters: `{candidate}`, {len(row['seeds'])} seed(s)"
            table.append((what, f"test AUC {show(row['test']['auc'])}, PCOC {show(row['test']['pcoc'])}"))
    return table

"""Does self-supervised learning on items help the long tail? The two-tower with each method, at equal tuning.

Each method has one parameter and four settings of it (α, or the dropout rate). The setting is chosen by recall@50 on
`eval` with the first seed, and trained with the other seeds; the table is recall on `test` over the whole corpus. Head,
tail and unseen items are fixed by the train split (evaluation/metrics/retrieval.py). `--fraction` trains on that share
of the train split's requests.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

import clickmill as cm
from benchmarks.preparation import CONFIGS, encode_by_time
from benchmarks.records import Sweep, show, spread

SPECS = {
    "simulated": "features_simulated.yaml",
    "simulated_sparse": "features_simulated.yaml",
    "movielens_1m": "features_movielens_1m_time.yaml",
}

# `simulated`: a corpus of which most items are seldom taken, where what is taken depends on features more than on
# popularity: nine tenths of the items share six tenths of the clicks, seven each at the median. A policy of popularity
# alone would leave the tail out of every top ten, whatever the method: the log was chosen by runs without SSL.
# `simulated_sparse` (with --fraction 0.08): the long tail of few clicks that the paper is about. 240 interests share
# 6,000 items, and train has 1.4 clicks an item; the whole log is long for the sake of many pairs in eval and test.
POLICY = {"popularity_exponent": 0.2, "temperature": 0.5, "exploration": 0.05, "seed": 11}
SPARSE = {"impressions": 1_200_000, "num_items": 6_000, "clusters_per_category": 20, "niches_per_cluster": 2}
SIMULATIONS = {
    "simulated": {"impressions": 400_000, "num_items": 3_000, **POLICY},
    "simulated_sparse": {**SPARSE, **POLICY},
}

# Of a corpus of few thousand items a larger sample holds many that are alike in all their features, as negatives.
SSL_ITEMS = 256

# Twenty behaviours find as much as fifty here, in half the time.
SHORT_LENGTH = 20

METHODS = {
    "none": {},
    "cfm": {"method": "cfm"},
    "rfm": {"method": "rfm"},
    "spread_out": {"method": "spread_out"},
    "feature_dropout": {"method": "feature_dropout"},
    # Ablations of CFM: what becomes of the item id.
    "cfm_plug_in": {"method": "cfm", "estimate": "plug_in"},
    "cfm_id_masked": {"method": "cfm", "item_id": "masked"},
}
# Fewer clicks leave more to the second task.
ALPHAS = {"simulated": (0.01, 0.03, 0.1, 0.3), "simulated_sparse": (0.3, 1.0, 3.0, 10.0)}
ALPHAS["movielens_1m"] = ALPHAS["simulated"]
DROPOUT_RATES = {"simulated": (0.03, 0.1, 0.2, 0.3), "simulated_sparse": (0.1, 0.2, 0.3, 0.5)}
DROPOUT_RATES["movielens_1m"] = DROPOUT_RATES["simulated"]
CHOSEN_BY = "recall@50"

MODEL = {"hidden_units": [128], "output_dim": 64, "temperature": 0.07}


def _settings(epochs: int, patience: int, learning_rate: float, **inputs: int) -> dict:
    training = {"epochs": epochs, "patience": patience, "input": inputs}
    return {"model": MODEL, "training": {**training, "optimizer": {"name": "adagrad", "learning_rate": learning_rate}}}


# Tuned on `eval` without SSL; the same for all methods.
SETTINGS = {
    "simulated": _settings(30, 3, 0.2, batch_size=1024),
    "simulated_sparse": _settings(100, 6, 0.1, batch_size=256),
    "movielens_1m": _settings(20, 3, 0.05, batch_size=1024, buffer_shards=8),
}
PARTS = ("all", "head", "tail", "unseen")
OPTIONS = {
    "data": (list(SETTINGS), "logs", SETTINGS),
    "fraction": ([1.0], "of the train split's requests"),
    "methods": (list(METHODS), "to train", METHODS),
    "seeds": ([1, 2, 3], "of each; the first chooses the setting"),
}


def settings_tried(data: str, method: str) -> list[dict]:
    """The settings of a method on a data set, as fields of SslConfig."""
    fixed = METHODS[method]
    if method == "none":
        return [fixed]
    if method == "feature_dropout":
        return [{**fixed, "dropout_rate": rate} for rate in DROPOUT_RATES[data]]
    return [{**fixed, "alpha": alpha} for alpha in ALPHAS[data]]


def prepare(data: str, work: Path) -> tuple[Path, Path]:
    """Ingests and encodes once, split by time. Returns directories of the encoded examples and of the encoding."""
    from features.beam_runner import make_pipeline
    from features.items.mutual_information import estimate_mutual_information

    spec = cm.load_spec(CONFIGS / SPECS[data])
    history = spec.history.model_copy(update={"short_length": SHORT_LENGTH})
    spec = spec.model_copy(update={"history": history})
    encoded, encoding = encode_by_time(work, SIMULATIONS.get(data), spec)
    if not (work / "mutual_information.json").exists():
        with make_pipeline() as root:
            estimate_mutual_information(root, encoded, spec, work / "mutual_information.json")
    return encoded, encoding


def thin_out(encoded: Path, fraction: float) -> Path:
    """Encoded examples with a share of the train split's requests, drawn with a fixed seed; the rest is linked."""
    if fraction == 1.0:
        return encoded
    thin = encoded.with_name(f"encoded_{fraction:g}")
    if not thin.exists():
        aside = thin.with_name(f".{thin.name}")
        shutil.rmtree(aside, ignore_errors=True)
        shutil.copytree(encoded, aside, copy_function=os.link)
        rng = np.random.default_rng(0)
        for path in sorted((aside / "Split-train").glob("*.parquet")):
            table = pq.read_table(path)
            path.unlink()
            pq.write_table(table.filter(pa.array(rng.random(len(table)) < fraction)), path)
        aside.rename(thin)
    return thin


def measure(wanted: dict, work: Path) -> dict:
    """Trains once and returns its figures."""
    data, fraction, setting = wanted["data"], wanted["fraction"], wanted["setting"]
    encoded, encoding_dir = prepare(data, work)
    from evaluation.metrics.ranks import count_above
    from evaluation.metrics.retrieval import item_slices, retrieval_metrics
    from features.items.mutual_information import MutualInformation
    from models.inputs.input_pipeline import count_positives
    from models.training.retrieval_stage import embed_pairs, pairs_dataset, train_two_tower

    encoding = cm.FeatureEncoding.load(encoding_dir)
    examples = thin_out(encoded, fraction)
    ssl = {"items": SSL_ITEMS, **setting}
    training = cm.TrainingConfig.model_validate({**SETTINGS[data]["training"], "seed": wanted["seed"]})
    key = f"{fraction:g}-{wanted['method']}-{json.dumps(setting)}-{wanted['seed']}".replace(" ", "")
    training_dir = work / "training" / key
    started = time.perf_counter()
    model, history = train_two_tower(
        encoding,
        examples,
        cm.TwoTowerConfig.model_validate({**SETTINGS[data]["model"], "ssl": ssl}),
        training,
        training_dir,
        mutual_information=MutualInformation.load(work / "mutual_information.json"),
    )
    seconds = time.perf_counter() - started
    items = model.embed_corpus()
    slices = item_slices(count_positives(examples, "train", encoding.spec.label, len(items)))
    found = {}
    for split in ("eval", "test"):
        queries, truth, _ = embed_pairs(model, pairs_dataset(examples, split, encoding, training))
        found[split] = retrieval_metrics(*count_above(queries, items, truth), slices[truth])
    shutil.rmtree(training_dir)
    return {"best_epoch": history.best_epoch, "epochs": len(history.epochs), "seconds": round(seconds, 1), **found}


def settings_of(data: str) -> dict:
    """What all runs on a data set have in common."""
    log = {"simulation": SIMULATIONS[data]} if data in SIMULATIONS else {}
    return {**SETTINGS[data], **log, "ssl_items": SSL_ITEMS, "short_length": SHORT_LENGTH}


def key_of(data: str, fraction: float, method: str, setting: dict, seed: int) -> dict:
    """What names a run, its configuration included."""
    return {
        "data": data,
        "fraction": fraction,
        "method": method,
        "setting": setting,
        "seed": seed,
        "settings": settings_of(data),
    }


def chosen_setting(runs: list[dict], method: str) -> dict | None:
    """The setting of highest recall on `eval` with the seed that tried all of them; None before all were tried."""
    mine = [r for r in runs if r["method"] == method and r["setting"] in settings_tried(r["data"], method)]
    for seed in sorted({r["seed"] for r in mine}):
        tried = [r for r in mine if r["seed"] == seed]
        if len(tried) == len(settings_tried(tried[0]["data"], method)):
            return max(tried, key=lambda r: r["eval"]["all"][CHOSEN_BY])["setting"]
    return None


def summarise(runs: list[dict]) -> dict:
    """Of each data set and fraction: mean and deviation over seeds, and what each seed gained over no SSL."""
    tables = {}
    for name in sorted({f"{r['data']} {r['fraction']:g}" for r in runs}):
        group = [
            r for r in runs if f"{r['data']} {r['fraction']:g}" == name and r["settings"] == settings_of(r["data"])
        ]
        base = {r["seed"]: r["test"] for r in group if r["method"] == "none"}
        tables[name] = {}
        for method in METHODS:
            setting = chosen_setting(group, method)
            mine = {r["seed"]: r["test"] for r in group if r["method"] == method and r["setting"] == setting}
            if not mine:
                continue
            row = tables[name][method] = {"setting": setting, "seeds": sorted(mine)}
            row["recall@10_by_seed"] = [mine[seed]["all"]["recall@10"] for seed in row["seeds"]]
            for part in PARTS:
                row[part] = {}
                for metric in ("recall@10", "recall@50"):
                    row[part][metric] = spread([test[part][metric] for test in mine.values()])
                    gains = [mine[s][part][metric] - base[s][part][metric] for s in mine if s in base]
                    if method != "none" and gains:
                        row[part][f"{metric} gain"] = spread(gains)
    return tables


def run(options) -> dict:
    """Tries every setting of a method with the first seed, and trains the chosen one with the others."""
    sweep = Sweep("ssl")

    def do(*key) -> None:
        sweep.do(key_of(*key), lambda wanted: measure(wanted, options.work / wanted["data"]))

    for data in options.data:
        for fraction in options.fraction:
            for method in options.methods:
                for setting in settings_tried(data, method):
                    do(data, fraction, method, setting, options.seeds[0])
                key = (data, fraction, settings_of(data))
                group = [r for r in sweep.runs if (r["data"], r["fraction"], r["settings"]) == key]
                for seed in options.seeds[1:]:
                    do(data, fraction, method, chosen_setting(group, method), seed)
    return {"summary": summarise(sweep.runs)}


def figures(found: dict) -> list[tuple[str, str]]:
    table = []
    for data, methods in found["summary"].items():
        for name, row in methods.items():
            figure = ", ".join(f"{part} {show(row[part]['recall@10'])}" for part in PARTS[:3])
            figure = figure.replace("all", "recall@10", 1)
            table.append((f"two-tower, {data}: `{name}`, {len(row['seeds'])} seed(s)", figure))
    return table

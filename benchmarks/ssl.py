"""Does self-supervised learning on items help the long tail? The two-tower with each method, at equal tuning.

    python -m benchmarks.ssl [--data simulated simulated_sparse movielens_1m] [--fraction 1.0] [--methods none cfm …]
        [--seeds 1 2 3]

Each method has one parameter and four settings of it (α, or the dropout rate). The setting is chosen by recall@50 on
`eval` with the first seed, and trained with the other seeds; the table is recall on `test` over the whole corpus. Head,
tail and unseen items are fixed by the train split (evaluation/metrics/retrieval.py). `--fraction` trains on that share
of the train split's requests. Finished runs are kept in benchmarks/results/ssl.json and skipped.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.run_records import RunRecords, limit_threads, spread

RESULTS = Path(__file__).parent / "results" / "ssl.json"
CONFIGS = Path(__file__).parents[1] / "tfx_config"
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
SIMULATIONS = {
    "simulated": {
        "impressions": 400_000,
        "num_items": 3_000,
        "popularity_exponent": 0.2,
        "temperature": 0.5,
        "exploration": 0.05,
        "seed": 11,
    },
    "simulated_sparse": {
        "impressions": 1_200_000,
        "num_items": 6_000,
        "clusters_per_category": 20,
        "niches_per_cluster": 2,
        "popularity_exponent": 0.2,
        "temperature": 0.5,
        "exploration": 0.05,
        "seed": 11,
    },
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
ALPHAS = {
    "simulated": (0.01, 0.03, 0.1, 0.3),
    "simulated_sparse": (0.3, 1.0, 3.0, 10.0),
    "movielens_1m": (0.01, 0.03, 0.1, 0.3),
}
DROPOUT_RATES = {
    "simulated": (0.03, 0.1, 0.2, 0.3),
    "simulated_sparse": (0.1, 0.2, 0.3, 0.5),
    "movielens_1m": (0.03, 0.1, 0.2, 0.3),
}
CHOSEN_BY = "recall@50"

# Tuned on `eval` without SSL; the same for all methods.
SETTINGS = {
    "simulated": {
        "model": {"hidden_units": [128], "output_dim": 64, "temperature": 0.07},
        "training": {
            "epochs": 30,
            "patience": 3,
            "input": {"batch_size": 1024},
            "optimizer": {"name": "adagrad", "learning_rate": 0.2},
        },
    },
    "simulated_sparse": {
        "model": {"hidden_units": [128], "output_dim": 64, "temperature": 0.07},
        "training": {
            "epochs": 100,
            "patience": 6,
            "input": {"batch_size": 256},
            "optimizer": {"name": "adagrad", "learning_rate": 0.1},
        },
    },
    "movielens_1m": {
        "model": {"hidden_units": [128], "output_dim": 64, "temperature": 0.07},
        "training": {
            "epochs": 20,
            "patience": 3,
            "input": {"batch_size": 1024, "buffer_shards": 8},
            "optimizer": {"name": "adagrad", "learning_rate": 0.05},
        },
    },
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
    from benchmarks.preparation import encode_by_time
    from features.beam_runner import make_pipeline
    from features.items.mutual_information import estimate_mutual_information
    from features.spec import load_spec

    spec = load_spec(CONFIGS / SPECS[data])
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


def run(data: str, fraction: float, method: str, setting: dict, seed: int, work: Path) -> dict:
    """Trains once and returns its record."""
    encoded, encoding_dir = prepare(data, work)
    from evaluation.metrics.ranks import count_above
    from evaluation.metrics.retrieval import item_slices, retrieval_metrics
    from features.encoding.feature_encoding import FeatureEncoding
    from features.items.mutual_information import MutualInformation
    from models.inputs.input_pipeline import count_positives
    from models.training.loop import TrainingConfig
    from models.training.retrieval_stage import embed_pairs, pairs_dataset, train_two_tower
    from models.two_tower.model import TwoTowerConfig

    encoding = FeatureEncoding.load(encoding_dir)
    examples = thin_out(encoded, fraction)
    settings = SETTINGS[data]
    ssl = {"items": SSL_ITEMS, **setting}
    training = TrainingConfig.model_validate({**settings["training"], "seed": seed})
    training_dir = work / "training" / f"{fraction:g}-{method}-{json.dumps(setting)}-{seed}".replace(" ", "")
    started = time.perf_counter()
    model, history = train_two_tower(
        encoding,
        examples,
        TwoTowerConfig.model_validate({**settings["model"], "ssl": ssl}),
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
    return {
        **key_of(data, fraction, method, setting, seed),
        "best_epoch": history.best_epoch,
        "epochs": len(history.epochs),
        "seconds": round(seconds, 1),
        **found,
    }


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


def same_key(found: dict) -> str:
    names = ("data", "fraction", "method", "setting", "seed", "settings")
    return json.dumps({name: found[name] for name in names}, sort_keys=True)


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
        base = {r["seed"]: r for r in group if r["method"] == "none"}
        tables[name] = {}
        for method in METHODS:
            setting = chosen_setting(group, method)
            mine = {r["seed"]: r for r in group if r["method"] == method and r["setting"] == setting}
            if not mine:
                continue
            row = tables[name][method] = {"setting": setting, "seeds": sorted(mine)}
            for part in ("all", "head", "tail", "unseen"):
                row[part] = {"pairs": next(iter(mine.values()))["test"][part]["pairs"]}
                for metric in ("recall@10", "recall@50", "map@10"):
                    row[part][metric] = spread([r["test"][part][metric] for r in mine.values()])
                    gains = [mine[s]["test"][part][metric] - base[s]["test"][part][metric] for s in mine if s in base]
                    if method != "none" and gains:
                        row[part][metric]["gain"] = spread(gains)
    return tables


def print_table(tables: dict) -> None:
    for name, rows in tables.items():
        print(f"\n{name}: test recall, mean ± deviation over seeds (gain over no SSL)")
        for method, row in rows.items():
            cells = []
            for part in ("all", "head", "tail", "unseen"):
                for metric in ("recall@10", "recall@50"):
                    value = row[part][metric]
                    gain = f" ({value['gain']['mean']:+.4f})" if "gain" in value else ""
                    cells.append(f"{part} {metric[7:]}: {value['mean']:.4f} ± {value['std'] or 0:.4f}{gain}")
            print(f"  {method} {row['setting']} seeds {row['seeds']}\n    " + "\n    ".join(cells))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="+", choices=SETTINGS, default=list(SETTINGS))
    parser.add_argument("--fraction", type=float, nargs="+", default=[1.0])
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--work", type=Path, default=Path("data/benchmark_ssl"))
    parser.add_argument("--threads", type=int, default=None, help="of TensorFlow; with two processes, 1 each")
    arguments = parser.parse_args()
    limit_threads(arguments.threads)
    records = RunRecords(RESULTS, same_key, summarise)

    def do(data, fraction, method, setting, seed) -> None:
        if records.find(key_of(data, fraction, method, setting, seed)) is None:
            done = run(data, fraction, method, setting, seed, arguments.work / data)
            records.add(done)
            short = {part: round(done["test"][part]["recall@50"], 4) for part in ("all", "head", "tail", "unseen")}
            print(f"{data} {fraction:g} {method} {setting} seed {seed}: {short}, {done['seconds']} s", flush=True)

    for data in arguments.data:
        for fraction in arguments.fraction:
            for method in arguments.methods:
                for setting in settings_tried(data, method):
                    do(data, fraction, method, setting, arguments.seeds[0])
                group = [
                    r
                    for r in records.load()
                    if (r["data"], r["fraction"], r["settings"]) == (data, fraction, settings_of(data))
                ]
                for seed in arguments.seeds[1:]:
                    do(data, fraction, method, chosen_setting(group, method), seed)
    print_table(summarise(records.load()))


if __name__ == "__main__":
    main()

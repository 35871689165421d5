"""What rankers gain and lose by ids among their features, and what regularisation makes of it.

Rankers on the two logs that have ids, split by time: `movielens_1m` (user and item) and `simulated` (user, item, and
the tokens of titles, most of them rare). Each setting of the regularisation is trained with and without the ids on
`train`, stopped on `eval` and scored on `test`. What ids add is the difference of two test AUCs on the same rows, with
an interval by user: to the unregularised model without them. `--shards` takes some of the eight shards, which part the
users.
"""

from __future__ import annotations

import json
from pathlib import Path

import clickmill as cm
from benchmarks.preparation import CONFIGS, QUALITY, encode_by_time, of_training, quality
from benchmarks.records import Sweep, show, spread

SIMULATION = {"impressions": 300_000, "seed": 7}
SHARDS = 8
KINDS = ("autoint", "aw_moe")
DATA = {
    "movielens_1m": {
        "spec": "features_movielens_1m_time.yaml",
        "ids": ["user_id", "item_id"],
        "autoint": {"attention_dropout": 0.1, "embedding_dropout": 0.1},
        "training": {"epochs": 10, "patience": 2},
    },
    "simulated": {
        "spec": "features_simulated.yaml",
        "ids": ["user_id", "item_id", "title"],
        "autoint": {"variant": "reference", "history": {"short": "target_attention", "long": "none"}},
        "aw_moe": {
            "interacting_layers": 1,
            "expert_units": [],
            "mode": "search",
            "query_features": ["age_band", "city", "device", "hour"],
            "gate_normalisation": "count",
            "contrastive": {"weight": 0.01, "mask_rate": 0.3},
            "history": {"short": "target_attention", "long": "none"},
        },
        "training": {"epochs": 8, "patience": 2, "optimizer": {"learning_rate": 2e-3}},
    },
}
#: What is laid over the training's configuration.
SETTINGS: dict[str, dict] = {
    "none": {},
    **{
        f"l2_{weight}_{power}": {"regularization": {"embedding_l2": weight, "frequency_power": power}}
        for power in (0.0, 0.5, 1.0, 2.0)
        for weight in (0.01, 0.1, 1.0, 3.0, 10.0, 30.0)
    },
    # As tfx_config/simulated.yaml trains.
    "cosine": {"epochs": 5, "patience": 3, "optimizer": {"schedule": "cosine"}},
    "cosine_l2_3.0_2.0": {
        "epochs": 5,
        "patience": 3,
        "optimizer": {"schedule": "cosine"},
        "regularization": {"embedding_l2": 3.0, "frequency_power": 2.0},
    },
    "plateau": {"optimizer": {"schedule": "plateau"}},
    "averaged": {"regularization": {"averaging": 0.99}},
    "l2_1.0_1.0_averaged": {"regularization": {"embedding_l2": 1.0, "frequency_power": 1.0, "averaging": 0.99}},
    "l2_10.0_1.0_averaged": {"regularization": {"embedding_l2": 10.0, "frequency_power": 1.0, "averaging": 0.99}},
    "decay": {"regularization": {"weight_decay": 0.01}},
}
OPTIONS = {
    "data": (list(DATA), "logs", DATA),
    "kind": ("autoint", "of model; aw_moe on `simulated` alone", KINDS),
    "settings": (list(SETTINGS), "of the regularisation", SETTINGS),
    "ids": (["with", "without"], "as features", ("with", "without")),
    "seeds": ([1], "of each"),
    "shards": (SHARDS, "of eight"),
}


def settings(data: str, kind: str, setting: str, ids: str, seed: int, shards: int) -> dict:
    """What makes a run: the key of its record."""
    training = dict(DATA[data]["training"])
    training["regularization"] = {"embedding_l2": 0.0, "frequency_power": 0.0}
    for section, values in SETTINGS[setting].items():
        training[section] = {**training.get(section, {}), **values} if isinstance(values, dict) else values
    excluded = DATA[data]["ids"] if ids == "without" else []
    model = {**DATA[data][kind], "exclude_features": excluded}
    return {
        "data": data,
        "kind": kind,
        "setting": setting,
        "ids": ids,
        "seed": seed,
        "shards": shards,
        "model": model,
        "training": training,
    }


def spec_of(data: str):
    """The features of a log, ids among them."""
    from features.spec import FeatureSpec

    spec = cm.load_spec(CONFIGS / DATA[data]["spec"])
    if "user_id" in {feature.name for feature in spec.features}:
        return spec
    user_id = {"name": "user_id", "table": "users", "vocabulary": {"min_count": 5, "oov_buckets": 8}}
    values = spec.model_dump(mode="json")
    return FeatureSpec.model_validate({**values, "features": [user_id, *values["features"]]})


def first_shards(encoded: Path, count: int) -> Path:
    """The first shards of encoded examples, as links."""
    if count == SHARDS:
        return encoded
    part = encoded.with_name(f"encoded-{count}")
    for source in (path for path in encoded.rglob("*") if path.is_file()):
        target = part / source.relative_to(encoded)
        if not source.parent.name.startswith("Split") or int(source.name.split("-")[1]) < count:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.unlink(missing_ok=True)
            target.hardlink_to(source)
    return part


def measure(wanted: dict, work: Path) -> dict:
    """Trains one setting and returns its figures; its test scores are kept beside its checkpoints."""
    import numpy as np

    from models.inputs.input_pipeline import make_dataset
    from models.training.loop import predict

    data = wanted["data"]
    examples, encoding_dir = encode_by_time(
        work / data, SIMULATION if data == "simulated" else None, spec_of(data), num_shards=SHARDS
    )
    examples = first_shards(examples, wanted["shards"])
    encoding = cm.FeatureEncoding.load(encoding_dir)
    config_class, model_class = {"autoint": (cm.AutoIntConfig, cm.AutoInt), "aw_moe": (cm.AwMoeConfig, cm.AwMoe)}[
        wanted["kind"]
    ]
    config = config_class.model_validate(wanted["model"])
    training = cm.TrainingConfig.model_validate({**wanted["training"], "seed": wanted["seed"]})
    histories = {"histories": config.history is not None, "long_history": False}
    directory = scores_folder(wanted, work)
    model, history = cm.train(
        lambda: model_class(encoding, config),
        encoding,
        examples,
        training,
        directory,
        fingerprint=json.dumps(wanted),
        **histories,
    )
    found = {**of_training(history), "val_log_loss": [epoch.val_log_loss for epoch in history.epochs]}
    for split in ("eval", "test"):
        labels, logits = predict(model, make_dataset(examples, split, encoding, training.input, **histories))
        found[split] = quality(labels, logits)
        np.savez(directory / f"{split}.npz", labels=labels, logits=logits)
    return found


def gain(wanted: dict, work: Path) -> list[float] | None:
    """Test AUC of a run above that of the unregularised model of its seed without ids: value, low and high."""
    import numpy as np

    from evaluation.bootstrap import MetricStatistics, bootstrap, ones
    from evaluation.metrics.rows import ScoredRows

    schedule = "cosine" if wanted["setting"].startswith("cosine") else "none"
    base = settings(wanted["data"], wanted["kind"], schedule, "without", wanted["seed"], wanted["shards"])
    files = {name: scores_folder(each, work) / "test.npz" for name, each in (("run", wanted), ("base", base))}
    if wanted == base or not all(path.exists() for path in files.values()):
        return None
    users = test_users(work / wanted["data"] / "raw" / "examples", wanted["shards"])
    statistics = {}
    for name, path in files.items():
        found = np.load(path)
        scores = 1.0 / (1.0 + np.exp(-found["logits"].astype(np.float64)))
        statistics[name] = MetricStatistics(ScoredRows(found["labels"], scores, users, np.arange(len(users))), ["auc"])
    count = int(users.max()) + 1
    drawn = bootstrap(statistics, count, replicates=400)
    value = float(statistics["run"](ones(count))[0] - statistics["base"](ones(count))[0])
    low, high = np.quantile(drawn["run"][:, 0] - drawn["base"][:, 0], [0.025, 0.975])
    return [value, float(low), float(high)]


def test_users(raw: Path, shards: int):
    """A code of the user of each test row, in the order of the examples."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    paths = sorted((raw / "Split-test").glob("*.parquet"))[:shards]
    table = pa.concat_tables([pq.read_table(path, columns=["user_id", "item_id"]) for path in paths])
    sizes = np.diff(table["item_id"].combine_chunks().offsets.to_numpy())
    return np.repeat(np.unique(table["user_id"].to_numpy(), return_inverse=True)[1], sizes)


def scores_folder(wanted: dict, work: Path) -> Path:
    """Where a run keeps its checkpoints and its scores."""
    name = "-".join(str(wanted[key]) for key in ("kind", "setting", "ids", "seed", "shards"))
    return work / wanted["data"] / "training" / name


def run(options) -> dict:
    """Trains what is not finished."""
    sweep = Sweep("id_memorisation")
    for seed in options.seeds:
        for data in options.data:
            for setting in options.settings:
                for ids in options.ids:
                    wanted = settings(data, options.kind, setting, ids, seed, options.shards)
                    sweep.do(wanted, lambda wanted: measure(wanted, options.work))
    return {"summary": summarise(sweep, options.work)}


def summarise(sweep: Sweep, work: Path) -> dict:
    """By log, model and share of the log, then setting and ids: figures over seeds, best epochs, each seed's gain."""
    table: dict = {}
    for data in DATA:
        for kind in (kind for kind in KINDS if kind in DATA[data]):
            for shards in range(1, SHARDS + 1):
                of = f"{data}, {kind}" + ("" if shards == SHARDS else f", {shards} of {SHARDS} shards")
                for setting in SETTINGS:
                    for ids in ("with", "without"):
                        row = _row(sweep, work, data, kind, setting, ids, shards)
                        if row:
                            table.setdefault(of, {}).setdefault(setting, {})[ids] = row
    return table


def _row(sweep: Sweep, work: Path, data: str, kind: str, setting: str, ids: str, shards: int) -> dict | None:
    def wanted(seed: int) -> dict:
        return settings(data, kind, setting, ids, seed, shards)

    # Runs of an earlier configuration are kept, but means are of one.
    mine = [run for run in sweep.runs if run == sweep.find(wanted(run["seed"]))]
    if not mine:
        return None
    found = {f"{split}_{m}": spread([r[split][m] for r in mine]) for split in ("eval", "test") for m in QUALITY}
    gains = [gain(wanted(run["seed"]), work) for run in mine]
    return {"seeds": [r["seed"] for r in mine], "best_epochs": [r["best_epoch"] for r in mine], **found, "gains": gains}


def figures(found: dict) -> list[tuple[str, str]]:
    table = []
    for of, by_setting in found["summary"].items():
        for setting, by_ids in by_setting.items():
            for ids, row in by_ids.items():
                best = "/".join(str(epoch) for epoch in row["best_epochs"])
                gained = ["{:+.4f} [{:+.4f}, {:+.4f}]".format(*each) for each in row["gains"] if each]
                added = f"; over no ids: {', '.join(gained)}" if gained else ""
                what = f"{ids.capitalize()} ids, {of}, `{setting}`, {len(row['seeds'])} seed(s)"
                table.append((what, f"test AUC {show(row['test_auc'])}, best epoch {best}{added}"))
    return table

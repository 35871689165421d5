"""What competing interests add to coarse ranking: purity, redundancy, and recall of the fine ranker's top items.

`planted`: users with four of twelve clusters as interests (planted_interests.py), K = 4. `simulated`: a log
of the simulator. There, with each seed, a two-tower and a fine ranker (AutoInt) are trained; CoarseExamples adds
retrieved unshown items and the fine ranker's logits; each candidate is trained on them, stopped on `eval`, and judged
on `test`: AUC and PCOC of the impressions, and recall@n2 of the fine ranker's ten best of all items among the coarse
ranker's n2 best, by soft and by max scores. Candidates have the same number of parameters (to 1 %), examples and steps.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

import clickmill as cm
from benchmarks.candidates.planted_interests import PlantedInterests, purity, train_on_planted
from benchmarks.preparation import BY_TIME, CONFIGS, ingest_and_encode, log_tables, of_training, quality
from benchmarks.records import Sweep, show, spread, spreads

SIMULATION = {"impressions": 60_000, "num_items": 2_000, "num_users": 200, "activity_exponent": 0.5, "seed": 5}
EXCLUDED = ["item_id", "title"]
CANDIDATES = {
    "hcn": {},
    "hcn_one_layer": {"num_layers": 1},
    "hcn_five_layers": {"num_layers": 5},
    "hcn_not_diverse": {"diversity_weight": 0.0},
    "hcn_learnt_routing": {"routing": "learnt"},
    "comirec_sa": {"extractor": "comirec_sa", "windows": "joined", "diversity_weight": 0.0},
    "comirec_sa_diverse": {"extractor": "comirec_sa", "windows": "joined"},
    "one_vector": {"extractor": "one_vector", "windows": "joined"},
    "hcn_no_teacher": {"distillation": 0.0},
}
FINE = {"variant": "reference", "num_layers": 2, "head_dim": 16, "exclude_features": EXCLUDED}
FINE["history"] = {"short": "target_attention", "long": "sdim", "signature_source": "end_to_end"}
MODEL = {"share_layers": True, "distillation": 1.0}
TRAINING = {"simulated": {"epochs": 3, "learning_rate": 2e-3}, "planted": {"steps": 300, "learning_rate": 3e-3}}
TOP, CUT_OFFS, JUDGED_REQUESTS = 10, (50, 100, 200), 150
SCORINGS = ("soft", "max")


OPTIONS = {
    "data": (["planted", "simulated"], "logs", TRAINING),
    "candidates": (list(CANDIDATES), "to train", CANDIDATES),
    "seeds": ([1, 2, 3], "of each"),
}


def settings(data: str, candidate: str, seed: int) -> dict:
    """What makes a run: the key of its record."""
    model = {**MODEL, **CANDIDATES[candidate]}
    if data == "planted":
        model |= {"distillation": 0.0, "dim": 32, "hidden_units": [32]}
    else:
        model |= {"exclude_features": EXCLUDED}
    return {
        "data": data,
        "candidate": candidate,
        "seed": seed,
        "simulation": SIMULATION if data == "simulated" else None,
        "model": model,
        "training": TRAINING[data],
    }


def matched(encoding, model: dict):
    """The config; a baseline's `attention_units` are those at which it has as many parameters as HCN."""
    config = cm.HcnConfig.model_validate(model)
    if config.extractor == "hierarchical":
        return config
    hierarchical = {**model, "extractor": "hierarchical", "windows": "apart"}
    wanted = parameters(encoding, cm.HcnConfig.model_validate(hierarchical))
    few = config.model_copy(update={"attention_units": 1})
    each = config.dim + (config.num_interests if config.extractor == "comirec_sa" else 1)
    return config.model_copy(update={"attention_units": 1 + round((wanted - parameters(encoding, few)) / each)})


def parameters(encoding, config) -> int:
    """Trainable parameters of a model of this config."""
    model, history = cm.Hcn(encoding, config), {}
    for window in ("short", "long"):
        history[window] = {name: np.zeros((1, 1), np.int32) for name in model.history_features}
        history[f"{window}_length"] = np.ones(1, np.int32)
    single = [feature for feature in encoding.spec.features if not feature.multi_valued]
    features = {f.name: np.zeros(1, np.int32 if f.has_ids else np.float32) for f in single}
    model({"features": features, "request_index": np.zeros(1, np.int32), "history": history})
    return sum(int(np.prod(variable.shape)) for variable in model.trainable_variables)


def interest_figures(model, history: dict, clusters) -> dict:
    """Purity of the centres of both windows (of clusters by feature ids), cosines, and layers' steps."""
    import tensorflow as tf

    from models.hcn.interest_scoring import pairwise_cosines

    figures = {}
    for window in ("short", "long"):
        assigned = model.extract(history, window).assignment.numpy().argmax(axis=1)
        of = clusters(window)[:, -assigned.shape[1] :]
        shuffled = np.random.default_rng(0).permuted(assigned, axis=1)
        figures[window] = {"purity": purity(of, assigned), "purity_of_chance": purity(of, shuffled)}
        if model.config.extractor == "hierarchical":
            steps = model.trace(history, window)
            moved = [tf.norm(b.centres - a.centres, axis=-1) for a, b in zip(steps, steps[1:], strict=False)]
            figures[window]["steps"] = [round(float(tf.reduce_mean(step)), 2) for step in moved]
    interests, valid = model.history_interests(history)
    cosines, pairs = pairwise_cosines(interests, valid)
    figures["cosine"] = float(tf.math.divide_no_nan(tf.reduce_sum(cosines * pairs), tf.reduce_sum(pairs)))
    figures["valid_interests"] = float(tf.reduce_mean(tf.reduce_sum(tf.cast(valid, tf.float32), axis=1)))
    return figures


def run_planted(wanted: dict) -> dict:
    """Trains one candidate on planted interests and returns its figures."""
    import tensorflow as tf

    world, training = PlantedInterests(), wanted["training"]
    config = matched(world.encoding, wanted["model"])
    tf.keras.utils.set_random_seed(wanted["seed"])
    model = cm.Hcn(world.encoding, config)
    train_on_planted(model, world, training["steps"], wanted["seed"], training["learning_rate"])
    batch = world.batch(np.random.default_rng(10_000 + wanted["seed"]), 500)
    figures = interest_figures(
        model, batch["history"], lambda window: world.cluster_of(batch["history"][window]["item_id"])
    )
    return {
        "parameters": sum(int(np.prod(v.shape)) for v in model.trainable_variables),
        "interests": figures,
        "test": {how: quality(batch["label"], model(batch, scoring=how).numpy()) for how in SCORINGS},
    }


def prepare(work: Path, seed: int):
    """A log, and with this seed a two-tower, a fine ranker and their coarse examples; made once.

    Returns:
      The encoding, the directories of the coarse examples and of the fine ranker's logits for the judged requests.
    """
    from features.examples.config import CandidateSetConfig
    from models.training.retrieval_stage import train_two_tower
    from serving.export.two_tower import export_two_tower
    from serving.offline.candidate_examples import make_coarse_examples

    config = {"tables": log_tables(work, SIMULATION), "split": BY_TIME, "num_shards": 4}
    ingest, spec = cm.IngestConfig.model_validate(config), cm.load_spec(CONFIGS / "features_simulated.yaml")
    raw, encoded, encoding_dir = ingest_and_encode(ingest, spec, work)
    encoding, mine = cm.FeatureEncoding.load(encoding_dir), work / f"seed-{seed}"
    ideal = mine / "fine_logits.npy"
    if not ideal.exists():
        retrieval = {"epochs": 3, "seed": seed, "input": {"batch_size": 512}}
        training = cm.TrainingConfig(**retrieval, optimizer={"name": "adagrad", "learning_rate": 0.03})
        two_tower, _ = train_two_tower(encoding, encoded, cm.TwoTowerConfig(), training, mine / "two_tower_training")
        export_two_tower(two_tower, encoding, mine / "two_tower", overwrite=True)
        config = cm.AutoIntConfig.model_validate(FINE)
        training = cm.TrainingConfig(epochs=4, seed=seed, optimizer={"learning_rate": 2e-3, "schedule": "cosine"})
        directory = mine / "fine_training"
        fine, _ = cm.train(lambda: cm.AutoInt(encoding, config), encoding, encoded, training, directory, histories=True)
        cm.export_ranker(fine, encoding, mine / "fine", overwrite=True)
        sets, found = CandidateSetConfig(retrieve=1000, sample=8, seed=seed), mine / "two_tower"
        log, out = work / "raw" / "behaviors", mine / "examples"
        made = make_coarse_examples(raw, log, encoded, found, out, sets, teacher=mine / "fine")
        print("coarse examples", made, flush=True)
        np.save(ideal, fine_logits(fine, encoding, encoded))
    return encoding, mine / "examples", np.load(ideal)


def judged_batches(encoding, examples: Path):
    """Batches of a few requests of `test`, evenly spread over the split, `JUDGED_REQUESTS` in all."""
    from models.inputs.input_pipeline import InputConfig, make_dataset

    batches = list(make_dataset(examples, "test", encoding, InputConfig(batch_size=64), histories=True, shuffle=True))
    taken, requests = [], 0
    for batch in batches:
        if requests >= JUDGED_REQUESTS:
            break
        taken.append(batch)
        requests += len(batch["history"]["short_length"])
    return taken


def fine_logits(fine, encoding, examples: Path) -> np.ndarray:
    """The fine ranker's logits of all items for the judged requests, [Q, n]."""
    import tensorflow as tf

    from models.inputs.item_corpus import ItemCorpus

    corpus, found = ItemCorpus.load(examples, encoding), []
    items = len(corpus)
    request_features = [f.name for f in encoding.spec.of_scope("request")]

    @tf.function(autograph=False, reduce_retracing=True)
    def score(features, history):
        requests = tf.shape(history["short_length"])[0]
        every = tf.tile(tf.range(items), [requests])
        batch = {
            "features": {**features, **corpus.gather(every)},
            "request_index": tf.repeat(tf.range(requests), items),
            "item_row": every + 1,
            "history": history,
        }
        return tf.reshape(fine(batch, training=False), [requests, items])

    for batch in judged_batches(encoding, examples):
        found.append(score({name: batch["features"][name] for name in request_features}, batch["history"]).numpy())
    return np.concatenate(found)


def recall(ideal: np.ndarray, scores: np.ndarray, cut_off: int) -> float:
    """Of each request's `TOP` best items by `ideal` [Q, n], the share among the `cut_off` best by `scores` [Q, n]."""
    best = np.argpartition(-ideal, TOP, axis=1)[:, :TOP]
    border = -np.partition(-scores, cut_off - 1, axis=1)[:, cut_off - 1, np.newaxis]
    return float((np.take_along_axis(scores, best, axis=1) >= border).mean())


def run_simulated(wanted: dict, work: Path) -> dict:
    """Trains one candidate on the simulated log with one seed and returns its record."""
    import pyarrow.parquet as pq

    from features.items.catalogue import item_rows, read_catalogue
    from models.inputs.input_pipeline import InputConfig, make_dataset
    from models.inputs.item_corpus import ItemCorpus
    from models.training.coarse_stage import train_hcn

    encoding, examples, ideal = prepare(work, wanted["seed"])
    config, training = matched(encoding, wanted["model"]), wanted["training"]
    optimizer = {"learning_rate": training["learning_rate"], "schedule": "cosine"}
    asked = {"epochs": training["epochs"], "seed": wanted["seed"], "optimizer": optimizer}
    model, history = train_hcn(
        encoding,
        examples,
        config,
        cm.TrainingConfig.model_validate(asked),
        work / "training" / f"{wanted['candidate']}-{wanted['seed']}",
        fingerprint=json.dumps(wanted),
    )
    corpus = ItemCorpus.load(examples, encoding)
    table, batches = model.embed_corpus(corpus), judged_batches(encoding, examples)
    interests = [model.user_interests(batch) for batch in batches]
    scores = {how: np.concatenate([model.logits_of(*u, table, how).numpy() for u in interests]) for how in SCORINGS}
    found = {how: {f"recall@{n}": recall(ideal, scores[how], n) for n in CUT_OFFS} for how in SCORINGS}
    ranks = [scores[how].argsort(axis=1).argsort(axis=1) for how in SCORINGS]
    test = list(make_dataset(examples, "test", encoding, InputConfig(), histories=True))
    labels = np.concatenate([batch["label"] for batch in test])
    for how in SCORINGS:
        found[how] |= quality(labels, np.concatenate([model(batch, scoring=how) for batch in test]))
    planted = pq.read_table(work / "log" / "planted" / "items.parquet")
    ids = read_catalogue(examples)["_item_id"]
    rows = item_rows(ids, planted["item_id"].combine_chunks())
    cluster = np.full(len(ids) + 1, -1)
    cluster[rows] = planted["cluster"].to_numpy()
    cluster[0] = -1  # planted items that the catalogue lacks have row 0, as padding has
    figures = [
        interest_figures(model, b["history"], lambda window, b=b: cluster[b["history"][window]["item_row"].numpy()])
        for b in batches[-20:]
    ]
    return {
        **of_training(history),
        "interests": {
            "purity_short": float(np.mean([f["short"]["purity"] for f in figures])),
            "purity_of_chance": float(np.mean([f["short"]["purity_of_chance"] for f in figures])),
            "cosine": float(np.mean([f["cosine"] for f in figures])),
            "valid_interests": float(np.mean([f["valid_interests"] for f in figures])),
        },
        "rank_correlation_soft_max": float(np.mean([np.corrcoef(a, b)[0, 1] for a, b in zip(*ranks, strict=True)])),
        "test": found,
    }


def summarise(runs: list[dict]) -> dict:
    """Means and standard deviations over seeds, by data and candidate, and differences to HCN seed by seed."""
    table: dict = {}
    for data in ("planted", "simulated"):
        for candidate in CANDIDATES:
            mine = sorted(
                (r for r in runs if r["data"] == data and r["candidate"] == candidate), key=lambda r: r["seed"]
            )
            if not mine:
                continue
            row = {"seeds": [r["seed"] for r in mine], "parameters": mine[0]["parameters"]}
            row["interests"] = spreads([r["interests"] for r in mine])
            row["test"] = {how: spreads([r["test"][how] for r in mine]) for how in SCORINGS}
            hcn = {r["seed"]: r for r in runs if r["data"] == data and r["candidate"] == "hcn"}
            both = [r for r in mine if r["seed"] in hcn]
            metric = "recall@100" if data == "simulated" else "auc"
            if both and candidate != "hcn":
                gaps = [hcn[r["seed"]]["test"]["soft"][metric] - r["test"]["soft"][metric] for r in both]
                row[f"hcn_over_it_{metric}"] = spread(gaps)
            table.setdefault(data, {})[candidate] = row
    return table


def run(options) -> dict:
    """Trains what is not finished."""
    sweep = Sweep("hcn")

    def measure(wanted: dict) -> dict:
        return run_planted(wanted) if wanted["data"] == "planted" else run_simulated(wanted, options.work)

    for data in options.data:
        for seed in options.seeds:
            for candidate in options.candidates:
                if (data, candidate) != ("planted", "hcn_no_teacher"):
                    sweep.do(settings(data, candidate, seed), measure)
    return {"summary": summarise(sweep.runs)}


def figures(found: dict) -> list[tuple[str, str]]:
    table = []
    for data, candidates in found["summary"].items():
        for candidate, row in candidates.items():
            if len(row["seeds"]) < 2:
                continue
            interests = row["interests"]
            if data == "planted":
                figure = f"purity {show(interests['short']['purity'])} (short window)"
            else:
                figure = f"recall@100 of the fine ranker's ten best {show(row['test']['soft']['recall@100'])}"
            if interests["valid_interests"][0] > 1:
                figure += f", cosine of interests {show(interests['cosine'])}"
            table.append((f"coarse ranking, {data} log: `{candidate}`, {len(row['seeds'])} seed(s)", figure))
    return table

"""What several interests add where a whole catalogue is to be ordered: HCN beside one vector and ComiRec-SA.

The log of 100,000 items, AutoInt and its teacher lists are those of `cascade_models`. Each candidate learns
from the lists alone, stopped on those of `eval`, and is judged on requests of `test`: recall@n2, the share of AutoInt's
ten best items of the catalogue among the candidate's n2 best of the catalogue. Candidates have the same number of
parameters (to 1 %), lists and steps.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa

import clickmill as cm
from benchmarks.candidates.cascade import scored_requests
from benchmarks.candidates.cascade_models import EXCLUDED, LISTS, SIMULATION, WORK, lists, prepare
from benchmarks.candidates.hcn import CANDIDATES, matched
from benchmarks.preparation import of_training
from benchmarks.records import Sweep, show, spread

COMPARED = ("hcn", "one_vector", "comirec_sa")
MODEL = {"share_layers": True, "exclude_features": EXCLUDED}
TRAINING = {"epochs": 12, "patience": 12, "optimizer": {"learning_rate": 2e-3, "schedule": "cosine"}}
JUDGED_REQUESTS, CUT_OFFS = 100, (50, 100, 200, 500)
METRIC = "recall@200"
OPTIONS = {
    "candidates": (list(COMPARED), "to train", COMPARED),
    "seeds": ([1, 2, 3], "of each"),
    "work": (WORK, "folder of the models of the cascade"),
}


def settings(candidate: str, seed: int) -> dict:
    """What makes a run: the key of its record."""
    return {
        "candidate": candidate,
        "seed": seed,
        "simulation": SIMULATION,
        "lists": LISTS,
        "model": {**MODEL, **CANDIDATES[candidate]},
        "training": TRAINING,
    }


def judged_batch(work: Path, encoding) -> dict:
    """One batch of the requests of `scored_requests`, in its order."""
    from features import storage
    from features.arrow import read_parquet, write_parquet
    from features.examples.shards import draw_requests, list_shards
    from models.inputs.input_pipeline import InputConfig, make_dataset

    encoded, judged = prepare(work)[1], work / "judged"
    for name in ("behaviors", "catalogue"):
        storage.copy_tree(encoded / name, judged / name)
    for path, rows in draw_requests(list_shards(encoded, "test"), JUDGED_REQUESTS, 0):
        write_parquet(read_parquet(path).take(pa.array(rows)), judged / "Split-test" / storage.name(path))
    everything = InputConfig(batch_size=10**9, buffer_shards=10**6)
    return next(iter(make_dataset(judged, "test", encoding, everything, histories=True)))


def measure(wanted: dict, work: Path) -> dict:
    """Trains one candidate with one seed and returns its figures."""
    from models.inputs.item_corpus import ItemCorpus
    from models.training.list_distillation import train_by_lists

    encoding, made = cm.FeatureEncoding.load(prepare(work)[2]), lists(work)
    config = matched(encoding, wanted["model"])
    model, history = train_by_lists(
        lambda: cm.Hcn(encoding, config),
        encoding,
        made,
        cm.TrainingConfig.model_validate({**wanted["training"], "seed": wanted["seed"]}),
        work / "training" / f"hcn_catalogue-{wanted['candidate']}-{wanted['seed']}",
        fingerprint=json.dumps(wanted),
    )
    items, batch = model.embed_corpus(ItemCorpus.load(made, encoding)), judged_batch(work, encoding)
    scores = model.logits_of(*model.user_interests(batch), items).numpy()
    ideal = np.stack(scored_requests(work, JUDGED_REQUESTS)[0]["ideal"].to_pylist())
    wanted_scores = np.take_along_axis(scores, ideal, axis=1)
    border = -np.sort(-scores, axis=1)
    return {
        **of_training(history),
        "eval_divergence": min(epoch.val_log_loss for epoch in history.epochs),
        "test": {f"recall@{n}": float((wanted_scores >= border[:, n - 1, np.newaxis]).mean()) for n in CUT_OFFS},
    }


def summarise(runs: list[dict]) -> dict:
    """Means and deviations over seeds, and what HCN gains over each, seed by seed."""
    hcn = {made["seed"]: made for made in runs if made["candidate"] == "hcn"}
    table = {}
    for candidate in COMPARED:
        mine = sorted((made for made in runs if made["candidate"] == candidate), key=lambda made: made["seed"])
        if not mine:
            continue
        row = {"seeds": [made["seed"] for made in mine], "parameters": mine[0]["parameters"]}
        row["eval_divergence"] = spread([made["eval_divergence"] for made in mine])
        row |= {f"recall@{n}": spread([made["test"][f"recall@{n}"] for made in mine]) for n in CUT_OFFS}
        pairs = [(hcn[made["seed"]], made) for made in mine if made["seed"] in hcn]
        row[f"{METRIC}_by_seed"] = [made["test"][METRIC] for made in mine]
        if candidate != "hcn" and pairs:
            row["hcn_over_it"] = spread([ours["test"][METRIC] - its["test"][METRIC] for ours, its in pairs])
        table[candidate] = row
    return table


def run(options) -> dict:
    """Trains what is not finished."""
    sweep = Sweep("hcn_catalogue")
    for seed in options.seeds:
        for candidate in options.candidates:
            sweep.do(settings(candidate, seed), lambda wanted: measure(wanted, options.work))
    return {"summary": summarise(sweep.runs)}


def figures(found: dict) -> list[tuple[str, str]]:
    table = []
    for candidate, row in found["summary"].items():
        figure = f"recall@200 of the fine ranker's ten best of 100,000 items {show(row['recall@200'])}"
        if "hcn_over_it" in row:
            figure += f"; HCN is above by {show(row['hcn_over_it'])}"
        table.append((f"coarse ranking, taught by lists: `{candidate}`, {len(row['seeds'])} seed(s)", figure))
    return table

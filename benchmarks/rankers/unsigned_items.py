"""What a ranker makes of candidates that have no signature, and of signatures made from features alone.

AutoInt with the short history by target attention and the long one by SDIM over the two-tower's signatures, trained on
`train` with candidates losing their signatures at each of the rates (0: never, as it was before), stopped on `eval`.
`test` is then scored three times: `signed`, as the log has it; `unsigned`, no candidate having a signature;
`by_features`, every candidate under an id that nobody knows, signed by `clickmill bse sign` from its features. In the
last two the ranker does not know the `item_id` either. AUC and PCOC by how many behaviours the user has: the long
window holds those before the last 50. Of the two-tower there are two: `features` does not read `item_id`, `with_id`
does.
"""

from __future__ import annotations

import json
from pathlib import Path

import clickmill as cm
from benchmarks.preparation import CONFIGS, encode_by_time, of_training, quality
from benchmarks.rankers.long_interest import DATA, MODEL, SIMULATION
from benchmarks.records import Sweep, show, spread

RATES = (0.0, 0.1, 0.2)
TOWERS = {"features": {"exclude_features": ["item_id"]}, "with_id": {}}
SCENARIOS = ("signed", "unsigned", "by_features")
#: Behaviours of the user before the request.
LENGTHS = {"up to 50": (0, 50), "51 to 500": (51, 500), "over 500": (501, 1 << 30)}
OPTIONS = {
    "data": (["simulated"], "logs", DATA),
    "towers": (list(TOWERS), "two-towers", TOWERS),
    "rates": ([str(rate) for rate in RATES], "at which candidates lose their signatures in training"),
    "seeds": ([1, 2, 3], "of each"),
    "impressions": (SIMULATION["impressions"], "of the simulated log"),
}


def settings(data: str, tower: str, rate: float, seed: int, impressions: int) -> dict:
    """What makes a run: the key of its record."""
    chosen = DATA[data]
    history = {"short": "target_attention", "long": "sdim", "signature_dropout": rate}
    return {
        "data": data,
        "tower": tower,
        "rate": rate,
        "seed": seed,
        "simulation": {**SIMULATION, "impressions": impressions} if data == "simulated" else None,
        "two_tower": {**TOWERS[tower], "epochs": chosen["two_tower"]["epochs"]},
        "model": {**MODEL, **chosen["model"], "history": history},
        "training": {
            "epochs": chosen["training"]["epochs"],
            "patience": 2,
            "optimizer": {"learning_rate": chosen["training"]["learning_rate"], "schedule": "cosine"},
        },
    }


def prepare(data: str, wanted: dict, work: Path):
    """Encodes the log once: its spec, the encoded examples and the encoding."""
    spec = cm.load_spec(CONFIGS / DATA[data]["spec"])
    if "long_length" in DATA[data]:
        history = spec.history.model_copy(update={"long_length": DATA[data]["long_length"]})
        spec = spec.model_copy(update={"history": history})
    examples, encoding_dir = encode_by_time(work, wanted["simulation"], spec)
    return examples, cm.FeatureEncoding.load(encoding_dir)


def sign(wanted: dict, work: Path, examples: Path, encoding):
    """Trains the two-tower of a seed once, exports it, signs the catalogue, and signs it again as if all were new.

    Returns:
      The signatures of the catalogue's items, and those of the same items under new ids, in the same order.
    """
    from features.items.signatures import ItemSignatures, sign_items
    from models.inputs.item_corpus import ItemCorpus
    from models.training.retrieval_stage import train_two_tower
    from serving.export.two_tower import export_two_tower
    from serving.user_stores.bse.item_signatures import sign_new_items

    folder = work / f"two_tower-{wanted['tower']}-{wanted['seed']}"
    if not (folder / "done").exists():
        training = {"epochs": wanted["two_tower"]["epochs"], "patience": 2, "seed": wanted["seed"]}
        training |= {"input": {"batch_size": 512}, "optimizer": {"name": "adagrad", "learning_rate": 0.03}}
        config = cm.TwoTowerConfig(**{k: v for k, v in wanted["two_tower"].items() if k != "epochs"})
        training = cm.TrainingConfig.model_validate(training)
        model, _ = train_two_tower(encoding, examples, config, training, folder / "training")
        export_two_tower(model, encoding, folder / "export", overwrite=True)
        ids = ItemCorpus.load(examples, encoding).item_ids
        own = sign_items(ids, model.embed_corpus(with_ids=not model.reads_ids))
        own.save(folder / "signatures")
        sign_new_items(folder / "export", own, renamed(work, ids)).save(folder / "extended")
        (folder / "done").touch()
    own, extended = (ItemSignatures.load(folder / name) for name in ("signatures", "extended"))
    return own, extended.signatures[len(own.item_ids) :]


def renamed(work: Path, ids):
    """The raw catalogue in the order of `ids`, under ids that no log has."""
    import numpy as np
    import pyarrow as pa

    from features.items.catalogue import item_rows, read_catalogue

    items = read_catalogue(work / "raw" / "examples")
    order = np.argsort(item_rows(ids, items["item_id"].combine_chunks()), kind="stable")
    items = items.take(pa.array(order))
    given = items["item_id"].combine_chunks()
    new = pa.array([f"new-{item}" for item in given.to_pylist()])
    if pa.types.is_integer(given.type):
        new = pa.array(np.arange(len(items)) + 1 + max(given.to_pylist()))
    return items.set_column(items.column_names.index("item_id"), "item_id", new)


def scores(model, examples: Path, encoding, config, new_signatures) -> dict:
    """Labels, history lengths and, by scenario, logits of the test split."""
    import numpy as np
    import tensorflow as tf

    from models.inputs.input_pipeline import make_dataset

    table = tf.constant(np.concatenate([np.full((1, new_signatures.shape[1]), -1), new_signatures]), tf.int32)
    # What the encoding makes of an id that it does not know: the first bucket for such, or nothing.
    vocabulary = encoding.spec["item_id"].vocabulary
    unknown = 1 if vocabulary is not None and vocabulary.oov_buckets else 0
    predict = tf.function(lambda batch: model(batch, training=False), autograph=False, reduce_retracing=True)
    found: dict = {name: [] for name in ("label", "length", *SCENARIOS)}
    for batch in make_dataset(examples, "test", encoding, config, histories=True):
        features = {**batch["features"], "item_id": tf.fill(tf.shape(batch["item_row"]), unknown)}
        new = {**batch, "features": features, "item_row": tf.zeros_like(batch["item_row"])}
        given = tf.gather(table, batch["item_row"])
        none = -tf.ones_like(given)
        found["signed"].append(predict({**batch, "item_signature": none}))
        found["unsigned"].append(predict({**new, "item_signature": none}))
        found["by_features"].append(predict({**new, "item_signature": given}))
        length = batch["history"]["short_length"] + batch["history"]["long_length"]
        found["length"].append(tf.gather(length, batch["request_index"]))
        found["label"].append(batch["label"])
    return {name: np.concatenate([np.asarray(part) for part in parts]) for name, parts in found.items()}


def measure(wanted: dict, work: Path) -> dict:
    """Trains one ranker and returns its figures."""
    import numpy as np

    examples, encoding = prepare(wanted["data"], wanted, work)
    signatures, new = sign(wanted, work, examples, encoding)
    config = cm.AutoIntConfig.model_validate(wanted["model"])
    training = cm.TrainingConfig.model_validate({**wanted["training"], "seed": wanted["seed"]})
    name = f"{wanted['tower']}-{wanted['rate']:g}-{wanted['seed']}"
    model, history = cm.train(
        lambda: cm.AutoInt(encoding, config, signatures),
        encoding,
        examples,
        training,
        work / "training" / name,
        fingerprint=json.dumps(wanted),
        histories=True,
    )
    made = scores(model, examples, encoding, training.input, new)
    spans = {"all": (0, 1 << 30), **LENGTHS}
    rows = {span: np.flatnonzero((made["length"] >= a) & (made["length"] <= b)) for span, (a, b) in spans.items()}
    found = {
        scenario: {span: quality(made["label"][at], made[scenario][at]) for span, at in rows.items() if len(at)}
        for scenario in SCENARIOS
    }
    agreement = float((new == signatures.signatures).mean())
    sizes = {span: len(at) for span, at in rows.items()}
    return {**of_training(history), "agreement": agreement, "rows": sizes, "test": found}


def run(options) -> dict:
    """Trains what is not finished."""
    sweep = Sweep("unsigned_items")
    for data in options.data:
        for seed in options.seeds:
            for tower in options.towers:
                for rate in options.rates:
                    wanted = settings(data, tower, float(rate), seed, options.impressions)
                    work = options.work / f"{data}-{options.impressions}"
                    sweep.do(wanted, lambda wanted, work=work: measure(wanted, work))
    of_size = [
        run
        for run in sweep.runs
        if run["simulation"] is None or run["simulation"]["impressions"] == options.impressions
    ]
    return {"summary": summarise(of_size)}


def summarise(runs: list[dict]) -> dict:
    """AUC and PCOC over seeds, by log, tower, rate, scenario and span; and both beside `signed`."""
    table: dict = {}
    for key in sorted({(run["data"], run["tower"], run["rate"]) for run in runs}):
        of = [run for run in runs if (run["data"], run["tower"], run["rate"]) == key]
        row: dict = {"seeds": sorted(run["seed"] for run in of)}
        row["agreement"] = spread([run["agreement"] for run in of])
        for scenario in SCENARIOS:
            for span in of[0]["test"][scenario]:
                values = [run["test"][scenario][span] for run in of]
                signed = [run["test"]["signed"][span] for run in of]
                row.setdefault(scenario, {})[span] = {
                    "auc": spread([value["auc"] for value in values]),
                    "pcoc": spread([value["pcoc"] for value in values]),
                    "auc_less": spread([a["auc"] - b["auc"] for a, b in zip(signed, values, strict=True)]),
                    "pcoc_of_signed": spread([b["pcoc"] / a["pcoc"] for a, b in zip(signed, values, strict=True)]),
                }
        data, tower, rate = key
        table.setdefault(data, {}).setdefault(tower, {})[f"{rate:g}"] = row
    return table


def figures(found: dict) -> list[tuple[str, str]]:
    table = []
    for data, towers in found["summary"].items():
        for tower, rates in towers.items():
            for rate, row in rates.items():
                told = [
                    f"{scenario}: AUC {show(row[scenario]['all']['auc'])}, PCOC {show(row[scenario]['all']['pcoc'])}"
                    for scenario in SCENARIOS
                ]
                what = f"Items without a signature, {data}, two-tower `{tower}`, dropped at {rate}"
                table.append((f"{what}, {len(row['seeds'])} seed(s)", "; ".join(told)))
    return table

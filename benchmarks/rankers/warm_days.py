"""Days of warm starts beside days of cold ones: what is lost in quality, and what is saved in time.

A simulated log by day. On each of the last days a ranker is trained twice: cold, on the whole window before it, and
warm, on the day before it alone, from the weights of the training before (a cold one on the first day). Both are judged
by the same half of the day, which none has seen. Every day is kept as it ends: what was stopped goes on where it was.
"""

from __future__ import annotations

import datetime
import json
import time
from pathlib import Path

import clickmill as cm
from benchmarks.preparation import CONFIGS, quality
from benchmarks.records import Sweep, spread

START = datetime.date(2026, 1, 5)
DAY = datetime.timedelta(days=1)
TABLES = ("impressions", "clicks")
MODEL = {
    "variant": "reference",
    "history": {"short": "target_attention", "long": "none"},
    "exclude_features": ["title"],
}
TRAINING = {"cold": {"epochs": 5, "patience": 2}, "warm": {"epochs": 1, "warm_start": {"optimizer": True}}}
OPTIONS = {
    "impressions": (400_000, "of the whole log"),
    "days": (10, "that are trained on, one after the other"),
    "window": (7, "days that a cold training sees"),
    "seeds": ([1], "of each"),
}


def run(options) -> dict:
    """Trains what is not finished."""
    sweep, first = Sweep("warm_days"), options.window + 1
    shared = {"impressions": options.impressions, "days": options.days, "window": options.window}
    for seed in options.seeds:
        for number in range(options.days):
            for way in ("cold", "warm"):
                wanted = {"way": way, "day": first + number, "seed": seed, **shared}
                sweep.do(wanted, lambda wanted: measure(wanted, options.work))
    runs = [each for each in sweep.runs if all(each[name] == value for name, value in shared.items())]
    return {**shared, "seeds": options.seeds, **{way: summary(runs, way) for way in TRAINING}}


def measure(wanted: dict, work: Path) -> dict:
    """Trains a day one way and returns its figures; its state is kept for the next."""
    from models.inputs.input_pipeline import make_dataset
    from models.training.loop import predict
    from models.warm_start.start import warm_start
    from models.warm_start.training_state import load_state, save_state

    work = work / str(wanted["impressions"])
    # The window of two: the newest day judges, the one before it trains.
    begun = wanted["way"] == "warm" and wanted["day"] > wanted["window"] + 1
    examples, encoding = examples_of(wanted, work, 2 if begun else wanted["window"] + 1)
    config = cm.AutoIntConfig.model_validate(MODEL)
    given = TRAINING["warm" if begun else "cold"]
    training = cm.TrainingConfig.model_validate({**given, "seed": wanted["seed"], "input": {"batch_size": 512}})
    start = None
    if begun:
        state = load_state(state_of(wanted, work, wanted["day"] - 1))

        def start(model):
            warm_start(model, encoding, "autoint", state, training.optimizer)

    clock = time.perf_counter()
    model, history = cm.train(
        lambda: cm.AutoInt(encoding, config),
        encoding,
        examples,
        training,
        state_of(wanted, work, wanted["day"]) / "training",
        fingerprint=json.dumps(wanted),
        warm_start=start,
        histories=True,
        long_history=False,
    )
    seconds = time.perf_counter() - clock
    span = int((START + DAY * wanted["day"]).strftime("%Y%m%d"))
    save_state(
        model, encoding, state_of(wanted, work, wanted["day"]), kind="autoint", examples=str(examples), span=span
    )
    batches = make_dataset(examples, "test", encoding, training.input, histories=True, long_history=False)
    return {"seconds": seconds, "epochs": len(history.epochs), "test": quality(*predict(model, batches))}


def state_of(wanted: dict, work: Path, day: int) -> Path:
    """The folder of what a day's training leaves."""
    return work / "states" / f"{wanted['way']}-{wanted['seed']}-{wanted['window']}" / str(day)


def examples_of(wanted: dict, work: Path, window: int):
    """Ingests and encodes a window once: the folder of its encoded examples, and their encoding."""
    from features.ingest.spans.config import SpanWindow
    from features.ingest.spans.ingest_window import ingest_window

    spec = cm.load_spec(CONFIGS / "features_simulated.yaml")
    days = wanted["window"] + wanted["days"] + 2
    log = log_by_day(work, {"impressions": wanted["impressions"], "seed": 11, "days": days, "start": _ms(START)})
    span = START + DAY * wanted["day"]
    folder = work / "windows" / f"{span}-{window}"
    parts = [folder / part for part in ("examples", "behaviors", "dead_letters")]
    done = folder / "encoded.done"
    if not done.exists():
        config = cm.IngestConfig.model_validate(
            {
                "tables": log,
                "split": {"by": "span"},
                "num_shards": 4,
                "max_bad_row_fraction": 0.2,
                "limits": {"unknown_users": 1.0},
                "window": SpanWindow(span=span, days=window, store=str(work / "days")).model_dump(),
            }
        )
        ingest_window(config, spec, *parts)
        cm.fit_encoding(parts[0], spec, folder / "encoding")
        cm.encode_examples(parts[0], parts[1], folder / "encoding", folder / "encoded")
        done.touch()
    return folder / "encoded", cm.FeatureEncoding.load(folder / "encoding")


def log_by_day(work: Path, simulation: dict) -> dict[str, str]:
    """Simulates a log once, and lays its events into folders of days. Returns its tables by name."""
    import pyarrow.compute as pc
    import pyarrow.dataset as ds
    import pyarrow.parquet as pq

    log, done = work / "log", work / "by_day.done"
    if not done.exists():
        cm.simulate(cm.SimulatorConfig(**simulation), log)
        for table in TABLES:
            rows = ds.dataset(log / table).to_table()
            day = pc.divide(pc.subtract(rows["timestamp"].cast("int64"), simulation["start"]), 86_400_000)
            for number in range(simulation["days"] + 1):
                path = work / "by_day" / (START + DAY * number).isoformat() / table / "rows.parquet"
                path.parent.mkdir(parents=True, exist_ok=True)
                pq.write_table(rows.filter(pc.equal(day, number)), path)
        done.touch()
    events = {table: str(work / "by_day" / "{DATE}" / table) for table in TABLES}
    return events | {table: str(log / table) for table in ("items", "users")}


def _ms(day: datetime.date) -> int:
    return round(datetime.datetime.combine(day, datetime.time(), datetime.timezone.utc).timestamp() * 1000)


def summary(runs: list[dict], way: str) -> dict:
    """What a record keeps of the days of one way."""
    of_way = [run for run in runs if run["way"] == way]
    last = max(run["day"] for run in of_way)
    first = min(run["day"] for run in of_way)
    return {
        "auc_last_day": spread([run["test"]["auc"] for run in of_way if run["day"] == last]),
        "auc": spread([run["test"]["auc"] for run in of_way]),
        "log_loss": spread([run["test"]["log_loss"] for run in of_way]),
        # The first day is cold both ways.
        "seconds_a_day": spread([run["seconds"] for run in of_way if run["day"] > first]),
    }


def figures(record: dict):
    """Yields what the record says, and its figures."""
    cold, warm = record["cold"], record["warm"]
    lost = warm["auc_last_day"][0] - cold["auc_last_day"][0]
    share = warm["seconds_a_day"][0] / cold["seconds_a_day"][0]
    yield (
        f"AUC of the last of {record['days']} warm days, above that of a cold training on {record['window']} days",
        f"{lost:+.4f}",
    )
    yield "seconds of a warm day's training, of those of a cold one", f"{share:.2f}"

"""Raw logs to encoded examples, and what is said of a training, for the benchmarks that train."""

from __future__ import annotations

import statistics
from pathlib import Path

import clickmill as cm

CONFIGS = Path(__file__).parents[1] / "tfx_config"
BY_TIME = {"by": "time", "eval_fraction": 0.1, "test_fraction": 0.1}
QUALITY = ("auc", "log_loss", "pcoc")


def log_tables(work: Path, simulation: dict | None) -> dict[str, str]:
    """Makes a log once, simulated (arguments of `SimulatorConfig`) or MovieLens-1M. Returns its tables by name."""
    from features.datasets import download, movielens

    log, names = work / "log", ["impressions", "items", "users"]
    if simulation is not None:
        if not log.exists():
            cm.simulate(cm.SimulatorConfig(**simulation), log)
        return {name: str(log / name) for name in [*names, "clicks"]}
    if not log.exists():
        print("converted:", movielens.convert(download.fetch(work / "download", print), log))
    return {name: str(log / f"{name}.parquet") for name in names}


def encode_by_time(work: Path, simulation: dict | None, spec, num_shards: int = 4) -> tuple[Path, Path]:
    """Makes, ingests and encodes a log once, split by time.

    Returns:
      Directories of the encoded examples and of the encoding.
    """
    config = {"tables": log_tables(work, simulation), "split": BY_TIME, "num_shards": num_shards}
    return ingest_and_encode(cm.IngestConfig.model_validate(config), spec, work)[1:]


def ingest_and_encode(config, spec, work: Path) -> tuple[Path, Path, Path]:
    """Runs LogIngest, Vocabulary and FeatureEncoder once.

    Returns:
      Directories of the raw examples, of the encoded examples and of the encoding.
    """
    raw, encoded, encoding, done = (work / name for name in ("raw", "encoded", "encoding", "encoded.done"))
    if not done.exists():
        cm.run_ingest(config, spec, raw / "examples", raw / "behaviors", raw / "dead_letters")
        cm.fit_encoding(raw / "examples", spec, encoding)
        cm.encode_examples(raw / "examples", raw / "behaviors", encoding, encoded)
        done.touch()
    return raw / "examples", encoded, encoding


def of_training(history) -> dict:
    """What a record says of a finished training."""
    return {
        "parameters": history.parameters,
        "best_epoch": history.best_epoch,
        "epochs": len(history.epochs),
        "examples_per_second": round(statistics.median(epoch.examples_per_second for epoch in history.epochs)),
    }


def quality(labels, logits, metrics=QUALITY) -> dict:
    """Metrics of impressions that need no groups."""
    import numpy as np

    from evaluation.metrics.registry import compute_metrics
    from evaluation.metrics.rows import ScoredRows

    rows, scores = np.arange(len(labels)), 1.0 / (1.0 + np.exp(-np.asarray(logits, np.float64)))
    return compute_metrics(ScoredRows(labels, scores, rows, rows), metrics)


def quality_of_splits(model, examples: Path, encoding, config, **histories) -> dict:
    """Metrics of a trained ranker on `eval` and on `test`.

    Args:
      model: the ranker.
      examples: encoded.
      encoding: of the examples.
      config: an `InputConfig`.
      **histories: which histories the batches hold, as of `make_dataset`.
    """
    from models.inputs.input_pipeline import make_dataset
    from models.training.loop import predict

    found = {}
    for split in ("eval", "test"):
        found[split] = quality(*predict(model, make_dataset(examples, split, encoding, config, **histories)))
    return found

"""What the standard TFX Trainer runs: `run_fn`, given to it as the import path `RUN_FN`."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path

from features.spec import parse_model
from pipeline.config import PipelineConfig

RUN_FN = "pipeline.trainer_module.run_fn"
HISTORY_FILE = "training_history.json"


def trainer_config(config: PipelineConfig) -> dict:
    """Returns the Trainer's `custom_config`: plain JSON values, part of the cache's key.

    Raises:
      SpecError: if `model.parameters` or `training` hold an unknown key or a wrong value.
    """
    from models.training import TrainingConfig

    parameters = parse_model(config.model.parameters, _model_config_class(config.model.name), "model.parameters")
    training = parse_model(config.training, TrainingConfig, "training")
    return {
        "model": config.model.name,
        "parameters": parameters.model_dump(mode="json"),
        "training": training.model_dump(mode="json"),
        "work_dir": os.path.abspath(config.run_dir / "training"),
    }


def run_fn(fn_args) -> None:
    """Trains the configured ranker on the encoded examples and exports it to `fn_args.serving_model_dir`.

    Checkpoints lie under the run directory and not in an artifact, which TFX names anew at every attempt: a training
    that was killed goes on where it stopped. They are removed once the model is exported.

    Args:
      fn_args: a TFX `FnArgs`; `transform_graph_path` is the feature encoding, `custom_config` is `trainer_config`'s.
    """
    from features.encoding import FeatureEncoding
    from models.training import TrainingConfig, train
    from serving.export import export_ranker

    settings = fn_args.custom_config
    encoding = FeatureEncoding.load(fn_args.transform_graph_path)
    examples_dir = Path(fn_args.train_files[0]).parents[1]
    make_model = model_factory(settings["model"], settings["parameters"], encoding)
    fingerprint = hashlib.sha256(
        json.dumps([str(examples_dir), str(fn_args.transform_graph_path), settings], sort_keys=True).encode()
    ).hexdigest()
    work_dir = Path(settings["work_dir"]) / fingerprint[:16]
    model, history = train(
        make_model,
        encoding,
        examples_dir,
        TrainingConfig.model_validate(settings["training"]),
        work_dir,
        fingerprint=fingerprint,
        metrics={"auc": _auc},
        show_progress=True,
    )
    export_ranker(model, encoding, fn_args.serving_model_dir, _raw_sample(examples_dir), overwrite=True)
    run_dir = Path(fn_args.model_run_dir)
    shutil.copytree(work_dir / "tensorboard", run_dir / "tensorboard", dirs_exist_ok=True)
    (run_dir / HISTORY_FILE).write_text(json.dumps(history_record(history), indent=2) + "\n", encoding="utf-8")
    shutil.rmtree(work_dir)


def model_factory(name: str, parameters: dict, encoding):
    """Returns a function that builds the named model; `train` calls it once the seed is set."""
    config = _model_config_class(name).model_validate(parameters)
    if name == "autoint":
        from models.autoint import AutoInt

        return lambda: AutoInt(encoding, config)
    raise ValueError(f"`model.name` must be autoint. Received: {name!r}.")


def history_record(history) -> dict:
    """Returns a training history as the run report reads it (`evaluation.report_data.Training`)."""
    return {
        "epochs": [
            {
                "epoch": record.epoch,
                "train_log_loss": record.train_log_loss,
                "val_log_loss": record.val_log_loss,
                "val_auc": record.metrics.get("auc"),
                "examples_per_second": record.examples_per_second,
                "seconds": record.seconds,
            }
            for record in history.epochs
        ],
        "best_epoch": history.best_epoch,
        "parameters": history.parameters,
    }


def _model_config_class(name: str):
    from models.autoint import AutoIntConfig

    return {"autoint": AutoIntConfig}[name]


def _auc(labels, logits) -> float:
    import numpy as np

    from evaluation.metrics import compute_metrics
    from evaluation.scored_rows import ScoredRows

    nobody = np.zeros(len(labels), np.int64)
    return compute_metrics(ScoredRows(labels, logits, nobody, nobody), ["auc"])["auc"]


def _raw_sample(examples_dir: Path):
    import pyarrow.parquet as pq

    from pipeline.raw_sample import RAW_SAMPLE_FILE

    path = examples_dir / RAW_SAMPLE_FILE
    return pq.read_table(path) if path.is_file() else None

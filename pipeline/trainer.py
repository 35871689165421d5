"""What the standard TFX Trainer runs: `run_fn`, given to it as the import path `RUN_FN`."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path

from features.config import parse_model
from pipeline.config import PipelineConfig
from pipeline.model_registry import (
    make_ranker,
    parse_parameters,
    reads_histories,
    reads_signatures,
)

RUN_FN = "pipeline.trainer.run_fn"
HISTORY_FILE = "training_history.json"


def trainer_config(config: PipelineConfig, name: str) -> dict:
    """Returns the `custom_config` of a model's Trainer: plain JSON values, part of the cache's key.

    Raises:
      SpecError: if the model's `parameters` or `training` hold an unknown key or a wrong value.
    """
    from models.training.config import TrainingConfig

    model = getattr(config.models, name)
    training = parse_model(model.training, TrainingConfig, f"models.{name}.training")
    settings = {
        "model": name,
        "parameters": parse_parameters(name, model.parameters).model_dump(mode="json"),
        "training": training.model_dump(mode="json"),
        "work_dir": os.path.abspath(config.run_dir / "training"),
    }
    if getattr(model, "list_training", None) is not None:
        by_lists = parse_model(model.list_training, TrainingConfig, f"models.{name}.list_training")
        settings["list_training"] = by_lists.model_dump(mode="json")
    return settings


def run_fn(fn_args) -> None:
    """Trains the configured model on the encoded examples and exports it to `fn_args.serving_model_dir`.

    Checkpoints lie under the run directory and not in an artifact, which TFX names anew at every attempt: a training
    that was killed goes on where it stopped. They are removed once the model is exported.

    Args:
      fn_args: a TFX `FnArgs`; `transform_graph_path` is the feature encoding, `base_model` the item signatures (where
        the model reads any), `custom_config` is `trainer_config`'s.
    """
    from features.encoding.feature_encoding import FeatureEncoding
    from models.training.config import TrainingConfig

    settings = fn_args.custom_config
    name = settings["model"]
    encoding = FeatureEncoding.load(fn_args.transform_graph_path)
    examples_dir = Path(fn_args.train_files[0]).parents[1]
    inputs = [str(examples_dir), str(fn_args.transform_graph_path), fn_args.base_model, settings]
    fingerprint = hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()
    work_dir = Path(settings["work_dir"]) / fingerprint[:16]
    history = {"two_tower": _two_tower, "retrieval": _distilled_two_tower, "hcn": _coarse}.get(name, _ranker)(
        fn_args,
        encoding,
        examples_dir,
        parse_parameters(name, settings["parameters"]),
        TrainingConfig.model_validate(settings["training"]),
        work_dir,
        fingerprint,
    )
    run_dir = Path(fn_args.model_run_dir)
    shutil.copytree(work_dir / "tensorboard", run_dir / "tensorboard", dirs_exist_ok=True)
    (run_dir / HISTORY_FILE).write_text(json.dumps(history_record(history), indent=2) + "\n", encoding="utf-8")
    shutil.rmtree(work_dir)


def _ranker(fn_args, encoding, examples_dir: Path, config, training, work_dir: Path, fingerprint: str):
    from features.items.signatures import ItemSignatures
    from models.training.loop import train
    from serving.export.ranker import export_ranker

    name = fn_args.custom_config["model"]
    signatures = ItemSignatures.load(fn_args.base_model) if reads_signatures(config) else None
    histories = reads_histories(config)
    model, history = train(
        lambda: make_ranker(name, config, encoding, signatures),
        encoding,
        examples_dir,
        training,
        work_dir,
        fingerprint=fingerprint,
        metrics={"auc": _auc},
        histories=histories,
        long_history=histories and config.history.long != "none",
        show_progress=True,
    )
    export_ranker(
        model,
        encoding,
        fn_args.serving_model_dir,
        _raw_sample(examples_dir),
        item_signatures=signatures,
        overwrite=True,
    )
    return history


def _coarse(fn_args, encoding, examples_dir: Path, config, training, work_dir: Path, fingerprint: str):
    from features.examples.teacher_list_files import LISTS_FOLDER
    from models.inputs.item_corpus import ItemCorpus
    from models.training.coarse_stage import train_hcn
    from models.training.config import TrainingConfig
    from serving.export.coarse import export_coarse

    by_lists = fn_args.custom_config.get("list_training")
    model, history = train_hcn(
        encoding,
        examples_dir,
        config,
        training,
        work_dir,
        lists_dir=examples_dir / LISTS_FOLDER,
        list_training=None if by_lists is None else TrainingConfig.model_validate(by_lists),
        metrics={"auc": _auc},
        fingerprint=fingerprint,
        show_progress=True,
    )
    corpus, sample = ItemCorpus.load(examples_dir, encoding), _raw_sample(examples_dir)
    export_coarse(model, encoding, fn_args.serving_model_dir, corpus, sample, overwrite=True)
    return history


def _two_tower(fn_args, encoding, examples_dir: Path, config, training, work_dir: Path, fingerprint: str):
    from models.training.retrieval_stage import train_two_tower
    from serving.export.two_tower import export_two_tower

    needed, run_dir = config.ssl.method == "cfm", Path(fn_args.model_run_dir)
    model, history = train_two_tower(
        encoding,
        examples_dir,
        config,
        training,
        work_dir,
        mutual_information=_mutual_information(encoding.spec, examples_dir, run_dir) if needed else None,
        fingerprint=fingerprint,
        show_progress=True,
    )
    export_two_tower(model, encoding, fn_args.serving_model_dir, _raw_sample(examples_dir), overwrite=True)
    return history


def _distilled_two_tower(fn_args, encoding, examples_dir: Path, config, training, work_dir: Path, fingerprint: str):
    from models.inputs.item_corpus import ItemCorpus
    from models.training.list_distillation import train_by_lists
    from models.two_tower.model import TwoTower
    from serving.export.two_tower import export_two_tower

    corpus = ItemCorpus.load(examples_dir, encoding)
    # What corrects a loss on takes is of no use here, and would ask for their counts.
    config = config.model_copy(update={"log_q": "none", "ssl": type(config.ssl)()})
    model, history = train_by_lists(
        lambda: TwoTower(encoding, corpus, config),
        encoding,
        examples_dir,
        training,
        work_dir,
        fingerprint=f"{fingerprint} {config.model_dump_json()}",
        show_progress=True,
    )
    export_two_tower(model, encoding, fn_args.serving_model_dir, _raw_sample(examples_dir), overwrite=True)
    return history


def _mutual_information(spec, examples_dir: Path, run_dir: Path):
    """Estimates it for CFM's masks, from the catalogue; the estimate stays with the training's records."""
    from features.beam_runner import make_pipeline
    from features.items.mutual_information import MutualInformation, estimate_mutual_information

    run_dir.mkdir(parents=True, exist_ok=True)
    path = run_dir / "mutual_information.json"
    with make_pipeline() as root:
        estimate_mutual_information(root, examples_dir, spec, path)
    return MutualInformation.load(path)


def history_record(history) -> dict:
    """Returns a training history as the run report reads it (`evaluation.report.data.Training`)."""
    return {
        "epochs": [
            {
                "epoch": record.epoch,
                "train_log_loss": record.train_log_loss,
                "val_log_loss": record.val_log_loss,
                "val_auc": record.metrics.get("auc"),
                "metrics": record.metrics,
                "examples_per_second": record.examples_per_second,
                "seconds": record.seconds,
            }
            for record in history.epochs
        ],
        "best_epoch": history.best_epoch,
        "parameters": history.parameters,
    }


def _auc(labels, logits) -> float:
    import numpy as np

    from evaluation.metrics.registry import compute_metrics
    from evaluation.metrics.rows import ScoredRows

    nobody = np.zeros(len(labels), np.int64)
    return compute_metrics(ScoredRows(labels, logits, nobody, nobody), ["auc"])["auc"]


def _raw_sample(examples_dir: Path):
    import pyarrow.parquet as pq

    from features.examples.raw_sample import RAW_SAMPLE_FILE

    path = examples_dir / RAW_SAMPLE_FILE
    return pq.read_table(path) if path.is_file() else None

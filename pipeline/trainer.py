"""What the standard TFX Trainer runs: `run_fn`, given to it as the import path `RUN_FN`."""

from __future__ import annotations

import hashlib
import json

from features import storage
from pipeline.config import PipelineConfig
from pipeline.model_kinds import STAGES, kind_of, load

RUN_FN = "pipeline.trainer.run_fn"


def trainer_config(config: PipelineConfig, name: str) -> dict:
    """Returns the `custom_config` of a model's Trainer: plain JSON values, part of the cache's key."""
    section = config.models[name]
    last_layer = getattr(section, "last_layer", None)
    return {
        "model": name,
        "taught": section.taught,
        "work_dir": storage.absolute(storage.join(config.run_dir, "training")),
        **section.model_dump(mode="json", include={"kind", "parameters", "training", "list_training"}),
        **({"push_dir": storage.absolute(config.push_dir(name))} if section.training.warm_start else {}),
        # Only where it is set: what was trained without before there was one is not trained again.
        **({} if last_layer is None else {"last_layer": last_layer.model_dump(mode="json")}),
    }


def run_fn(fn_args) -> None:
    """Trains the configured model on the encoded examples and exports it to `fn_args.serving_model_dir`.

    Checkpoints lie under the run directory and not in an artifact, which TFX names anew at every attempt: a training
    that was killed goes on where it stopped. They are removed once the model is exported.

    Args:
      fn_args: a TFX `FnArgs`; `transform_graph_path` is the feature encoding, `base_model` the item signatures (where
        the model reads any), `custom_config` is `trainer_config`'s.
    """
    from evaluation.report.training_record import HISTORY_FILE, history_record
    from features.encoding.feature_encoding import FeatureEncoding
    from models.last_layer.config import LastLayerConfig
    from models.training.config import TrainingConfig
    from models.training.task import TrainingTask
    from pipeline.components.training.warm_state import leave_state, starter

    settings = fn_args.custom_config
    kind = kind_of(settings["kind"])
    stage = STAGES[kind.stage]
    encoding = FeatureEncoding.load(fn_args.transform_graph_path)
    examples_dir = storage.parent(storage.parent(fn_args.train_files[0]))
    inputs = [examples_dir, str(fn_args.transform_graph_path), fn_args.base_model, settings]
    fingerprint = hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()
    work_dir = storage.join(settings["work_dir"], fingerprint[:16])
    by_lists, last_layer = settings.get("list_training"), settings.get("last_layer")
    trained = load(stage.trainer)(
        TrainingTask(
            model=load(kind.model),
            parameters=load(kind.config).model_validate(settings["parameters"]),
            encoding=encoding,
            examples_dir=examples_dir,
            training=TrainingConfig.model_validate(settings["training"]),
            work_dir=work_dir,
            fingerprint=fingerprint,
            signatures_dir=fn_args.base_model,
            taught=settings["taught"],
            list_training=None if by_lists is None else TrainingConfig.model_validate(by_lists),
            mutual_information=lambda: _mutual_information(encoding.spec, examples_dir, fn_args.model_run_dir),
            metrics={"auc": _auc},
            warm_start=starter(settings, encoding, fn_args.model_run_dir),
            last_layer=None if last_layer is None else LastLayerConfig.model_validate(last_layer),
        )
    )
    load(stage.exporter)(
        trained.model,
        encoding,
        fn_args.serving_model_dir,
        warmup_rows=_raw_sample(examples_dir),
        overwrite=True,
        **trained.export_with,
    )
    run_dir = fn_args.model_run_dir
    if settings["training"].get("warm_start") is not None:
        leave_state(trained.model, encoding, settings, run_dir, fn_args.serving_model_dir)
    storage.copy_tree(storage.join(work_dir, "tensorboard"), storage.join(run_dir, "tensorboard"))
    record = json.dumps(history_record(trained.history), indent=2) + "\n"
    storage.write_text(storage.join(run_dir, HISTORY_FILE), record)
    storage.delete(work_dir)


def _mutual_information(spec, examples_dir: str, run_dir: str):
    """Estimates it for CFM's masks, from the catalogue; the estimate stays with the training's records."""
    from features.beam_runner import make_pipeline
    from features.items.mutual_information import MutualInformation, estimate_mutual_information

    storage.make_folder(run_dir)
    path = storage.join(run_dir, "mutual_information.json")
    with make_pipeline() as root:
        estimate_mutual_information(root, examples_dir, spec, path)
    return MutualInformation.load(path)


def _auc(labels, logits) -> float:
    import numpy as np

    from evaluation.metrics.registry import compute_metrics
    from evaluation.metrics.rows import ScoredRows

    nobody = np.zeros(len(labels), np.int64)
    return compute_metrics(ScoredRows(labels, logits, nobody, nobody), ["auc"])["auc"]


def _raw_sample(examples_dir: str):
    import pyarrow.parquet as pq

    from features.examples.raw_sample import RAW_SAMPLE_FILE

    path = storage.join(examples_dir, RAW_SAMPLE_FILE)
    if not storage.is_file(path):
        return None
    with storage.open_arrow(path) as file:
        return pq.read_table(file)

"""Trains the coarse ranker by the training loop of all models, on impressions and what was retrieved beside them."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import tensorflow as tf
import tensorflow_recommenders as tfrs

from features import storage
from features.encoding.feature_encoding import FeatureEncoding
from features.examples.teacher_list_files import LISTS_FOLDER
from models.hcn.config import HcnConfig
from models.hcn.model import Hcn
from models.inputs.item_corpus import ItemCorpus
from models.training.config import TrainingConfig
from models.training.history import TrainingHistory
from models.training.list_distillation import train_by_lists
from models.training.loop import Metric, results_of, train
from models.training.task import Trained, TrainingTask


def train_coarse(task: TrainingTask) -> Trained:
    """Trains a coarse ranker as `train_hcn` does, on what CoarseExamples wrote."""
    model, history = train_hcn(
        task.encoding,
        task.examples_dir,
        task.parameters,
        task.training,
        task.work_dir,
        model_class=task.model,
        lists_dir=storage.join(task.examples_dir, LISTS_FOLDER),
        list_training=task.list_training,
        metrics=task.metrics,
        warm_start=task.warm_start,
        fingerprint=task.fingerprint,
        show_progress=True,
    )
    return Trained(model, history, {"corpus": ItemCorpus.load(task.examples_dir, task.encoding)})


def train_hcn(
    encoding: FeatureEncoding,
    examples_dir: storage.AnyPath,
    model_config: HcnConfig,
    config: TrainingConfig,
    work_dir: storage.AnyPath,
    *,
    model_class: Callable[..., Hcn] = Hcn,
    lists_dir: storage.AnyPath | None = None,
    list_training: TrainingConfig | None = None,
    metrics: Mapping[str, Metric] | None = None,
    warm_start: Callable[[tfrs.Model], None] | None = None,
    fingerprint: str = "",
    show_progress: bool = False,
) -> tuple[Hcn, TrainingHistory]:
    """Trains on split `train`; the best epoch is that of the lowest training objective on `eval`.

    With `list_training` the model then learns the fine ranker's order of the catalogue from teacher lists. Impressions
    and their neighbours do not teach it: the top ten lie among items that nothing like was shown with.

    Args:
      encoding: the feature encoding.
      examples_dir: encoded examples, of FeatureEncoder or of CoarseExamples.
      model_config: what to build.
      config: how to train; `input.batch_size` counts impressions and added items.
      work_dir: for checkpoints, see `models.training.loop.train`.
      model_class: what is built of the encoding and `model_config`.
      lists_dir: teacher lists, for `list_training`.
      list_training: how the second part is trained; None: there is none.
      metrics: of labels and logits of the impressions of `eval`, by name.
      warm_start: as of `models.training.loop.train_on_batches`, of the first part.
      fingerprint: names the data.
      show_progress: whether to draw a progress bar.

    Returns:
      The model with the weights of its best epoch, and the history of the first part.

    Raises:
      ValueError: if there is a `list_training` and no `lists_dir`.
    """
    if list_training is not None and lists_dir is None:
        raise ValueError("`list_training` needs `lists_dir`, the teacher lists (serving/offline/teacher_scoring.py).")

    def validate(model: Hcn, dataset: tf.data.Dataset) -> tuple[float, dict[str, float]]:
        found = validation(model, dataset)
        shown = found["source"] == 0
        labels, logits = found["label"][shown], found["logit"][shown]
        return found["loss"], {name: float(metric(labels, logits)) for name, metric in (metrics or {}).items()}

    fingerprint = f"{fingerprint} {model_config.model_dump_json()}"
    model, history = train(
        lambda: model_class(encoding, model_config),
        encoding,
        examples_dir,
        config,
        work_dir,
        fingerprint=fingerprint,
        validate=validate,
        warm_start=warm_start,
        histories=True,
        show_progress=show_progress,
    )
    if list_training is not None:
        model.unshown_shift.trainable = False  # lists have no unshown items
        model, _ = train_by_lists(
            lambda: model,
            encoding,
            lists_dir,
            list_training,
            storage.join(work_dir, "lists"),
            calibration=1.0,
            fingerprint=f"{fingerprint} {config.model_dump_json()}",
            show_progress=show_progress,
        )
    return model, history


def validation(model: Hcn, dataset: tf.data.Dataset) -> dict:
    """Returns the mean `loss` over candidates, and `source`, `label` and `logit` of all candidates, [N] each."""
    parts = results_of(model.validate_next, dataset)
    if not parts:
        raise ValueError("split `eval` holds no request: nothing to validate by.")
    found = {name: np.concatenate([part[name] for part in parts]) for name in ("source", "label", "logit")}
    sizes = [len(part["label"]) for part in parts]
    return {**found, "loss": float(np.average([part["loss"] for part in parts], weights=sizes))}

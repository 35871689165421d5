"""The training loop of every model: early stopping, best weights, resume after a kill, progress."""

from __future__ import annotations

import contextlib
import hashlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_recommenders as tfrs

from features import storage
from features.encoding.feature_encoding import FeatureEncoding
from models.inputs.input_pipeline import count_candidates, make_dataset
from models.ranking_model import RankingModel
from models.training.checkpoints import Checkpoints
from models.training.config import TrainingConfig
from models.training.history import EpochRecord, TrainingHistory
from models.training.optimizers import make_optimizer
from models.training.progress import TrainingProgress

Metric = Callable[[np.ndarray, np.ndarray], float]
"""Of labels `[N]` and logits `[N]`."""

Validate = Callable[[tfrs.Model, tf.data.Dataset], tuple[float, dict[str, float]]]
"""Of a model and the eval split: the validation loss, in nats, and metrics by name."""


@dataclass(frozen=True)
class Batches:
    """What a model is trained and validated on.

    Attributes:
      make: the batches of a split (`train` or `eval`) in an epoch.
      examples: in an epoch of train: what the model's `log_loss` counts.
      steps: in an epoch of train, for the learning rate's schedule.
    """

    make: Callable[[str, int], tf.data.Dataset]
    examples: int
    steps: int


def train(
    make_model: Callable[[], tfrs.Model],
    encoding: FeatureEncoding,
    examples_dir: storage.AnyPath,
    config: TrainingConfig,
    work_dir: storage.AnyPath,
    *,
    metrics: Mapping[str, Metric] | None = None,
    validate: Validate | None = None,
    histories: bool = False,
    long_history: bool = True,
    positives_only: bool = False,
    **options,
) -> tuple[tfrs.Model, TrainingHistory]:
    """Trains a model on split `train` of encoded examples, watching split `eval`.

    Args:
      make_model: as of `train_on_batches`.
      encoding: the feature encoding.
      examples_dir: encoded examples.
      config: how to train.
      work_dir: for checkpoints; not shared between trainings.
      metrics: further validation metrics of a ranker by name.
      validate: how a model that is no ranker is validated; `metrics` are then its own.
      histories, long_history, positives_only: of `make_dataset`.
      **options: of `train_on_batches`.

    Returns:
      The model with the weights of its best epoch, and its history.

    Raises:
      ValueError: as `train_on_batches`.
    """

    def batches(split: str, epoch: int) -> tf.data.Dataset:
        return make_dataset(
            examples_dir, split, encoding, config.input,
            shuffle=split == "train", seed=config.seed, epoch=epoch,
            histories=histories, long_history=long_history, positives_only=positives_only,
        )  # fmt: skip

    examples = count_candidates(examples_dir, "train", encoding.spec.label if positives_only else None)
    return train_on_batches(
        make_model,
        Batches(batches, examples, max(1, examples // config.input.batch_size)),
        config,
        work_dir,
        validate=validate or _ranking_validation(metrics or {}),
        **options,
    )


def train_on_batches(
    make_model: Callable[[], tfrs.Model],
    batches: Batches,
    config: TrainingConfig,
    work_dir: storage.AnyPath,
    *,
    validate: Validate,
    maximize: str | None = None,
    fingerprint: str = "",
    show_progress: bool = False,
) -> tuple[tfrs.Model, TrainingHistory]:
    """Trains a model.

    After each epoch a checkpoint and `training_history.json` are written to `work_dir`; calling again with the same
    arguments goes on after the last finished epoch (an interrupted epoch starts over). Batches come in the same order
    as without the interruption; dropout masks do not. TensorBoard reads `work_dir/tensorboard`.

    Args:
      make_model: builds the model, after the seed was set; it keeps its running loss in a mean named `log_loss`.
      batches: to train on.
      config: how to train.
      work_dir: for checkpoints; not shared between trainings.
      validate: how the model is validated after each epoch.
      maximize: the validation metric whose highest value makes an epoch the best; the lowest loss by default.
      fingerprint: names model and data; with `config` it decides whether a checkpoint in `work_dir` is this training's.
      show_progress: whether to draw a progress bar with examples a second.

    Returns:
      The model with the weights of its best epoch, and its history.

    Raises:
      ValueError: if `work_dir` holds the checkpoint of another training, or the loss is not finite.
    """
    storage.make_folder(work_dir)
    history = _history_of(work_dir, f"{fingerprint}\n{config.model_dump_json()}")
    tf.keras.utils.set_random_seed(config.seed)
    model = make_model()
    model.compile(optimizer=make_optimizer(config.optimizer, config.epochs * batches.steps))
    build_variables(model, next(iter(batches.make("train", 0))))
    history.parameters = sum(int(np.prod(v.shape)) for v in model.trainable_variables)
    checkpoints = Checkpoints(model, work_dir)
    if history.epochs:
        checkpoints.restore(len(history.epochs))
    run_steps = step_runner(model)
    writer = tf.summary.create_file_writer(storage.join(work_dir, "tensorboard"))
    history.maximize = maximize
    while not history.finished:
        epoch = len(history.epochs) + 1
        record = _run_epoch(model, run_steps, batches, epoch, config, validate, show_progress)
        history.epochs.append(record)
        history.finished = epoch >= config.epochs or history.epochs_since_best() >= config.patience
        checkpoints.save(epoch)
        history.save(work_dir)  # from here on the epoch counts
        checkpoints.delete_all_but({epoch, history.best_epoch})
        _summarise(writer, record)
    checkpoints.restore(history.best_epoch)
    return model, history


def predict(model: RankingModel, dataset: tf.data.Dataset) -> tuple[np.ndarray, np.ndarray]:
    """Returns labels `[N]` and logits `[N]` of all candidates of a dataset."""
    labels, logits = zip(*results_of(model.predict_next, dataset), strict=True)
    return np.concatenate(labels), np.concatenate(logits)


def results_of(result_of_next: Callable[[tf.data.Iterator], Any], dataset: tf.data.Dataset) -> list:
    """Returns what a model makes of each batch, tensors as NumPy arrays.

    Args:
      result_of_next: of an iterator, such as `RankingModel.predict_next`; raises `OutOfRangeError` at its end.
      dataset: the batches.
    """
    iterator, results = iter(dataset), []
    with contextlib.suppress(tf.errors.OutOfRangeError):
        while True:
            results.append(tf.nest.map_structure(lambda tensor: tensor.numpy(), result_of_next(iterator)))
    return results


def _run_epoch(model, run_steps, batches, epoch, config, validate, show_progress) -> EpochRecord:
    for metric in model.metrics:
        metric.reset_state()
    started = time.perf_counter()
    iterator, going = iter(batches.make("train", epoch)), True
    with TrainingProgress(epoch, batches.examples, enabled=show_progress) as progress:
        while going:
            going = bool(run_steps(iterator, config.steps_per_execution))
            progress.update(int(model.log_loss.count), float(model.log_loss.result()))
    seconds = time.perf_counter() - started
    train_log_loss = float(model.log_loss.result())
    val_log_loss, metrics = validate(model, batches.make("eval", 0))
    if not np.isfinite([train_log_loss, val_log_loss]).all():
        raise ValueError(
            f"the loss is not finite in epoch {epoch} (train {train_log_loss}, validation {val_log_loss}). "
            f"Lower `learning_rate` (now {config.optimizer.learning_rate}) or look for extreme numeric features."
        )
    return EpochRecord(
        epoch=epoch,
        train_log_loss=train_log_loss,
        val_log_loss=val_log_loss,
        examples_per_second=batches.examples / seconds,
        seconds=seconds,
        metrics=metrics,
    )


def _ranking_validation(metrics: Mapping[str, Metric]) -> Validate:
    def validate(model: RankingModel, dataset: tf.data.Dataset) -> tuple[float, dict[str, float]]:
        labels, logits = predict(model, dataset)
        with np.errstate(invalid="ignore"):
            log_loss = float(np.mean(np.logaddexp(0.0, logits.astype(np.float64)) - labels * logits))
        return log_loss, {name: float(metric(labels, logits)) for name, metric in metrics.items()}

    return validate


def build_variables(model: tfrs.Model, batch: dict) -> None:
    """Creates all variables of a compiled model and of its optimiser.

    A checkpoint restores only variables that exist, and a graph that creates some is traced twice.
    """
    model(batch)
    model.optimizer._create_all_weights(model.trainable_variables)


def step_runner(model: tfrs.Model) -> Callable[[tf.data.Iterator, int], tf.Tensor]:
    """A graph that trains on up to `steps` batches of an iterator and returns whether there may be more."""
    # AutoGraph rewrites this loop alone: to rewrite model, Keras and optimiser takes longer than a small training.
    train_step = tf.autograph.experimental.do_not_convert(model.train_step)

    @tf.function
    def run(iterator, steps):
        going = True
        for _ in tf.range(steps):
            batch = iterator.get_next_as_optional()
            going = batch.has_value()
            if not going:
                break
            train_step(batch.get_value())
        return going

    return lambda iterator, steps: run(iterator, tf.constant(steps))


def _history_of(work_dir: storage.AnyPath, identity: str) -> TrainingHistory:
    fingerprint = hashlib.sha256(identity.encode()).hexdigest()
    history = TrainingHistory.load(work_dir)
    if history is not None and history.fingerprint != fingerprint:
        raise ValueError(
            f"{work_dir} holds the checkpoint of another training (its model, data or configuration differ). "
            "Choose another directory, or delete it to start over."
        )
    return history or TrainingHistory(fingerprint=fingerprint)


def _summarise(writer, record: EpochRecord) -> None:
    values = {
        "log_loss/train": record.train_log_loss,
        "log_loss/validation": record.val_log_loss,
        "examples_per_second": record.examples_per_second,
        **{f"validation/{name}": value for name, value in record.metrics.items()},
    }
    with writer.as_default(step=record.epoch):
        for name, value in values.items():
            tf.summary.scalar(name, value)
    writer.flush()

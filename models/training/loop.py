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
from features.errors import InputError, RunError
from models.embedding import require_float32
from models.inputs.input_pipeline import count_candidates, make_dataset
from models.ranking_model import RankingModel
from models.training.averages import WeightAverages
from models.training.checkpoints import Checkpoints
from models.training.config import TrainingConfig
from models.training.history import EpochRecord, Position, TrainingHistory, ValidationRecord
from models.training.optimizers import current_rate, make_optimizer, plateau_rate
from models.training.progress import TrainingProgress
from models.training.regularization import Regularizer

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

    def first(self, split: str) -> dict:
        """Returns the first batch of a split.

        Raises:
          InputError: if it has none.
        """
        for batch in self.make(split, 0):
            return batch
        raise InputError(f"split `{split}` of the examples holds nothing to train on: no batch can be made of it.")


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
      InputError, RunError: as `train_on_batches`.
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
    warm_start: Callable[[tfrs.Model], None] | None = None,
    show_progress: bool = False,
) -> tuple[tfrs.Model, TrainingHistory]:
    """Trains a model.

    After each epoch, and in its middle every `checkpoint_steps`, a checkpoint and `training_history.json` are written
    to `work_dir`; calling again with the same arguments goes on after the newest. Batches come in the same order as
    without the interruption; dropout masks do not. TensorBoard reads `work_dir/tensorboard`.

    Args:
      make_model: builds the model, after the seed was set; it keeps its running loss in a mean named `log_loss`.
      batches: to train on.
      config: how to train.
      work_dir: for checkpoints; not shared between trainings.
      validate: how the model is validated after each epoch and every `validation_steps`.
      maximize: the validation metric whose highest value makes an epoch the best; the lowest loss by default.
      fingerprint: names model and data; with `config` it decides whether a checkpoint in `work_dir` is this training's.
      warm_start: gives the model, built and compiled, weights to begin with; None: the random ones.
      show_progress: whether to draw a progress bar with examples a second.

    Returns:
      The model with the weights of its best epoch, and its history.

    Raises:
      InputError: if `work_dir` holds the checkpoint of another training, a split is empty, Keras is set to another
        precision than float32, or it is called in the scope of a `tf.distribute.Strategy`.
      RunError: if the loss is not finite; the message names the step.
    """
    if tf.distribute.has_strategy():
        raise InputError(
            f"a training runs on one device. Received: {type(tf.distribute.get_strategy()).__name__}. "
            "Call it outside of `strategy.scope()`."
        )
    storage.make_folder(work_dir)
    history = _history_of(work_dir, f"{fingerprint}\n{config.model_dump_json(exclude={'checkpoint_steps'})}")
    history.maximize = maximize
    tf.keras.utils.set_random_seed(config.seed)
    model = make_model()
    for layer in (part for part in model.submodules if isinstance(part, tf.keras.layers.Layer)):
        require_float32(layer)
    model.compile(optimizer=make_optimizer(config.optimizer, config.epochs * batches.steps))
    build_variables(model, batches.first("train"))
    batches.first("eval")
    if warm_start is not None:
        warm_start(model)
    history.parameters = sum(int(np.prod(v.shape)) for v in model.trainable_variables)
    training = _Training(model, batches, config, work_dir, history, validate, show_progress)
    while not history.finished:
        training.run_epoch()
    training.take_best()
    return model, history


def predict(model: RankingModel, dataset: tf.data.Dataset) -> tuple[np.ndarray, np.ndarray]:
    """Returns labels `[N]` and logits `[N]` of all candidates of a dataset."""
    nothing = (np.zeros(0, np.float32), np.zeros(0, np.float32))
    labels, logits = zip(nothing, *results_of(model.predict_next, dataset), strict=True)
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


class _Training:
    """A training on its way: what it reads and moves, and how far it is (`history`)."""

    def __init__(self, model, batches, config, work_dir, history, validate, show_progress):
        self._model, self._batches, self._config = model, batches, config
        self._work_dir, self._history, self._validate = work_dir, history, validate
        self._show_progress = show_progress
        regularizer, averaging = Regularizer(model, config.regularization), config.regularization.averaging
        self._averages = None
        if averaging is not None:
            self._averages = WeightAverages(model.trainable_variables, averaging, config.optimizer.name != "adam")
        averages = {} if averaging is None else {"averages": self._averages}
        self._checkpoints = Checkpoints(model, work_dir, penalty=regularizer.penalty_mean, **averages)
        self._metrics = [*model.metrics, regularizer.penalty_mean]
        self._run_steps = step_runner(model, regularizer, self._averages)
        self._writer = tf.summary.create_file_writer(storage.join(work_dir, "tensorboard"))
        if history.newest is not None:
            self._checkpoints.restore(history.newest)
        self._set_rate()

    def run_epoch(self) -> None:
        """Trains to the end of the epoch that is next or was cut off, and validates."""
        history, config = self._history, self._config
        epoch, step, seconds = len(history.epochs) + 1, 0, 0.0
        if history.newest is not None and history.newest.epoch == epoch:
            step, seconds = history.newest.step, history.newest.seconds
        else:
            for metric in self._metrics:
                metric.reset_state()
        iterator, going = iter(self._batches.make("train", epoch).skip(step)), True
        with TrainingProgress(epoch, self._batches.examples, enabled=self._show_progress) as progress:
            while going:
                started = time.perf_counter()
                wanted = min([config.steps_per_execution, *(each - step % each for each in self._stops())])
                done, finite = (int(value) for value in self._run_steps(iterator, wanted))
                step, going = step + done, done == wanted
                if not finite:
                    raise self._not_finite(epoch, step, "training loss")
                seconds += time.perf_counter() - started
                progress.update(int(self._model.log_loss.count), float(self._model.log_loss.result()))
                if going:
                    self._stop_at(Position(epoch=epoch, step=step, seconds=seconds))
        self._end_epoch(epoch, step, seconds)

    def take_best(self) -> None:
        """Gives the model the weights of its best validation."""
        self._checkpoints.restore(self._history.best)
        if self._averages is not None:
            self._averages.assign()

    def _stops(self) -> list[int]:
        """After how many steps of an epoch, and their multiples, there is something to do."""
        return [steps for steps in (self._config.checkpoint_steps, self._config.validation_steps) if steps]

    def _stop_at(self, position: Position) -> None:
        """Does in the middle of an epoch what is due there. What is validated is kept: it may be the best."""
        if not any(position.step % steps == 0 for steps in self._stops()):
            return
        if self._config.validation_steps and position.step % self._config.validation_steps == 0:
            loss, metrics = self._validated(position.epoch, position.step)
            record = ValidationRecord(epoch=position.epoch, step=position.step, val_log_loss=loss, metrics=metrics)
            self._history.validations.append(record)
            self._set_rate()
            self._summarise("validation_by_step", {"log_loss": loss, **metrics}, int(self._model.optimizer.iterations))
        self._keep(position)

    def _end_epoch(self, epoch: int, step: int, seconds: float) -> None:
        history, last = self._history, self._history.validations[-1:]
        if last and (last[0].epoch, last[0].step) == (epoch, step):
            val_log_loss, metrics = last[0].val_log_loss, last[0].metrics  # the epoch ended where it was validated
        else:
            val_log_loss, metrics = self._validated(epoch, step)
        record = EpochRecord(
            epoch=epoch,
            train_log_loss=float(self._model.log_loss.result()),
            val_log_loss=val_log_loss,
            examples_per_second=self._batches.examples / seconds,
            seconds=seconds,
            metrics=metrics,
            losses=self._other_losses(),
        )
        rate = float(current_rate(self._model.optimizer))
        history.epochs.append(record)
        history.finished = epoch >= self._config.epochs or history.epochs_since_best() >= self._config.patience
        self._set_rate()
        self._keep(Position(epoch=epoch))
        values = {"log_loss/train": record.train_log_loss, "log_loss/validation": val_log_loss, "learning_rate": rate}
        values |= {"examples_per_second": record.examples_per_second}
        values |= {f"loss/{name}": value for name, value in record.losses.items()}
        self._summarise("", values | {f"validation/{name}": value for name, value in metrics.items()}, epoch)

    def _validated(self, epoch: int, step: int) -> tuple[float, dict[str, float]]:
        """Validates the weights, or their average, and leaves the running means of training as they are."""
        running = [variable for metric in self._metrics for variable in metric.variables]
        kept = [tf.identity(variable) for variable in running]
        with self._averages.in_place() if self._averages is not None else contextlib.nullcontext():
            loss, metrics = self._validate(self._model, self._batches.make("eval", 0))
        for variable, value in zip(running, kept, strict=True):
            variable.assign(value)
        if not np.isfinite(loss):
            raise self._not_finite(epoch, step, "validation loss")
        return loss, metrics

    def _not_finite(self, epoch: int, step: int, what: str) -> RunError:
        return RunError(
            f"the {what} is not finite at step {step} of epoch {epoch}. Lower `learning_rate` (now "
            f"{float(current_rate(self._model.optimizer)):g}) or look for extreme numeric features."
        )

    def _other_losses(self) -> dict[str, float]:
        """The running means of what stands in the loss beside `log_loss`."""
        means = [each for each in self._metrics if isinstance(each, tf.keras.metrics.Mean)]
        return {each.name: float(each.result()) for each in means if each.name != "log_loss" and float(each.count) > 0}

    def _keep(self, position: Position) -> None:
        """Writes a checkpoint, then the history, by which it counts, and deletes what is no longer needed."""
        self._checkpoints.save(position)
        self._history.newest = position
        self._history.save(self._work_dir)
        self._checkpoints.delete_all_but([position, self._history.best])

    def _set_rate(self) -> None:
        if self._config.optimizer.schedule == "plateau":
            badness = [self._history.badness(record) for record in self._history.judged]
            self._model.optimizer.learning_rate = plateau_rate(self._config.optimizer, badness)

    def _summarise(self, prefix: str, values: Mapping[str, float], step: int) -> None:
        with self._writer.as_default(step=step):
            for name, value in values.items():
                tf.summary.scalar(f"{prefix}/{name}" if prefix else name, value)
        self._writer.flush()


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


def step_runner(
    model: tfrs.Model, regularizer: Regularizer | None = None, averages: WeightAverages | None = None
) -> Callable[[tf.data.Iterator, int], tuple[tf.Tensor, tf.Tensor]]:
    """A graph that trains on up to `steps` batches of an iterator.

    It returns how many there were, and whether the loss of the last was finite; it stops at one that was not.
    """

    # AutoGraph rewrites the loop alone: to rewrite model, Keras and optimiser takes longer than a small training.
    @tf.autograph.experimental.do_not_convert
    def train_step(batch):
        with tf.GradientTape() as tape:
            loss = model.compute_loss(batch, training=True)
            loss += tf.add_n([tf.zeros([]), *(tf.reduce_sum(each) for each in model.losses)])
            if regularizer is not None:
                loss += regularizer.penalty(batch)
        variables, optimizer = model.trainable_variables, model.optimizer
        gradients = tape.gradient(loss, variables)

        def apply():
            if regularizer is not None:
                regularizer.decay(variables, gradients, current_rate(optimizer))
            optimizer.apply_gradients(zip(gradients, variables, strict=True))

        apply() if averages is None else averages.step(gradients, apply)
        return loss

    @tf.function
    def run(iterator, steps):
        done, finite = 0, True
        for _ in tf.range(steps):
            batch = iterator.get_next_as_optional()
            if not batch.has_value():
                break
            finite = tf.math.is_finite(train_step(batch.get_value()))
            done += 1
            if not finite:
                break
        return done, finite

    return lambda iterator, steps: run(iterator, tf.constant(steps))


def _history_of(work_dir: storage.AnyPath, identity: str) -> TrainingHistory:
    fingerprint = hashlib.sha256(identity.encode()).hexdigest()
    history = TrainingHistory.load(work_dir)
    if history is not None and history.fingerprint != fingerprint:
        raise InputError(
            f"{work_dir} holds the checkpoint of another training (its model, data or configuration differ). "
            "Choose another directory, or delete it to start over."
        )
    return history or TrainingHistory(fingerprint=fingerprint)

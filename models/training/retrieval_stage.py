"""Trains the two-tower by the training loop of all models, stopped by recall over the whole corpus."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import tensorflow as tf
import tensorflow_recommenders as tfrs

from evaluation.metrics.ranks import count_above, expected_hits
from features import storage
from features.encoding.feature_encoding import FeatureEncoding
from features.items.mutual_information import MutualInformation
from models.inputs.input_pipeline import count_positives, make_dataset
from models.inputs.item_corpus import ItemCorpus
from models.training.config import TrainingConfig
from models.training.history import TrainingHistory
from models.training.list_distillation import train_by_lists
from models.training.loop import results_of, train
from models.training.task import Trained, TrainingTask
from models.two_tower.config import TwoTowerConfig
from models.two_tower.model import TwoTower


def train_retrieval(task: TrainingTask) -> Trained:
    """Trains a retrieval model: on takes as `train_two_tower` does, or, if it is taught, on teacher lists alone."""
    encoding, config = task.encoding, task.parameters
    if task.taught:
        corpus, config = ItemCorpus.load(task.examples_dir, encoding), config.taught()
        return Trained(
            *train_by_lists(
                lambda: task.model(encoding, corpus, config),
                encoding,
                task.examples_dir,
                task.training,
                task.work_dir,
                fingerprint=f"{task.fingerprint} {config.model_dump_json()}",
                show_progress=True,
            )
        )
    return Trained(
        *train_two_tower(
            encoding,
            task.examples_dir,
            config,
            task.training,
            task.work_dir,
            model_class=task.model,
            mutual_information=task.mutual_information() if config.needs_mutual_information else None,
            fingerprint=task.fingerprint,
            warm_start=task.warm_start,
            show_progress=True,
        )
    )


def train_two_tower(
    encoding: FeatureEncoding,
    examples_dir: storage.AnyPath,
    model_config: TwoTowerConfig,
    config: TrainingConfig,
    work_dir: storage.AnyPath,
    *,
    model_class: Callable[..., TwoTower] = TwoTower,
    mutual_information: MutualInformation | None = None,
    k: int = 50,
    max_validation_pairs: int = 50_000,
    fingerprint: str = "",
    warm_start: Callable[[tfrs.Model], None] | None = None,
    show_progress: bool = False,
) -> tuple[TwoTower, TrainingHistory]:
    """Trains on the positives of split `train`; the best epoch is that of the highest recall@k on `eval`.

    Args:
      encoding: the feature encoding.
      examples_dir: encoded examples with their catalogue.
      model_config: what to build.
      config: how to train; `input.batch_size` counts positives, each the others' negative.
      work_dir: for checkpoints, see `models.training.loop.train`.
      model_class: what is built of the encoding, the catalogue and `model_config`.
      mutual_information: of the item features, for CFM.
      k: of the recall that is watched.
      max_validation_pairs: validate on this many (request, item) pairs at most, evenly spread over the split.
      fingerprint: names the data.
      warm_start: as of `models.training.loop.train_on_batches`.
      show_progress: whether to draw a progress bar.

    Returns:
      The model with the weights of its best epoch, and its history (`recall@k` among its metrics).
    """
    corpus = ItemCorpus.load(examples_dir, encoding)
    counts = count_positives(examples_dir, "train", encoding.spec.label, len(corpus))

    def validate(model: TwoTower, dataset: tf.data.Dataset) -> tuple[float, dict[str, float]]:
        queries, truth, loss = embed_pairs(model, dataset)
        if not len(queries):
            raise ValueError("split `eval` holds no positive of a catalogue item: nothing to validate retrieval by.")
        chosen = np.linspace(0, len(queries) - 1, min(len(queries), max_validation_pairs)).astype(np.int64)
        above, tied = count_above(queries[chosen], model.embed_corpus(), truth[chosen])
        return loss, {f"recall@{k}": float(expected_hits(above, tied, k).mean())}

    return train(
        lambda: model_class(encoding, corpus, model_config, train_counts=counts, mutual_information=mutual_information),
        encoding,
        examples_dir,
        config,
        work_dir,
        fingerprint=f"{fingerprint} {model_config.model_dump_json()} recall@{k}",
        validate=validate,
        maximize=f"recall@{k}",
        histories=True,
        long_history=False,
        positives_only=True,
        warm_start=warm_start,
        show_progress=show_progress,
    )


def pairs_dataset(
    examples_dir: storage.AnyPath, split: str, encoding: FeatureEncoding, config: TrainingConfig
) -> tf.data.Dataset:
    """Batches of a split as the two-tower reads them, in the order of the files."""
    return make_dataset(
        examples_dir, split, encoding, config.input, histories=True, long_history=False, positives_only=True
    )


def embed_pairs(model: TwoTower, dataset: tf.data.Dataset) -> tuple[np.ndarray, np.ndarray, float]:
    """Embeds the requests of positives.

    Returns:
      Queries [P, output_dim], index of each one's item in the catalogue [P] (from 0), and the mean of L_main in nats
      (negatives from the batch).
    """
    results = results_of(model.predict_next, dataset)
    if not results:
        return np.zeros((0, model.config.output_dim), np.float32), np.zeros(0, np.int64), 0.0
    queries, rows, losses = zip(*results, strict=True)
    sizes = [len(row) for row in rows]
    return np.concatenate(queries), np.concatenate(rows).astype(np.int64) - 1, float(np.average(losses, weights=sizes))

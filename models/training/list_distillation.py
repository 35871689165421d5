"""Teaches a retrieval or coarse model the fine ranker's order of the whole catalogue."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np
import tensorflow as tf
import tensorflow_recommenders as tfrs

from features import storage
from features.encoding.feature_encoding import FeatureEncoding
from features.examples.teacher_list_files import read_lists
from models.inputs.input_pipeline import make_list_dataset
from models.inputs.item_corpus import ItemCorpus
from models.training.config import TrainingConfig
from models.training.history import TrainingHistory
from models.training.loop import Batches, results_of, train_on_batches


class Student(Protocol):
    """A model of two sides that meet in a product."""

    def __call__(self, batch: dict) -> tf.Tensor:
        """Creates the variables."""

    def score_items(self, batch: dict, items: dict) -> tf.Tensor:
        """Returns logits `[B, n]` of n items, by their encoded features, for each of a batch's B requests."""


class ListDistillation(tfrs.Model):
    """A student that learns to order items as its teacher does, on batches of `make_list_dataset`.

    ListNet (Cao et al., ICML 2007, Eq. 6, top-one probabilities) with a teacher's scores in place of judgements, as the
    listwise distillation of Reddi et al. (RankDistil, AISTATS 2021) does: for a request with teacher logits t_1 … t_n
    and the student's s_1 … s_n,

        L = KL(softmax(t) ‖ softmax(s)) + λ · mean_i KL(Bernoulli(σ(t_i)) ‖ Bernoulli(σ(s_i)))

    The first term weighs items by the odds that the teacher gives them, so the top of the list decides, and does not
    see what a request adds to all its items; the second, for students whose logits are to be calibrated, does.

    Args:
      student: the model that learns; its variables are those of this one.
      corpus: the catalogue, in the order of the lists' rows.
      calibration: λ.
    """

    def __init__(self, student: Student, corpus: ItemCorpus, calibration: float = 0.0, name: str = "distillation"):
        super().__init__(name=name)
        if calibration < 0:
            raise ValueError(f"`calibration` must not be negative. Received: `calibration`={calibration}.")
        self.student = student
        self._corpus, self._calibration = corpus, calibration
        self.log_loss = tf.keras.metrics.Mean("log_loss")

    def call(self, batch: dict) -> tf.Tensor:
        """Returns the student's logits of the batch's own candidates, `[N]`."""
        return self.student(batch)

    def logits(self, batch: dict) -> tf.Tensor:
        """Returns the student's logits of the items of the list, `[B, n]`."""
        return self.student.score_items(batch, self._corpus.gather(batch["list_item"] - 1))

    def compute_loss(self, inputs: dict, training: bool = False) -> tf.Tensor:
        """Returns L of a group in nats; `log_loss` averages its first term over requests."""
        return self._loss(inputs, self.logits(inputs))

    @tf.function(autograph=False)
    def validate_next(self, batches: tf.data.Iterator) -> dict[str, tf.Tensor]:
        """Returns of the next group `loss` (the first term), and the student's and the teacher's logits `[B, n]`.

        Raises `tf.errors.OutOfRangeError` after the last.
        """
        batch = next(batches)
        logits, taught = self.logits(batch), batch["list_logit"]
        return {"loss": tf.reduce_mean(_divergence(taught, logits)), "student": logits, "teacher": taught}

    def _loss(self, inputs: dict, logits: tf.Tensor) -> tf.Tensor:
        taught = inputs["list_logit"]
        listed = _divergence(taught, logits)
        self.log_loss.update_state(listed)
        loss = tf.reduce_mean(listed)
        if self._calibration:
            loss += self._calibration * tf.reduce_mean(_bernoulli_divergence(taught, logits))
        return loss


def train_by_lists(
    make_student: Callable[[], Student],
    encoding: FeatureEncoding,
    lists_dir: storage.AnyPath,
    config: TrainingConfig,
    work_dir: storage.AnyPath,
    *,
    calibration: float = 0.0,
    fingerprint: str = "",
    show_progress: bool = False,
) -> tuple[Student, TrainingHistory]:
    """Trains a student on the teacher lists of split `train`; the best epoch is that of the lowest loss on `eval`.

    Args:
      make_student: builds it, after the seed was set; or gives one that has learnt something before.
      encoding: the feature encoding.
      lists_dir: what `serving.offline.teacher_scoring.make_teacher_lists` wrote.
      config: how to train; a group is a batch, `input.batch_size` has no effect.
      work_dir: for checkpoints, see `models.training.loop.train_on_batches`.
      calibration: λ of `ListDistillation`.
      fingerprint: names the data.
      show_progress: whether to draw a progress bar, in requests.

    Returns:
      The student with the weights of its best epoch, and its history. Metric `kept@5%`: of the teacher's ten best of a
      list, the share of their probabilities that is left to the ten best of the student's first twentieth.

    Raises:
      FileNotFoundError: if a split holds no list.
      ValueError: if the loss is not finite, or `work_dir` holds another training.
    """
    lists = read_lists(lists_dir, "train")
    corpus = ItemCorpus.load(lists_dir, encoding)

    def batches(split: str, epoch: int) -> tf.data.Dataset:
        shuffle = split == "train"
        return make_list_dataset(
            lists_dir, split, encoding, config.input, shuffle=shuffle, seed=config.seed, epoch=epoch
        )

    def validate(model: ListDistillation, dataset: tf.data.Dataset) -> tuple[float, dict[str, float]]:
        groups = results_of(model.validate_next, dataset)
        sizes = [len(group["teacher"]) for group in groups]
        kept = [kept_share(group["teacher"], group["student"]).mean() for group in groups]
        loss = float(np.average([group["loss"] for group in groups], weights=sizes))
        return loss, {"kept@5%": float(np.average(kept, weights=sizes))}

    model, history = train_on_batches(
        lambda: ListDistillation(make_student(), corpus, calibration),
        Batches(batches, examples=sum(len(each.requests) for each in lists), steps=len(lists)),
        config,
        work_dir,
        validate=validate,
        fingerprint=f"{fingerprint} lists {calibration}",
        show_progress=show_progress,
    )
    return model.student, history


def kept_share(teacher: np.ndarray, student: np.ndarray, top_k: int = 10, share: float = 0.05) -> np.ndarray:
    """What a student's first items leave of the teacher's best.

    Args:
      teacher, student: [B, n] logits.
      top_k: length of the list that is wanted.
      share: of the n items, how many the student passes on (at least `top_k`).

    Returns:
      [B]: the summed probabilities of the best `top_k` among what is passed on, over those of the best `top_k` of all.
    """
    passed = max(top_k, round(share * teacher.shape[1]))
    chance = 1.0 / (1.0 + np.exp(-teacher.astype(np.float64)))
    first = np.argsort(-student, axis=1, kind="stable")[:, :passed]
    best = lambda values: -np.sort(-values, axis=1)[:, :top_k].sum(axis=1)  # noqa: E731
    return best(np.take_along_axis(chance, first, axis=1)) / best(chance)


def _divergence(teacher: tf.Tensor, student: tf.Tensor) -> tf.Tensor:
    """KL of the teacher's softmax to the student's, `[B]`."""
    log_p, log_q = tf.nn.log_softmax(teacher), tf.nn.log_softmax(student)
    return tf.reduce_sum(tf.exp(log_p) * (log_p - log_q), axis=1)


def _bernoulli_divergence(teacher: tf.Tensor, student: tf.Tensor) -> tf.Tensor:
    """KL of the teacher's probability to the student's, `[B, n]`."""
    chance = tf.sigmoid(teacher)
    cross = tf.nn.sigmoid_cross_entropy_with_logits(labels=chance, logits=student)
    return cross - tf.nn.sigmoid_cross_entropy_with_logits(labels=chance, logits=teacher)

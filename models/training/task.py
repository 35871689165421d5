"""What the trainer of every stage is given, and what it returns."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import tensorflow_recommenders as tfrs

from features.encoding.feature_encoding import FeatureEncoding
from features.items.mutual_information import MutualInformation
from models.last_layer.config import LastLayerConfig
from models.training.config import TrainingConfig
from models.training.history import TrainingHistory
from models.training.loop import Metric


@dataclass(frozen=True)
class TrainingTask:
    """One model to train.

    Attributes:
      model: its class.
      parameters: its checked configuration.
      encoding: the feature encoding.
      examples_dir: encoded examples, as the stage reads them.
      training: how it is trained.
      work_dir: for checkpoints, see `models.training.loop.train`.
      fingerprint: names model and data.
      signatures_dir: item signatures, for rankers that look them up.
      taught: whether a retrieval model learns from teacher lists, which then are the examples, and from nothing else.
      list_training: how a coarse model is trained on teacher lists after its examples; None: it is not.
      mutual_information: estimates that of the item features, for models that ask for it.
      metrics: validation metrics of a ranker by name.
      warm_start: gives the built model weights to begin with; None: the random ones.
      last_layer: how draws of a fine ranker's last layer are made once it is trained; None: there are none.
    """

    model: Callable[..., tfrs.Model]
    parameters: Any
    encoding: FeatureEncoding
    examples_dir: str
    training: TrainingConfig
    work_dir: str
    fingerprint: str = ""
    signatures_dir: str | None = None
    taught: bool = False
    list_training: TrainingConfig | None = None
    mutual_information: Callable[[], MutualInformation] | None = None
    metrics: Mapping[str, Metric] = field(default_factory=dict)
    warm_start: Callable[[tfrs.Model], None] | None = None
    last_layer: LastLayerConfig | None = None


class Trained(NamedTuple):
    """A model with the weights of its best epoch, its history, and what its exporter is given besides, by keyword."""

    model: tfrs.Model
    history: TrainingHistory
    export_with: Mapping[str, Any] = {}

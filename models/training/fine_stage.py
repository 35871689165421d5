"""Trains fine rankers by the training loop of all models, on impressions."""

from __future__ import annotations

from features.items.signatures import ItemSignatures
from models.inputs.input_pipeline import count_candidates, make_dataset
from models.last_layer.laplace import check_last_layer, draw_last_layers
from models.sdim.config import reads_histories, reads_signatures
from models.training.loop import train
from models.training.task import Trained, TrainingTask


def train_fine(task: TrainingTask) -> Trained:
    """Trains on split `train`; the best epoch is that of the lowest log loss on `eval`.

    The model is built by its class from the encoding and its configuration; one that looks item signatures up
    (`history.signature_source`: two_tower) is also given `item_signatures`. With a `last_layer` the export gets
    draws of its posterior, fitted on split `train`.

    Raises:
      InputError: if a `last_layer` is asked for of a ranker that does not say what that is, before it is trained.
    """
    config, given = task.parameters, {}
    if task.last_layer is not None:
        check_last_layer(task.model)
    if reads_signatures(config):
        given["item_signatures"] = ItemSignatures.load(task.signatures_dir)
    reads = {"histories": reads_histories(config)}
    reads["long_history"] = reads["histories"] and config.history.long != "none"
    model, history = train(
        lambda: task.model(task.encoding, config, **given),
        task.encoding,
        task.examples_dir,
        task.training,
        task.work_dir,
        fingerprint=task.fingerprint,
        metrics=task.metrics,
        warm_start=task.warm_start,
        show_progress=True,
        **reads,
    )
    if task.last_layer is None:
        return Trained(model, history, given)
    batches = make_dataset(
        task.examples_dir, "train", task.encoding, task.training.input,
        shuffle=True, seed=task.last_layer.seed, **reads,
    )  # fmt: skip
    draws = draw_last_layers(model, batches, count_candidates(task.examples_dir, "train"), task.last_layer)
    return Trained(model, history, given | {"last_layer_draws": draws})

"""Trains fine rankers by the training loop of all models, on impressions."""

from __future__ import annotations

from features.items.signatures import ItemSignatures
from models.sdim.config import reads_histories, reads_signatures
from models.training.loop import train
from models.training.task import Trained, TrainingTask


def train_fine(task: TrainingTask) -> Trained:
    """Trains on split `train`; the best epoch is that of the lowest log loss on `eval`.

    The model is built by its class from the encoding and its configuration; one that looks item signatures up
    (`history.signature_source`: two_tower) is also given `item_signatures`.
    """
    config, given = task.parameters, {}
    if reads_signatures(config):
        given["item_signatures"] = ItemSignatures.load(task.signatures_dir)
    histories = reads_histories(config)
    model, history = train(
        lambda: task.model(task.encoding, config, **given),
        task.encoding,
        task.examples_dir,
        task.training,
        task.work_dir,
        fingerprint=task.fingerprint,
        metrics=task.metrics,
        histories=histories,
        long_history=histories and config.history.long != "none",
        show_progress=True,
    )
    return Trained(model, history, given)

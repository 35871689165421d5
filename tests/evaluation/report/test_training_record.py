import json

import pytest

from evaluation.report.training_record import history_record, load_training
from features.config import SpecError
from models.training.history import EpochRecord, TrainingHistory


def test_what_a_training_leaves_is_what_the_report_reads(tmp_path):
    losses = {"train_log_loss": 0.5, "val_log_loss": 0.4, "examples_per_second": 9.0, "seconds": 2.0}
    epochs = [
        EpochRecord(epoch=1, metrics={"auc": 0.7}, losses={"ssl_loss": 1.5}, **losses),
        EpochRecord(epoch=2, **losses | {"val_log_loss": 0.6}),
    ]
    record = history_record(TrainingHistory(fingerprint="f", parameters=12, epochs=epochs))
    assert record["epochs"][0] == {
        "epoch": 1,
        "val_auc": 0.7,
        "metrics": {"auc": 0.7},
        "losses": {"ssl_loss": 1.5},
        **losses,
    }
    assert (record["best_epoch"], record["parameters"]) == (1, 12)
    (tmp_path / "training_history.json").write_text(json.dumps(record))
    read = load_training(tmp_path)
    assert read.model_dump(mode="json") == record and read.epochs[1].val_auc is None
    (tmp_path / "training_history.json").write_text('{"epoch": []}')
    with pytest.raises(SpecError, match="training_history.json: `epoch` is not a known key. Did you mean `epochs`"):
        load_training(tmp_path)

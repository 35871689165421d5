"""A training that is killed anywhere goes on, from the newest step that is on disk, to where it would have been."""

import numpy as np
import pytest

import models.training.loop as loop
from models.autoint.config import AutoIntConfig
from models.autoint.model import AutoInt
from models.inputs.config import InputConfig
from models.training.config import OptimizerConfig, RegularizationConfig, TrainingConfig
from models.training.history import EpochRecord, TrainingHistory, ValidationRecord
from models.training.loop import train

CONFIG = TrainingConfig(
    epochs=3,
    patience=3,
    input=InputConfig(batch_size=32),
    optimizer=OptimizerConfig(learning_rate=0.05, schedule="plateau", plateau_factor=0.5),
    regularization=RegularizationConfig(embedding_l2=0.01, frequency_power=0.5, weight_decay=0.01, averaging=0.9),
    steps_per_execution=4,
    checkpoint_steps=6,
    validation_steps=5,
)


def _train(small_log, work_dir, config=CONFIG):
    directory, encoding = small_log
    return train(lambda: AutoInt(encoding, AutoIntConfig()), encoding, directory, config, work_dir)


@pytest.fixture(scope="module")
def whole(small_log, tmp_path_factory):
    return _train(small_log, tmp_path_factory.mktemp("whole"))


def _cut(monkeypatch, where):
    """Ends the training where `where` says so, after what is to be on disk is."""
    keep = loop._Training._keep

    def cut_off(training, position):
        keep(training, position)
        if where(position):
            raise KeyboardInterrupt

    monkeypatch.setattr(loop._Training, "_keep", cut_off)


@pytest.mark.parametrize("epoch, step", [(1, 5), (2, 6), (2, None)])
def test_it_goes_on_as_if_nothing_had_happened(small_log, whole, tmp_path, monkeypatch, epoch, step):
    """Weights, running means, averages, the rate after a plateau: cut at a validation, a checkpoint, an epoch's end."""
    with monkeypatch.context() as patch:
        _cut(patch, lambda position: (position.epoch, position.step) == (epoch, step))
        with pytest.raises(KeyboardInterrupt):
            _train(small_log, tmp_path)
    model, history = _train(small_log, tmp_path)
    for left, right in zip(whole[0].variables, model.variables, strict=True):
        np.testing.assert_allclose(left, right, atol=1e-6, err_msg=left.name)
    np.testing.assert_allclose(whole[0].optimizer.learning_rate, model.optimizer.learning_rate)
    assert history.best == whole[1].best
    for left, right in zip(whole[1].judged, history.judged, strict=True):
        assert type(left) is type(right) and left.val_log_loss == pytest.approx(right.val_log_loss, rel=1e-5)
    for left, right in zip(whole[1].epochs, history.epochs, strict=True):
        assert left.train_log_loss == pytest.approx(right.train_log_loss, rel=1e-5)
        assert left.losses == pytest.approx(right.losses, rel=1e-5)


def test_only_what_is_needed_stays_on_disk(small_log, tmp_path, monkeypatch):
    """The newest checkpoint and the best one, wherever in an epoch they were written."""
    seen = []
    keep = loop._Training._keep

    def look(training, position):
        keep(training, position)
        names = {path.name.split(".")[0] for path in (tmp_path / "checkpoints").iterdir()}
        assert names == {position.name, training._history.best.name} - {"epoch-0000"}
        seen.append(position.name)

    monkeypatch.setattr(loop._Training, "_keep", look)
    _train(small_log, tmp_path, CONFIG.model_copy(update={"epochs": 1}))
    assert seen[:4] == ["epoch-0001-step-00000005", "epoch-0001-step-00000006", *seen[2:4]] and seen[-1] == "epoch-0001"


def test_the_best_weights_may_be_of_the_middle_of_an_epoch(small_log, tmp_path):
    """The validation of the lowest loss, here the second of six, is the one whose weights are returned."""
    directory, encoding = small_log
    losses, seen = iter([5.0, 1.0, 4.0, 3.0, 2.0, 6.0, *[7.0] * 99]), []

    def validate(model, dataset):
        seen.append([variable.numpy() for variable in model.trainable_variables])
        return next(losses), {}

    config = CONFIG.model_copy(update={"epochs": 1, "regularization": RegularizationConfig()})
    make = lambda: AutoInt(encoding, AutoIntConfig())  # noqa: E731
    model, history = train(make, encoding, directory, config, tmp_path, validate=validate)
    assert (history.best.epoch, history.best.step) == (1, 10) and len(seen) > 2
    for variable, then in zip(model.trainable_variables, seen[1], strict=True):
        np.testing.assert_array_equal(variable, then)
    assert not all(np.array_equal(then, last) for then, last in zip(seen[1], seen[-1], strict=True))


def test_how_often_checkpoints_are_written_is_no_other_training(small_log, tmp_path):
    config = CONFIG.model_copy(update={"epochs": 1, "validation_steps": None})
    _train(small_log, tmp_path, config)
    _train(small_log, tmp_path, config.model_copy(update={"checkpoint_steps": None}))


def test_nothing_is_due_within_an_epoch_unless_asked_for(small_log, tmp_path):
    config = CONFIG.model_copy(update={"epochs": 1, "validation_steps": None, "checkpoint_steps": None})
    _, history = _train(small_log, tmp_path, config)
    assert len(history.judged) == 1 and history.newest.step is None


def test_validations_stand_between_the_epochs_that_they_came_in():
    epochs = [
        EpochRecord(epoch=i, train_log_loss=1, val_log_loss=loss, examples_per_second=1, seconds=1)
        for i, loss in ((1, 0.5), (2, 0.4))
    ]
    middle = [ValidationRecord(epoch=e, step=s, val_log_loss=loss) for e, s, loss in ((1, 9, 0.6), (2, 9, 0.3))]
    history = TrainingHistory(fingerprint="f", epochs=epochs, validations=middle)
    assert [record.val_log_loss for record in history.judged] == [0.6, 0.5, 0.3, 0.4]
    assert (history.best_epoch, history.best.step, history.epochs_since_best()) == (2, 9, 0)

"""Training learns what was planted, keeps its best epoch, and goes on after a kill as if nothing had happened."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import models.training.loop as training
from models.autoint.config import AutoIntConfig
from models.autoint.model import AutoInt
from models.inputs.config import InputConfig
from models.inputs.input_pipeline import make_dataset
from models.training.config import OptimizerConfig, TrainingConfig
from models.training.loop import predict, train

CONFIG = TrainingConfig(
    epochs=8,
    patience=8,
    input=InputConfig(batch_size=32),
    optimizer=OptimizerConfig(learning_rate=1e-2),
    steps_per_execution=4,
)


def _train(small_log, work_dir, config=CONFIG, **arguments):
    directory, encoding = small_log
    return train(lambda: AutoInt(encoding, AutoIntConfig()), encoding, directory, config, work_dir, **arguments)


def _auc(labels, logits):
    positive, negative = logits[labels > 0], logits[labels == 0]
    return float((positive[:, None] > negative[None]).mean() + 0.5 * (positive[:, None] == negative[None]).mean())


def test_learns_the_planted_interaction(small_log, tmp_path):
    model, history = _train(small_log, tmp_path, metrics={"auc": _auc})
    directory, encoding = small_log
    labels, logits = predict(model, make_dataset(directory, "eval", encoding, CONFIG.input))
    assert _auc(labels, logits) > 0.85  # clicks are 0.9 against 0.1 by age × category
    assert history.epochs[history.best_epoch - 1].metrics["auc"] == pytest.approx(_auc(labels, logits))
    assert history.finished and history.parameters == sum(int(np.prod(v.shape)) for v in model.trainable_variables)
    assert list((tmp_path / "tensorboard").iterdir())


def test_best_weights_are_restored(small_log, tmp_path):
    """A learning rate that diverges after the first epochs: the returned model is the best one, not the last."""
    config = CONFIG.model_copy(update={"optimizer": OptimizerConfig(learning_rate=0.3), "epochs": 6})
    model, history = _train(small_log, tmp_path, config)
    directory, encoding = small_log
    labels, logits = predict(model, make_dataset(directory, "eval", encoding, config.input))
    loss = np.mean(np.logaddexp(0, logits) - labels * logits)
    losses = [record.val_log_loss for record in history.epochs]
    assert loss == pytest.approx(min(losses), rel=1e-4)
    assert history.best_epoch == 1 + int(np.argmin(losses))


def test_stops_early_after_patience(small_log, tmp_path):
    config = CONFIG.model_copy(update={"optimizer": OptimizerConfig(learning_rate=0.3), "epochs": 50, "patience": 2})
    _, history = _train(small_log, tmp_path, config)
    assert len(history.epochs) == history.best_epoch + 2 < 50


def test_finished_training_is_not_repeated(small_log, tmp_path, monkeypatch):
    config = CONFIG.model_copy(update={"epochs": 1})
    _train(small_log, tmp_path, config)
    monkeypatch.setattr(training, "_run_epoch", lambda *_: pytest.fail("trained again"))
    _train(small_log, tmp_path, config)


def test_another_trainings_checkpoint_is_refused(small_log, tmp_path):
    _train(small_log, tmp_path, CONFIG.model_copy(update={"epochs": 1}))
    with pytest.raises(ValueError, match="another training"):
        _train(small_log, tmp_path, CONFIG.model_copy(update={"epochs": 1, "seed": 5}))


def test_divergence_is_named(small_log, tmp_path):
    config = CONFIG.model_copy(update={"optimizer": OptimizerConfig(learning_rate=1e30), "epochs": 3})
    with pytest.raises(ValueError, match="not finite.*learning_rate"):
        _train(small_log, tmp_path, config)


def test_cutting_the_planted_pair_moves_the_logit_most(small_log, tmp_path):
    """What attention explains is checked by cutting it: age × category is what the labels follow.

    Null: a model that was trained on shuffled labels owes nothing to that pair.
    """
    directory, encoding = small_log
    shuffled = shuffle_labels(directory, tmp_path / "shuffled")

    def rank_of_planted_pair(examples, work_dir):
        config = CONFIG.model_copy(update={"epochs": 20, "patience": 20})
        model, _ = train(lambda: AutoInt(encoding, AutoIntConfig()), encoding, examples, config, work_dir)
        effects = model.pair_effects(next(iter(make_dataset(directory, "eval", encoding, InputConfig(batch_size=200)))))
        np.testing.assert_array_equal(effects, effects.T)
        pairs = np.triu_indices(len(effects), k=1)
        planted = effects[model.field_names.index("age"), model.field_names.index("category")]
        return int((effects[pairs] > planted).sum()), planted

    rank, effect = rank_of_planted_pair(directory, tmp_path / "real")
    assert rank == 0
    _, null_effect = rank_of_planted_pair(shuffled, tmp_path / "null")
    assert effect > 3 * null_effect


def shuffle_labels(directory, out):
    """Copies encoded examples, labels permuted inside each file."""
    rng = np.random.default_rng(0)
    for path in directory.glob("Split-*/*.parquet"):
        table = pq.read_table(path)
        labels = table["_label_click"].combine_chunks()
        values = labels.flatten().to_numpy()[rng.permutation(len(labels.flatten()))]
        column = pa.ListArray.from_arrays(labels.offsets, pa.array(values))
        target = out / path.relative_to(directory)
        target.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(table.set_column(table.schema.get_field_index("_label_click"), "_label_click", column), target)
    return out

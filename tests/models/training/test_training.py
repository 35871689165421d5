"""Training learns what was planted, keeps its best epoch, and goes on after a kill as if nothing had happened."""

import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tensorflow as tf

import models.training.loop as training
from features.errors import InputError, RunError
from models.autoint.config import AutoIntConfig
from models.autoint.model import AutoInt
from models.aw_moe.config import AwMoeConfig, ContrastiveConfig
from models.aw_moe.model import AwMoe
from models.hcn.config import HcnConfig
from models.inputs.config import InputConfig
from models.inputs.input_pipeline import make_dataset
from models.sdim.config import HistoryConfig
from models.training.coarse_stage import train_hcn
from models.training.config import OptimizerConfig, RegularizationConfig, TrainingConfig
from models.training.loop import predict, train
from models.training.retrieval_stage import train_two_tower
from models.two_tower.config import SslConfig, TwoTowerConfig

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
    monkeypatch.setattr(training._Training, "run_epoch", lambda *_: pytest.fail("trained again"))
    _train(small_log, tmp_path, config)


def test_another_trainings_checkpoint_is_refused(small_log, tmp_path):
    _train(small_log, tmp_path, CONFIG.model_copy(update={"epochs": 1}))
    with pytest.raises(InputError, match="another training"):
        _train(small_log, tmp_path, CONFIG.model_copy(update={"epochs": 1, "seed": 5}))


def test_divergence_is_named(small_log, tmp_path):
    config = CONFIG.model_copy(update={"optimizer": OptimizerConfig(learning_rate=1e30), "epochs": 3})
    with pytest.raises(RunError, match="not finite at step .* of epoch 1.*learning_rate"):
        _train(small_log, tmp_path, config)


class NotANumber(AutoInt):
    """An AutoInt whose loss is not a number in one step of the training, counted from 1."""

    wrong = 0

    def compute_loss(self, inputs, training=False):
        loss = super().compute_loss(inputs, training)
        return tf.where(self.optimizer.iterations == self.wrong - 1, np.nan, loss)


def test_a_loss_that_is_not_a_number_names_its_step(small_log, tmp_path):
    """In the step itself, whatever else runs in the same call into TensorFlow; not at the epoch's end."""
    directory, encoding = small_log
    steps = sum(1 for _ in make_dataset(directory, "train", encoding, CONFIG.input))
    for wrong, place in ((2, "step 2 of epoch 1"), (7, "step 7 of epoch 1"), (steps + 6, "step 6 of epoch 2")):

        def make(wrong=wrong):
            model = NotANumber(encoding, AutoIntConfig())
            model.wrong = wrong
            return model

        with pytest.raises(RunError, match=f"training loss is not finite at {place}"):
            train(make, encoding, directory, CONFIG, tmp_path / str(wrong))


@pytest.mark.parametrize("split", ["train", "eval"])
def test_an_empty_split_is_named(small_log, tmp_path, split):
    directory, encoding = small_log
    shutil.copytree(directory, tmp_path / "examples")
    for path in (tmp_path / "examples" / f"Split-{split}").glob("*.parquet"):
        pq.write_table(pq.read_table(path).slice(0, 0), path)
    with pytest.raises(InputError, match=f"split `{split}`"):
        train(lambda: AutoInt(encoding, AutoIntConfig()), encoding, tmp_path / "examples", CONFIG, tmp_path / "work")


def test_mixed_precision_is_refused(small_log, tmp_path):
    """For all of Keras, and for one layer of a model: -1e9 is minus infinity in float16, and 0 times it no number."""
    directory, encoding = small_log
    tf.keras.mixed_precision.set_global_policy("mixed_float16")
    try:
        with pytest.raises(InputError, match="float32.*mixed_float16"):
            AutoInt(encoding, AutoIntConfig())
    finally:
        tf.keras.mixed_precision.set_global_policy("float32")

    def half():
        model = AutoInt(encoding, AutoIntConfig())
        model.output_layer = tf.keras.layers.Dense(1, dtype="mixed_bfloat16", name="halved")
        return model

    with pytest.raises(InputError, match="halved.*mixed_bfloat16"):
        train(half, encoding, directory, CONFIG, tmp_path)


def test_a_distribution_strategy_is_refused(small_log, tmp_path):
    with tf.distribute.MirroredStrategy(["/cpu:0"]).scope(), pytest.raises(InputError, match="MirroredStrategy"):
        _train(small_log, tmp_path)


@pytest.mark.slow
def test_other_losses_are_recorded(small_log, tmp_path):
    """What stands in the loss beside the log loss reaches the history and TensorBoard, with its own value."""
    directory, encoding = small_log
    config = CONFIG.model_copy(update={"epochs": 1})
    history = HistoryConfig(short="target_attention", long="none")
    contrastive = AwMoeConfig(history=history, contrastive=ContrastiveConfig())
    _, found = train(
        lambda: AwMoe(encoding, contrastive), encoding, directory, config, tmp_path / "aw_moe", histories=True
    )
    losses = found.epochs[0].losses
    assert set(losses) == {"contrastive_loss", "contrastive_chance"}
    assert losses["contrastive_chance"] == pytest.approx(np.log(4), rel=0.1)  # three negatives
    _, found = train_hcn(
        encoding, directory, HcnConfig(diversity_weight=0.1), config, tmp_path / "hcn"
    )  # fmt: skip
    assert 0 < found.epochs[0].losses["diversity_loss"] <= 1
    two_tower = TwoTowerConfig(ssl=SslConfig(method="rfm"))
    _, found = train_two_tower(encoding, directory, two_tower, config, tmp_path / "two_tower")
    assert found.epochs[0].losses["ssl_loss"] > 0
    penalised = config.model_copy(update={"regularization": RegularizationConfig(embedding_l2=0.1)})
    _, found = _train(small_log, tmp_path / "autoint", penalised)
    assert found.epochs[0].losses["embedding_l2"] > 0
    assert "loss/embedding_l2" in _tags(tmp_path / "autoint" / "tensorboard")


def _tags(folder) -> set[str]:
    return {
        value.tag
        for path in folder.iterdir()
        for event in tf.compat.v1.train.summary_iterator(str(path))
        for value in event.summary.value
    }


def test_the_learning_rate_is_cut_on_a_plateau(small_log, tmp_path):
    """By the factor for each validation in a row that was no better; what a resumed training finds in its history."""
    # Steps that nothing survives: what a processor rounds decides no validation.
    optimizer = OptimizerConfig(learning_rate=10.0, schedule="plateau", plateau_factor=0.5, plateau_patience=1)
    config = CONFIG.model_copy(update={"optimizer": optimizer, "epochs": 8})
    _, history = _train(small_log, tmp_path / "work", config)
    losses = [record.val_log_loss for record in history.epochs]
    best_before = np.minimum.accumulate([np.inf, *losses])[:-1]
    cuts = int(np.sum(np.array(losses[:-1]) >= best_before[:-1]))
    assert cuts > 0
    rates = [
        tf.make_ndarray(value.tensor).item()
        for path in (tmp_path / "work" / "tensorboard").iterdir()
        for event in tf.compat.v1.train.summary_iterator(str(path))
        for value in event.summary.value
        if value.tag == "learning_rate"
    ]
    assert rates[0] == pytest.approx(10.0) and rates[-1] == pytest.approx(10.0 * 0.5**cuts)


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

"""The coarse ranker's training: the objective with weights, its best epoch, and calibration on impressions."""

import numpy as np
import pytest
import tensorflow as tf

from features.arrow import lists_of
from features.encoding.columns import SOURCE, WEIGHT
from features.examples.candidate_sets import append_candidates, catalogue_values
from features.items.catalogue import read_catalogue
from models.hcn.config import HcnConfig
from models.hcn.model import Hcn
from models.inputs.config import InputConfig
from models.inputs.input_pipeline import make_dataset
from models.training.coarse_stage import train_hcn, validation
from models.training.config import OptimizerConfig, TrainingConfig

TRAINING = TrainingConfig(
    epochs=12,
    patience=12,
    input=InputConfig(batch_size=128),
    optimizer=OptimizerConfig(learning_rate=0.05),
    steps_per_execution=4,
)
CONFIG = HcnConfig(
    dim=16, hidden_units=(16,), num_layers=2, exclude_features=("item_id",), unshown_weight=0.1, diversity_weight=0.0
)


def with_unshown(encoded, encoding, output):
    """Two random items of the catalogue join each request, ten times weighed."""
    import pyarrow.parquet as pq

    rng, catalogue = np.random.default_rng(0), read_catalogue(encoded)
    for path in sorted(encoded.rglob("*.parquet")):
        target = output / path.relative_to(encoded)
        target.parent.mkdir(parents=True, exist_ok=True)
        table = pq.read_table(path)
        if "Split" in str(path):
            rows = rng.integers(1, len(catalogue) + 1, 2 * len(table))
            values = catalogue_values(table, catalogue, rows, encoding.spec, encoded=True)
            table, new = append_candidates(table, values, 2 * np.arange(len(table) + 1), "_item_id")
            splits = table["_item_id"].combine_chunks().offsets.to_numpy()
            table = table.append_column(WEIGHT, lists_of(np.where(new, 10, 1).astype(np.float32), splits))
            table = table.append_column(SOURCE, lists_of(new.astype(np.int32), splits))
        pq.write_table(table, target)
    return output


def test_unshown_negatives_leave_the_calibration_on_impressions(small_log, tmp_path):
    encoded, encoding = small_log
    folder = with_unshown(encoded, encoding, tmp_path / "with")
    model, history = train_hcn(
        encoding, folder, CONFIG, TRAINING, tmp_path / "work", metrics={"n": lambda y, z: len(y)}
    )
    found = validation(model, make_dataset(folder, "train", encoding, TRAINING.input, histories=True))
    shown = found["source"] == 0
    probability = 1 / (1 + np.exp(-found["logit"]))
    pcoc = probability[shown].mean() / found["label"][shown].mean()
    assert 0.9 < pcoc < 1.1
    # Of all candidates the model says far more than the share of positives among them.
    assert probability.mean() > 1.2 * found["label"].mean()
    plain = make_dataset(encoded, "eval", encoding, TRAINING.input)
    impressions = sum(len(batch["label"]) for batch in plain)
    assert history.epochs[-1].metrics == {"n": impressions}
    losses = [epoch.val_log_loss for epoch in history.epochs]
    assert history.best_epoch == 1 + int(np.argmin(losses)) and min(losses) < losses[0]


def test_it_trains_on_ordinary_examples_too(small_log, tmp_path):
    encoded, encoding = small_log
    model, history = train_hcn(encoding, encoded, CONFIG, TRAINING, tmp_path / "work")
    found = validation(model, make_dataset(encoded, "eval", encoding, TRAINING.input, histories=True))
    logits, labels = found["logit"].astype(np.float64), found["label"]
    log_loss = np.mean(np.logaddexp(0, logits) - labels * logits)
    np.testing.assert_allclose(found["loss"], log_loss, rtol=1e-5)
    rate = labels.mean()
    assert log_loss < 0.9 * -(rate * np.log(rate) + (1 - rate) * np.log(1 - rate))


def test_validation_is_the_training_objective_and_serving_s_logits(small_log):
    encoded, encoding = small_log
    tf.keras.utils.set_random_seed(0)
    model = Hcn(encoding, CONFIG.model_copy(update={"training_scoring": "soft", "scoring": "max"}))
    batches = make_dataset(encoded, "eval", encoding, InputConfig(batch_size=100_000), histories=True)
    batch = next(iter(batches))
    model(batch)
    for weight in model.trainable_variables:
        # Untrained, all interests are nearly one and the two scorings agree to the last digits.
        weight.assign(tf.random.normal(weight.shape, stddev=0.3))
    found = validation(model, batches)
    np.testing.assert_allclose(found["loss"], model.compute_loss(batch), rtol=1e-5)
    np.testing.assert_allclose(found["logit"], model(batch), rtol=1e-4, atol=1e-4)
    assert np.abs(found["logit"] - model(batch, training=True)).max() > 1e-3


def test_lists_are_asked_for(small_log, tmp_path):
    encoded, encoding = small_log
    with pytest.raises(ValueError, match="`list_training` needs `lists_dir`"):
        train_hcn(encoding, encoded, CONFIG, TRAINING, tmp_path, list_training=TRAINING)

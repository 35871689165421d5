"""Averages of sparse tables are the average of every step to the letter, at a cost of the looked-up rows."""

import numpy as np
import pytest
import tensorflow as tf

from models.autoint.config import AutoIntConfig
from models.autoint.model import AutoInt
from models.inputs.config import InputConfig
from models.inputs.input_pipeline import make_dataset
from models.training.averages import WeightAverages
from models.training.config import OptimizerConfig, RegularizationConfig, TrainingConfig
from models.training.loop import predict, train
from models.training.optimizers import LazyAdam

#: Tracing a model costs more than a step of it: one layer shows what these tests are about.
SMALL = AutoIntConfig(num_layers=1, head_dim=8)
DECAY = 0.8


def test_averages_are_those_of_every_step():
    """A table of which each step reads a few rows, twice some of them, and a dense matrix; against a plain loop."""
    rng = np.random.default_rng(2)
    variables = [tf.Variable(rng.normal(size=(6, 3)), dtype=tf.float32), tf.Variable(rng.normal(size=(3, 2)))]
    variables[1] = tf.Variable(tf.cast(variables[1], tf.float32))
    averages, optimizer = WeightAverages(variables, DECAY), LazyAdam(0.1)
    expected, steps = [np.zeros(v.shape) for v in variables], 12

    @tf.function
    def step(rows):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(tf.square(tf.gather(variables[0], rows) @ variables[1] - 1.0))
        gradients = tape.gradient(loss, variables)
        assert isinstance(gradients[0], tf.IndexedSlices)
        averages.step(gradients, lambda: optimizer.apply_gradients(zip(gradients, variables, strict=True)))

    for number in range(1, steps + 1):
        # Row 5 is never read, row 4 once at the start.
        step(tf.constant([4, 4] if number == 1 else rng.integers(0, 4, 3)))
        for average, variable in zip(expected, variables, strict=True):
            average += (1 - DECAY) * (variable.numpy() - average)
        live = [variable.numpy() for variable in variables]
        with averages.in_place():
            for average, variable in zip(expected, variables, strict=True):
                np.testing.assert_allclose(variable, average / (1 - DECAY**number), rtol=1e-4, atol=1e-6)
        for old, variable in zip(live, variables, strict=True):
            np.testing.assert_array_equal(variable, old)
    assert averages.touched[0].numpy().tolist()[4:] == [1, 0]  # rows at rest were not written to


def test_before_the_first_step_the_weights_are_their_own_average():
    variable = tf.Variable([[1.0, 2.0]])
    WeightAverages([variable], DECAY).assign()
    assert variable.numpy().tolist() == [[1.0, 2.0]]


@pytest.mark.parametrize("optimizer", ["lazy_adam", "adam"])
def test_the_average_is_what_is_validated_and_kept(small_log, tmp_path, optimizer):
    """The model that training returns has the loss of its record, and not that of the weights of the last step."""
    directory, encoding = small_log
    config = TrainingConfig(
        epochs=2,
        patience=2,
        input=InputConfig(batch_size=32),
        optimizer=OptimizerConfig(name=optimizer, learning_rate=0.03),
        steps_per_execution=4,
        regularization=RegularizationConfig(averaging=0.9),
    )
    make = lambda: AutoInt(encoding, SMALL)  # noqa: E731
    averaged, history = train(make, encoding, directory, config, tmp_path / "averaged")
    plain = config.model_copy(update={"regularization": RegularizationConfig()})
    _, other = train(make, encoding, directory, plain, tmp_path / "plain")
    labels, logits = predict(averaged, make_dataset(directory, "eval", encoding, config.input))
    loss = np.mean(np.logaddexp(0, logits.astype(np.float64)) - labels * logits)
    assert loss == pytest.approx(history.epochs[history.best_epoch - 1].val_log_loss, rel=1e-5)
    # The same steps are taken: the average is of them, and moves none.
    for left, right in zip(history.epochs, other.epochs, strict=True):
        assert left.train_log_loss == pytest.approx(right.train_log_loss, rel=1e-4)
        assert left.val_log_loss != pytest.approx(right.val_log_loss, rel=1e-4)

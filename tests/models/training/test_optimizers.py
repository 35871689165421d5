"""Lazy Adam equals Adam where every row is touched, and leaves alone the rows that are not."""

import numpy as np
import pytest
import tensorflow as tf

from models.training.config import OptimizerConfig
from models.training.optimizers import LazyAdam, WarmupCosine, current_rate, make_optimizer, plateau_rate


def _steps(optimizer, indices, table):
    variable = tf.Variable(table)
    for step in range(4):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(tf.square(tf.gather(variable, indices) - step))
        optimizer.apply_gradients([(tape.gradient(loss, variable), variable)])
    return variable.numpy()


def test_equals_adam_when_every_row_is_looked_up():
    table = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
    rows = [0, 1, 2, 3, 4, 2, 2]  # repeated rows: their gradients add up before the moments see them
    lazy = _steps(LazyAdam(0.1, epsilon=1e-8), rows, table)
    adam = _steps(tf.keras.optimizers.legacy.Adam(0.1, epsilon=1e-8), rows, table)
    np.testing.assert_allclose(lazy, adam, rtol=1e-5)


def test_rows_not_looked_up_do_not_move():
    table = np.ones((5, 3), np.float32)
    variable, optimizer = tf.Variable(table), LazyAdam(0.1)
    after = []
    for rows in ([0, 1], [2]):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(tf.gather(variable, rows))
        optimizer.apply_gradients([(tape.gradient(loss, variable), variable)])
        after.append(variable.numpy())
    np.testing.assert_array_equal(after[1][3:], table[3:])
    # Adam would have moved rows 0 and 1 again, by their momentum.
    np.testing.assert_array_equal(after[1][:2], after[0][:2])
    assert (after[1][2] < 1).all()


def test_warmup_cosine_passes_its_three_corners():
    schedule = WarmupCosine(peak=2.0, total_steps=100, warmup_fraction=0.1)
    assert float(schedule(0)) == pytest.approx(0.2)
    assert float(schedule(10)) == pytest.approx(2.0)
    assert float(schedule(55)) == pytest.approx(2.0 * (0.01 + 0.99 * 0.5))
    assert float(schedule(100)) == pytest.approx(0.02)
    assert float(schedule(1000)) == pytest.approx(0.02)


@pytest.mark.parametrize("name", ["adam", "lazy_adam", "adagrad"])
def test_every_optimizer_descends(name):
    optimizer = make_optimizer(OptimizerConfig(name=name, learning_rate=0.1, schedule="cosine"), total_steps=4)
    table = np.full((3, 2), 5.0, np.float32)
    assert (_steps(optimizer, [0, 1, 2], table) < table).all()


def test_the_rate_is_cut_after_so_many_validations_that_were_no_better():
    config = OptimizerConfig(learning_rate=1.0, schedule="plateau", plateau_factor=0.1, plateau_patience=2)
    rate = lambda *badness: plateau_rate(config, badness)  # noqa: E731
    assert rate() == rate(3.0, 2.0, 1.0) == rate(1.0, 2.0) == rate(1.0, 2.0, 0.5, 0.6) == 1.0
    assert rate(1.0, 1.0, 1.0) == rate(1.0, 2.0, 3.0, 0.5) == rate(1.0, 2.0, 3.0, 4.0) == pytest.approx(0.1)
    assert rate(1.0, 2.0, 3.0, 4.0, 5.0) == pytest.approx(0.01)
    assert plateau_rate(config.model_copy(update={"schedule": "constant"}), [1.0] * 9) == 1.0


@pytest.mark.parametrize("schedule", ["constant", "cosine", "plateau"])
def test_the_current_rate_is_that_of_the_next_step(schedule):
    """Under gradient descent of a constant gradient of one the variable itself tells the rate."""
    config = OptimizerConfig(learning_rate=0.5, schedule=schedule)
    optimizer, variable = make_optimizer(config, total_steps=10), tf.Variable(0.0)
    for _ in range(4):
        rate, before = float(current_rate(optimizer)), float(variable)
        optimizer.apply_gradients([(tf.constant(1.0), variable)])
        assert before - float(variable) == pytest.approx(rate, rel=1e-3)  # Adam's step of a constant gradient

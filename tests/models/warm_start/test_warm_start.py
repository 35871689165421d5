"""A warm start: rows of surviving terms bit by bit, the optimiser's state with them, and what starts cold said."""

from __future__ import annotations

import json

import numpy as np
import pytest
import tensorflow as tf

from features.arrow import read_parquet
from features.encoding.feature_encoding import FeatureEncoding
from models.autoint.config import AutoIntConfig
from models.autoint.model import AutoInt
from models.inputs.config import InputConfig
from models.inputs.input_pipeline import make_dataset
from models.training.config import OptimizerConfig, TrainingConfig
from models.training.loop import build_variables, predict, train
from models.training.optimizers import make_optimizer
from models.warm_start.start import warm_start
from models.warm_start.training_state import load_state, named_variables, save_state
from tests.builders.small_log import encode_log, write_raw_log

CONFIG = TrainingConfig(
    epochs=2, input=InputConfig(batch_size=64), optimizer=OptimizerConfig(learning_rate=0.02), steps_per_execution=4
)
PARAMETERS = AutoIntConfig(num_layers=1, head_dim=4)
#: Items of the second day that the first did not have.
NEW = [1000, 1001, 1002, 1003]


@pytest.fixture(scope="module")
def state(small_log, tmp_path_factory):
    """What a training of the small log left."""
    directory, encoding = small_log
    work_dir = tmp_path_factory.mktemp("day1")
    model, _ = train(lambda: AutoInt(encoding, PARAMETERS), encoding, directory, CONFIG, work_dir)
    save_state(model, encoding, work_dir / "state", kind="autoint", examples="day1", span=20261101)
    return load_state(work_dir / "state")


def _changed(encoding: FeatureEncoding, name: str, order: list[int], new: list) -> FeatureEncoding:
    """The encoding with other terms: some of the old ones, in another order, and new ones before them."""
    import pyarrow as pa

    vocabularies = {f.name: encoding._vocabularies[f.name] for f in encoding.spec.features if f.vocabulary is not None}
    old = vocabularies[name]
    fresh = pa.table({"term": pa.array(new, old["term"].type), "count": pa.array([9] * len(new), pa.int64())})
    vocabularies[name] = pa.concat_tables([fresh, old.take(order)]).combine_chunks()
    moments = {f.name: encoding.moments(f.name) for f in encoding.spec.features if f.kind == "numeric"}
    return FeatureEncoding(encoding.spec, vocabularies, moments, {})


def _built(small_log, encoding=None, parameters=PARAMETERS, seed=1, optimizer=CONFIG.optimizer):
    directory, own = small_log
    tf.keras.utils.set_random_seed(seed)
    model = AutoInt(encoding or own, parameters)
    model.compile(optimizer=make_optimizer(optimizer, 10))
    build_variables(model, next(iter(make_dataset(directory, "train", own, CONFIG.input))))
    return model


def _part(model, name, encoding, values=None):
    """The rows of a feature in a model's table, or in an array of its shape."""
    first = model.embedding.first_rows[name]
    return (model.embedding.table.numpy() if values is None else values)[first : first + encoding.vocabulary_size(name)]


def test_all_variables_are_named_alike_in_every_model(small_log):
    one, other = (_built(small_log, seed=seed) for seed in (1, 2))
    assert list(named_variables(one)) == list(named_variables(other))
    assert len(named_variables(one)) == len(one.trainable_variables)
    assert "embedding/table" in named_variables(one)


def test_the_same_model_begins_where_the_last_one_ended(small_log, state):
    model = _built(small_log)
    report = warm_start(model, small_log[1], "autoint", state, CONFIG.optimizer)
    for name, variable in named_variables(model).items():
        np.testing.assert_array_equal(variable.numpy(), state.arrays[name], err_msg=name)
        for slot in ("m", "v"):
            np.testing.assert_array_equal(model.optimizer.get_slot(variable, slot), state.arrays[f"{slot}:{name}"])
    assert int(model.optimizer.iterations) == state.facts.iterations > 0
    assert set(report.variables.values()) == {"carried", "by row"} and report.optimizer == "carried"


def test_rows_follow_their_terms_as_keras_says(small_log, state, tmp_path):
    """Bit by bit, through a vocabulary in another order, with new terms and without some; new rows as initialised."""
    old = small_log[1]
    terms = old.terms("item_id").to_pylist()
    new = _changed(old, "item_id", list(range(len(terms)))[3:][::-1], NEW)
    model, fresh = _built(small_log, new), _built(small_log, new)
    report = warm_start(model, new, "autoint", state, CONFIG.optimizer)
    before = _part(_built(small_log), "item_id", old, state.arrays["embedding/table"])

    def named(encoding):
        return ["missing", "oov"] + [str(term) for term in encoding.terms("item_id").to_pylist()]

    expected = tf.keras.utils.warmstart_embedding_matrix(
        named(old), named(new), before, tf.keras.initializers.Constant(_part(fresh, "item_id", new))
    )
    np.testing.assert_array_equal(_part(model, "item_id", new), expected)
    slots = [_part(model, "item_id", new, model.optimizer.get_slot(model.embedding.table, s).numpy()) for s in "mv"]
    for slot, values in zip("mv", slots, strict=True):
        was = _part(_built(small_log), "item_id", old, state.arrays[f"{slot}:embedding/table"])
        source = report.features["item_id"].source
        np.testing.assert_array_equal(values[source >= 0], was[source[source >= 0]])
        assert not values[source < 0].any()
    rows = report.features["item_id"]
    assert (rows.carried, (rows.source < 0).sum(), rows.dropped) == (2 + len(terms[3:]), len(NEW), 3)
    np.testing.assert_array_equal(
        _part(model, "category", new), _part(_built(small_log), "category", old, state.arrays["embedding/table"])
    )
    report.save(tmp_path, new)
    table = read_parquet(tmp_path / "warm_start_rows.parquet").to_pylist()
    by_term = {row["term"]: row["source_id"] for row in table if row["feature"] == "item_id" and row["term"]}
    assert by_term["1000"] is None and by_term[str(terms[3])] == 2 + 3
    assert json.loads((tmp_path / "warm_start.json").read_text())["features"]["item_id"]["new"] == len(NEW)


def test_another_kind_starts_cold(small_log, state):
    model, fresh = _built(small_log), _built(small_log)
    report = warm_start(model, small_log[1], "aw_moe", state, CONFIG.optimizer)
    assert "autoint" in report.summary and "aw_moe" in report.summary
    np.testing.assert_array_equal(model.embedding.table, fresh.embedding.table)


def test_a_changed_width_is_said_and_starts_that_part_cold(small_log, state):
    old = small_log[1]
    spec = old.spec.model_copy(update={"embedding_dim": 4})
    vocabularies = {f.name: old._vocabularies[f.name] for f in spec.features if f.vocabulary is not None}
    new = FeatureEncoding(spec, vocabularies, {n: old.moments(n) for n in ("hour", "price")}, {})
    report = warm_start(_built(small_log, new), new, "autoint", state, CONFIG.optimizer)
    assert report.variables["embedding/table"] == "its width was 8 and is 4"
    assert "its width was 8 and is 4" in report.summary


def test_a_changed_list_of_features_keeps_the_rows_of_the_others(small_log, state):
    parameters = PARAMETERS.model_copy(update={"exclude_features": ("category",)})
    model = _built(small_log, parameters=parameters)
    report = warm_start(model, small_log[1], "autoint", state, CONFIG.optimizer)
    before = _part(_built(small_log), "item_id", small_log[1], state.arrays["embedding/table"])
    np.testing.assert_array_equal(_part(model, "item_id", small_log[1]), before)
    dense = {what for name, what in report.variables.items() if not name.startswith("embedding/")}
    assert dense == {"the fields that the model reads have changed"}
    assert "the fields" in report.summary


def test_another_optimiser_starts_cold(small_log, state):
    adagrad = OptimizerConfig(name="adagrad")
    report = warm_start(_built(small_log, optimizer=adagrad), small_log[1], "autoint", state, adagrad)
    assert report.optimizer == "it was LazyAdam and is Adagrad"


def test_the_second_day_begins_better_than_a_tenth_of_a_cold_one(tmp_path, state):
    """On another day's log, with its own vocabularies."""
    raw, directory = tmp_path / "raw", tmp_path / "encoded"
    raw.mkdir()
    write_raw_log(raw, seed=8)
    encoding = encode_log(raw, directory)
    day = (directory, encoding)

    def log_loss(model):
        labels, logits = predict(model, make_dataset(directory, "eval", encoding, CONFIG.input))
        return float(np.mean(np.logaddexp(0.0, logits.astype(np.float64)) - labels * logits))

    warm, cold = _built(day), _built(day)
    warm_start(warm, encoding, "autoint", state, CONFIG.optimizer)
    batches = list(make_dataset(directory, "train", encoding, CONFIG.input, shuffle=True, seed=3))
    for batch in batches[: max(1, len(batches) * CONFIG.epochs // 10)]:
        cold.train_step(batch)
    assert log_loss(warm) < log_loss(cold)

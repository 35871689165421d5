"""What every fine ranker that says its last layer holds to: what it says is what it does, trained and exported."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from features.errors import InputError
from models.inputs.config import InputConfig
from models.inputs.input_pipeline import make_dataset
from models.last_layer.config import LastLayerConfig
from models.training.config import TrainingConfig
from models.training.fine_stage import train_fine
from models.training.task import TrainingTask
from pipeline.model_kinds import KINDS, load
from serving.export.ranker import export_ranker
from serving.saved.ranker import SavedRanker
from serving.saved.signature_specs import DRAW_LOGITS, SERVING_DEFAULT
from tests.builders.small_log import raw_rows
from tests.serving.export.merged_requests import check_signatures
from tests.serving.export.warmup_file import warmup_requests

FINE = [kind for kind, row in KINDS.items() if row.stage == "fine"]
#: Further forms of a kind's last layer.
FORMS = {"autoint": {"deep_layers": (8, 4)}, "aw_moe": {"mode": "search", "query_features": ("age",)}}
HISTORY = {"short": "target_attention", "long": "sdim", "signature_source": "end_to_end"}
SAME = {"rtol": 1e-5, "atol": 1e-5}


def config_of(kind: str, **settings):
    return load(KINDS[kind].config).model_validate(settings | {"history": HISTORY})


@pytest.fixture(scope="module")
def batch(small_log):
    return next(iter(make_dataset(small_log[0], "eval", small_log[1], InputConfig(batch_size=100), histories=True)))


@pytest.fixture(scope="module")
def made(small_log, batch):
    """An untrained model of each kind and form, made when asked for, with weights so large that everything counts."""
    found = {}

    def of(kind: str, form: bool = False):
        if (kind, form) not in found:
            model = load(KINDS[kind].model)(small_log[1], config_of(kind, **(FORMS.get(kind, {}) if form else {})))
            tf.keras.utils.set_random_seed(1)
            model(batch)
            for weight in model.trainable_variables:
                weight.assign_add(tf.random.normal(weight.shape, stddev=0.1))
            found[kind, form] = model
        return found[kind, form]

    return of


@pytest.mark.parametrize("kind", FINE)
@pytest.mark.parametrize("form", [False, True])
def test_a_logit_is_read_off_the_last_layer(kind, form, batch, made):
    model = made(kind, form)
    hidden, weights = model.last_hidden(batch).numpy(), model.last_weights()
    assert weights.shape == (hidden.shape[1] + 1,) and hidden.std(axis=0).max() > 0
    np.testing.assert_allclose(hidden @ weights[:-1] + weights[-1], model(batch), **SAME)


@pytest.mark.slow
@pytest.mark.parametrize("kind", FINE)
def test_an_export_answers_its_draws_and_its_own_logits(kind, small_log, raw_small_log, made, batch, tmp_path):
    """Raw values through `draw_logits`: the model's logits, and what other weights of its last layer would add."""
    model = made(kind)
    draws = np.random.default_rng(0).normal(size=(8, len(model.last_weights()))).astype(np.float32)
    rows = raw_rows(raw_small_log, small_log[1].spec).slice(0, 3)
    export_ranker(model, small_log[1], tmp_path / "1", rows, last_layer_draws=draws)
    check_signatures(tmp_path / "1")
    saved, seen = SavedRanker(tmp_path / "1"), 0
    for request, inputs in warmup_requests(tmp_path / "1"):
        if request.model_spec.signature_name == DRAW_LOGITS:
            found, own = saved.run(DRAW_LOGITS, inputs), saved.run(SERVING_DEFAULT, inputs)
            assert found["deviation"].shape == (*own["logit"].shape, 8)
            np.testing.assert_allclose(found["logit"], own["logit"], **SAME)
            real = np.arange(own["logit"].shape[1]) < np.asarray(inputs["num_candidates"])[:, np.newaxis]
            assert not found["deviation"][~real].any()
            seen = found["deviation"][real]
    # The largest record holds the first rows of the split, as the batch does.
    expected = model.last_hidden(batch).numpy()[: len(seen)] @ draws[:, :-1].T + draws[:, -1]
    np.testing.assert_allclose(seen, expected, rtol=1e-4, atol=1e-4)
    assert len(seen) > 3


def test_the_trainer_draws_where_it_is_asked_to_and_refuses_what_has_no_last_layer(small_log, tmp_path):
    class Opaque:
        """A ranker that says nothing of its layers."""

    task = TrainingTask(
        model=load(KINDS["autoint"].model),
        parameters=config_of("autoint"),
        encoding=small_log[1],
        examples_dir=str(small_log[0]),
        training=TrainingConfig(epochs=1, input=InputConfig(batch_size=64)),
        work_dir=str(tmp_path / "work"),
        last_layer=LastLayerConfig(draws=8),
    )
    with pytest.raises(InputError, match="`last_layer` needs a ranker with `last_hidden`.*Opaque lacks"):
        train_fine(dataclasses.replace(task, model=Opaque))
    assert not (tmp_path / "work").exists()  # refused before it is trained
    trained = train_fine(task)
    draws = trained.export_with["last_layer_draws"]
    assert draws.shape == (8, len(trained.model.last_weights())) and draws.std(axis=0).min() > 0

"""AutoInt, encoded, trained and exported by the pipeline's own functions, scores raw rows as it scores encoded ones."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

from serving.export.ranker import export_ranker
from serving.offline.scoring import score_examples
from tests.builders.parity import Worker, raw_tables
from tests.builders.small_ranker import offline_logits, random_requests


@pytest.fixture(scope="module")
def encoded_dir(raw_examples_dir, encoding, tmp_path_factory):
    from features.encoding.encode import encode_examples

    directory = tmp_path_factory.mktemp("encoded")
    encoding.save(directory / "encoding")
    encode_examples(raw_examples_dir, None, directory / "encoding", directory / "examples")
    return directory / "examples"


@pytest.fixture(scope="module")
def autoint(encoding, encoded_dir, tmp_path_factory):
    from models.autoint.model import AutoInt, AutoIntConfig
    from models.inputs.input_pipeline import InputConfig
    from models.training.loop import TrainingConfig, train
    from models.training.optimizers import OptimizerConfig

    config = TrainingConfig(
        epochs=4,
        seed=1,
        steps_per_execution=1,
        input=InputConfig(batch_size=128),
        optimizer=OptimizerConfig(learning_rate=0.02),
    )
    autoint_config = AutoIntConfig(variant="reference", num_layers=2, head_dim=8, deep_layers=(16,))
    model, _ = train(
        lambda: AutoInt(encoding, autoint_config), encoding, encoded_dir, config, tmp_path_factory.mktemp("work")
    )
    return model


@pytest.fixture(scope="module")
def autoint_dir(autoint, encoding, tmp_path_factory):
    return export_ranker(autoint, encoding, tmp_path_factory.mktemp("autoint") / "1", random_requests(3))


@pytest.fixture(scope="module")
def worker(autoint_dir, tmp_path_factory):
    worker = Worker(autoint_dir, tmp_path_factory.mktemp("exchange"))
    yield worker
    worker.close()


@pytest.mark.slow
def test_a_split_scores_as_the_encoded_split(autoint, autoint_dir, encoding, encoded_dir, raw_examples_dir):
    from models.inputs.input_pipeline import InputConfig, make_dataset
    from models.training.loop import predict

    labels, logits = predict(autoint, make_dataset(encoded_dir, "eval", encoding, InputConfig(batch_size=64)))
    table = score_examples(autoint_dir, raw_examples_dir, "eval")
    expected = 1 / (1 + np.exp(-logits.astype(np.float64)))
    np.testing.assert_array_equal(table["label"].to_numpy(), labels)
    np.testing.assert_allclose(table["score"].to_numpy(), expected, rtol=0, atol=1e-6)
    assert np.std(expected) > 0.02  # the scores differ, so that parity says something


@pytest.mark.slow
@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(table=raw_tables())
def test_any_values_score_alike_in_a_new_process(worker, autoint, encoding, table):
    expected = 1 / (1 + np.exp(-offline_logits(autoint, encoding, table).astype(np.float64)))
    assert np.isfinite(expected).all()
    np.testing.assert_allclose(worker.score(table)["score"], expected, rtol=0, atol=1e-6)

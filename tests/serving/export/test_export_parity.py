"""Raw rows through the SavedModel, loaded in a new process, score as encoded rows through the trained model."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

from tests.builders.parity import Worker, raw_tables
from tests.builders.small_ranker import SPEC, offline_logits, random_requests


@pytest.fixture(scope="module")
def worker(base_dir, tmp_path_factory):
    worker = Worker(base_dir, tmp_path_factory.mktemp("exchange"))
    yield worker
    worker.close()


def assert_parity(worker, model, encoding, table):
    expected = offline_logits(model, encoding, table)
    received = worker.score(table)
    assert received["score"].shape == received["logit"].shape == expected.shape
    np.testing.assert_allclose(received["logit"], expected, rtol=1e-6, atol=1e-6)
    probability = 1 / (1 + np.exp(-expected.astype(np.float64)))
    np.testing.assert_allclose(received["score"], probability, rtol=0, atol=1e-6)


def test_real_rows_score_alike(worker, model, encoding):
    table = random_requests(200, seed=11)
    assert_parity(worker, model, encoding, table)
    assert np.std(worker.score(table)["score"]) > 0.05  # the scores differ, so that parity says something


@settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck))
@given(table=raw_tables())
def test_any_values_score_alike(worker, model, encoding, table):
    assert_parity(worker, model, encoding, table)


@pytest.mark.parametrize("feature", SPEC.features, ids=lambda feature: feature.name)
def test_every_feature_reaches_the_scores(saved, feature):
    """A feature that the signature drops would pass any parity in which it is missing."""
    from serving.requests.tensors import tensors_from_table

    tensors = tensors_from_table(SPEC, random_requests(30, seed=4))
    before = saved.run("rank_requests", tensors)["logit"]
    shuffled = dict(tensors)
    shuffled[feature.name] = np.roll(tensors[feature.name], 1, axis=0)
    assert not np.allclose(before, saved.run("rank_requests", shuffled)["logit"], atol=1e-3)

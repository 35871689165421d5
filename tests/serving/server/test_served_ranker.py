"""A real export, served: every warm-up request is answered as the export itself computes it."""

import numpy as np
import pytest
import tensorflow as tf

from serving.server.versions.model_manager import AVAILABLE
from tests.serving.export.warmup_file import warmup_requests
from tests.serving.server.serving_case import serving


@pytest.fixture(scope="module")
def running(base_dir):
    with serving(models={"shop": str(base_dir)}) as found:
        yield found


def test_an_export_is_warmed_up_and_served(running):
    assert running.states("shop") == {3: AVAILABLE}
    page = running.server.core.metrics.render().decode()
    assert ':tensorflow:serving:model_warmup_records_read{model_path="' in page


def test_answers_over_the_wire_are_those_of_the_export(running, saved):
    module = tf.saved_model.load(saved.directory)
    signatures, seen = set(), []
    for request, inputs in warmup_requests(saved.directory):
        request.model_spec.name = "shop"
        answer = running.prediction.Predict(request, timeout=60)
        expected = module.signatures[request.model_spec.signature_name](**inputs)
        assert set(answer.outputs) == set(expected)
        for name, proto in answer.outputs.items():
            found = tf.make_ndarray(proto)
            assert found.shape == expected[name].shape and found.dtype == expected[name].numpy().dtype
            if found.dtype.kind == "f":
                np.testing.assert_allclose(found, expected[name].numpy(), rtol=0, atol=1e-6)
            else:
                assert found.tolist() == expected[name].numpy().tolist()
        seen += tf.make_ndarray(answer.outputs["score"]).ravel().tolist()
        signatures.add(answer.model_spec.signature_name)
    assert "serving_default" in signatures and np.std(seen) > 0.01

"""What the server answers is what the model computes, whatever the type, the shape and the encoding."""

import shutil

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    inference_pb2,
    regression_pb2,
)

from tests.serving.server.serving_case import floats, predict_request, refused, serving
from tests.serving.server.test_tensor_protos import assert_same, values
from tests.serving.server.toy_models import IDENTITIES

CLASSIFY, REGRESS = "tensorflow/serving/classify", "tensorflow/serving/regress"


@pytest.mark.parametrize("signature", IDENTITIES)
@pytest.mark.parametrize("shape", [(), (0,), (3,), (40,), (2, 0), (2, 3, 2)], ids=str)
def test_every_type_comes_back_as_it_was_sent(toy_server, signature, shape):
    dtype = tf.as_dtype(IDENTITIES[signature])
    sent = values(dtype, shape, seed=len(shape))
    answer = toy_server.prediction.Predict(
        predict_request("kinds", signature, x=tf.make_tensor_proto(sent, dtype)), timeout=60
    )
    found = tf.make_ndarray(answer.outputs["y"])
    assert not answer.outputs["y"].tensor_content
    if dtype == tf.string:
        assert found.shape == sent.shape and found.ravel().tolist() == sent.ravel().tolist()
    else:
        assert_same(found, sent)


def test_the_answer_says_which_model_version_and_signature_answered(toy_server):
    answer = toy_server.prediction.Predict(predict_request("half_plus_two", x=floats(1, 2)))
    spec = answer.model_spec
    assert (spec.name, spec.version.value, spec.signature_name) == ("half_plus_two", 2, "serving_default")
    assert spec.WhichOneof("version_choice") == "version"
    np.testing.assert_array_equal(tf.make_ndarray(answer.outputs["y"]), [3.5, 4.0])


def test_an_output_filter_leaves_the_other_outputs_out(toy_server):
    request = predict_request("kinds", "rows", id=np.array([1, 2]), x=np.ones([2, 3], np.float32))
    assert set(toy_server.prediction.Predict(request).outputs) == {"score", "twice"}
    request.output_filter.append("twice")
    answer = toy_server.prediction.Predict(request)
    assert set(answer.outputs) == {"twice"} and list(answer.outputs["twice"].int64_val) == [2, 4]


def test_a_tensor_under_two_names_and_a_signature_without_inputs(toy_server):
    both = toy_server.prediction.Predict(predict_request("kinds", "as_bytes", text=np.array([b"a\0", b""], object)))
    assert list(both.outputs["raw_bytes"].string_val) == list(both.outputs["text"].string_val) == [b"a\0", b""]
    alone = toy_server.prediction.Predict(predict_request("kinds", "no_inputs"))
    assert list(alone.outputs["one"].float_val) == [1.0]


def test_answers_are_raw_bytes_where_that_is_asked_for(toys):
    with serving(models={"kinds": str(toys["kinds"])}, answer_tensor_content=True) as running:
        for signature in IDENTITIES:
            dtype = tf.as_dtype(IDENTITIES[signature])
            sent = values(dtype, (5,), seed=3)
            request = predict_request("kinds", signature, x=tf.make_tensor_proto(sent, dtype))
            proto = running.prediction.Predict(request).outputs["y"]
            assert proto.tensor_content
            found = tf.io.parse_tensor(proto.SerializeToString(), dtype).numpy()
            assert_same(found, sent)


def test_inputs_with_a_default_may_be_left_out(toys, tmp_path):
    folder = tmp_path / "kinds" / "1"
    shutil.copytree(toys["kinds"] / "1", folder)
    saved = saved_model_pb2.SavedModel.FromString((folder / "saved_model.pb").read_bytes())
    defaults = saved.meta_graphs[0].signature_def["add"].defaults
    defaults["b"].CopyFrom(tf.make_tensor_proto(floats(10, 20)))
    (folder / "saved_model.pb").write_bytes(saved.SerializeToString())
    with serving(models={"kinds": str(tmp_path / "kinds")}) as running:
        answer = running.prediction.Predict(predict_request("kinds", "add", a=floats(1, 2)))
        assert list(answer.outputs["sum"].float_val) == [11.0, 22.0]
        answer = running.prediction.Predict(predict_request("kinds", "add", a=floats(1, 2), b=floats(0, 0)))
        assert list(answer.outputs["sum"].float_val) == [1.0, 2.0]
        assert refused(running.prediction.Predict, predict_request("kinds", "add", b=floats(1, 2))) == (
            "INVALID_ARGUMENT",
            "Signature input alias: a(feed name: add_a:0) not found in request and no default value provided. Inputs "
            "expected to be in the request {b}, or default input alias set: b",
        )


def example(value: float | None):
    found = tf.train.Example()
    if value is not None:
        found.features.feature["x"].float_list.value.append(value)
    return found


INPUT = {"example_list": {"examples": [example(2.0), example(4.0)]}}
#: The same by what every example begins with; of a value that stands twice the last one counts.
WITH_CONTEXT = {"example_list_with_context": {"context": example(2.0), "examples": [example(None), example(4.0)]}}


@pytest.mark.parametrize("sent", [INPUT, WITH_CONTEXT], ids=["alone", "with context"])
@pytest.mark.parametrize("signature", ["regress_x_to_y", "regress_flat"])
def test_regress(toy_server, signature, sent):
    request = regression_pb2.RegressionRequest(
        model_spec={"name": "half_plus_two", "signature_name": signature}, input=sent
    )
    answer = toy_server.prediction.Regress(request)
    assert [each.value for each in answer.result.regressions] == [4.0, 5.0]
    spec = answer.model_spec
    assert (spec.name, spec.version.value, spec.signature_name) == ("half_plus_two", 2, signature)


def test_classify(toy_server):
    request = classification_pb2.ClassificationRequest(
        model_spec={"name": "half_plus_two", "signature_name": "classify_labelled"}, input=INPUT
    )
    answer = toy_server.prediction.Classify(request)
    found = [[(one.label, one.score) for one in each.classes] for each in answer.result.classifications]
    assert found == [[("no", -3.0), ("yes", 4.0)], [("no", -4.0), ("yes", 5.0)]]
    request.model_spec.signature_name = "classify_x_to_y"
    unnamed = toy_server.prediction.Classify(request).result.classifications
    assert [[(one.label, one.score) for one in each.classes] for each in unnamed] == [[("", 4.0)], [("", 5.0)]]


def test_multi_inference_answers_each_task_by_one_run(toy_server):
    tasks = [
        {"model_spec": {"name": "half_plus_two", "signature_name": name}, "method_name": method}
        for name, method in (("regress_x_to_y", REGRESS), ("classify_x_to_y", CLASSIFY))
    ]
    answer = toy_server.prediction.MultiInference(inference_pb2.MultiInferenceRequest(tasks=tasks, input=INPUT))
    first, second = answer.results
    assert [each.value for each in first.regression_result.regressions] == [4.0, 5.0]
    assert [each.classes[0].score for each in second.classification_result.classifications] == [4.0, 5.0]
    assert [each.model_spec.signature_name for each in answer.results] == ["regress_x_to_y", "classify_x_to_y"]
    assert {each.model_spec.version.value for each in answer.results} == {2}


def test_metadata_holds_the_signatures(toy_server):
    request = get_model_metadata_pb2.GetModelMetadataRequest(
        model_spec={"name": "half_plus_two"}, metadata_field=["signature_def"]
    )
    answer = toy_server.prediction.GetModelMetadata(request)
    assert (answer.model_spec.name, answer.model_spec.version.value) == ("half_plus_two", 2)
    found = get_model_metadata_pb2.SignatureDefMap()
    assert answer.metadata["signature_def"].Unpack(found)
    default = found.signature_def["serving_default"]
    assert default.inputs["x"].dtype == tf.float32.as_datatype_enum and set(default.outputs) == {"y"}
    core = toy_server.server.core
    assert core.signature_def(predict_request("half_plus_two").model_spec) == default


def test_status_lists_versions_and_does_not_look_at_labels(toy_server):
    request = get_model_status_pb2.GetModelStatusRequest(
        model_spec={"name": "half_plus_two", "version_label": "nonsense"}
    )
    (state,) = toy_server.model.GetModelStatus(request).model_version_status
    assert (state.version, state.state, state.status.error_code, state.status.error_message) == (2, 30, 0, "")


def test_figures_bear_tensorflow_serving_s_names(toy_server):
    toy_server.prediction.Predict(predict_request("half_plus_two", x=floats(1)))
    page = toy_server.server.core.metrics.render().decode()
    assert "# TYPE :tensorflow:serving:request_count counter\n:tensorflow:serving:request_count{" in page
    assert ':tensorflow:serving:request_count{model_name="half_plus_two",status="OK"} ' in page
    latency = ':tensorflow:serving:request_latency_bucket{model_name="half_plus_two",API="Predict",entrypoint="GRPC"'
    assert page.count(latency) == 34 and f'{latency},le="10"}} 0' in page and f'{latency},le="+Inf"}}' in page
    assert ':tensorflow:serving:runtime_latency_count{model_name="half_plus_two",API="Predict",runtime="TF1"}' in page


def test_models_that_are_not_served_are_one_label_of_the_metrics(toy_server):
    for number in range(3):
        refused(toy_server.prediction.Predict, predict_request(f"guess {number}", x=floats(1.0)), timeout=60)
    page = toy_server.server.core.metrics.render().decode()
    assert "guess" not in page
    assert ':tensorflow:serving:request_count{model_name="(unknown)",status="NOT_FOUND"} ' in page
